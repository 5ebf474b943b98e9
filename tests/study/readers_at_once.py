"""Readers at once against a running server: raw HTTP, so that the client costs little.

`python readers_at_once.py LINKS.txt` prints JSON: how many ratings were shown as saved, and the
milliseconds of each. A refused connection or an answer that says "not saved" is tried again, as a
person would; the same answer given twice must be stored once.
"""

import http.client
import json
import re
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

QUESTIONNAIRE = {
    "gender": "woman", "age_band": "35-44", "qualification": "MD", "speciality": "cardiologist",
    "experience_years": "10", "graduated_years": "12", "weekly_readings": "40",
}  # fmt: skip


class Connection:
    """One browser: a cookie, a connection that is opened again when it breaks."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port, self.cookie, self.http = host, port, "", None

    def close(self):
        if self.http is not None:
            self.http.close()
        self.http = None

    def ask(self, method, path, fields=None, *, json_answer=False):
        for _ in range(600):
            try:
                return self._ask(method, path, fields, json_answer)
            except (OSError, http.client.HTTPException):
                self.close()
                time.sleep(0.1)
        raise TimeoutError(path)

    def _ask(self, method, path, fields, json_answer):
        if self.http is None:
            self.http = http.client.HTTPConnection(self.host, self.port, timeout=20)
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if json_answer:
            headers["Accept"] = "application/json"
        body = None
        if fields is not None:
            body = urlencode(fields)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        data = answer.read()
        if cookie := answer.getheader("set-cookie"):
            self.cookie = cookie.split(";")[0]
        if answer.status in {302, 303}:
            return self.ask("GET", answer.getheader("location"))
        if answer.status >= 500:
            time.sleep(0.1)
            raise OSError(answer.status)
        return data.decode("utf-8", "replace")


def csrf_of(page):
    return re.search(r'name="csrf" value="([^"]+)"', page).group(1)


def read(link, results, *, pause=0.0):
    """Click through the whole study; results get (task, score, ms) when shown as saved."""
    parts = urlsplit(link)
    browser = Connection(parts.hostname, parts.port)
    page = browser.ask("GET", parts.path)
    page = browser.ask("POST", parts.path, {"csrf": csrf_of(page), "language": "en"})
    page = browser.ask("POST", "/consent", {"csrf": csrf_of(page), "agree": "yes"})
    page = browser.ask("POST", "/questionnaire", {"csrf": csrf_of(page), **QUESTIONNAIRE})
    page = browser.ask("GET", "/rate")
    while found := re.search(r'name="tasks" value="([^"]+)"', page):
        tasks = found.group(1).split()
        for task in tasks:
            browser.ask("GET", f"/image/{task}.png")
        time.sleep(pause)
        score = 1 + int(tasks[0], 16) % 5
        fields = {"csrf": csrf_of(page), "tasks": found.group(1)}
        fields |= {f"score-{task}": score for task in tasks}
        start = time.perf_counter()
        answer = json.loads(browser.ask("POST", "/rate", fields, json_answer=True))
        ms = 1000 * (time.perf_counter() - start)
        if not answer["saved"]:
            raise RuntimeError(answer["error"])
        results.extend((task, score, ms) for task in tasks)
        page = browser.ask("GET", answer["next"])
    browser.close()


def main(links, pause=0.0):
    results, failures = [], []

    def work(link):
        try:
            read(link, results, pause=pause)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(link,)) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"saved": results, "failures": failures}


if __name__ == "__main__":
    given = Path(sys.argv[1]).read_text("utf-8").split()
    sys.stdout.write(
        json.dumps(main(given, float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)) + "\n"
    )
