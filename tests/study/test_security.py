"""Nothing of the source, the file or the patient leaves the server, and nobody gets in by guess."""

import json
import random
import string
import urllib.parse

import pytest

from echodiff.study.secrecy import hash_password, is_password
from echodiff.study.store import set_admin_password

PASSWORD = "a-password-of-the-test"
LEAKS = ("secret", "cyclegan", '"cut"', ".sqlite", "/tmp")


def all_pages(site, phantom, language="en"):
    """Every answer that a reader gets on the whole way, redirects included."""
    answers = []
    person = site.person(language)
    person.client.event_hooks["response"].append(answers.append)
    page = person.enter()
    while 'name="tasks"' in page:
        for address in sorted(
            set(page.split('"')) & {a for a in page.split('"') if "/image/" in a}
        ):
            answers.append(person.client.get(address))
        page = person.rate(page).text
    for place in ("/", "/comments", "/withdraw", "/nothing", "/static/style.css", "/health"):
        answers.append(person.client.get(place))
    return answers


def test_no_answer_tells_the_source_the_file_or_the_patient(site, phantom):
    ((plan,),) = [((site.folder / "plan.json").read_text("utf-8"),)]
    hidden = {image["token"] for image in json.loads(plan)["images"]}
    answers = all_pages(site, phantom)
    assert sum("/image/" in str(answer.url) for answer in answers) >= 9
    for answer in answers:
        if answer.headers.get("content-type") == "image/png":
            continue
        seen = json.dumps(dict(answer.headers)) + str(answer.url) + answer.text
        for leak in (*LEAKS, *hidden, "sd.", "patient-"):
            assert leak not in seen, (leak, answer.url)


def test_images_differ_in_their_pixels_alone(site, phantom):
    images = [a for a in all_pages(site, phantom) if "/image/" in str(a.url)]
    headers = {tuple(sorted(a.headers.items())) for a in images}
    assert len(headers) == 1
    names = {name for name, _ in headers.pop()}
    assert not names & {"etag", "last-modified", "content-disposition", "accept-ranges", "server"}
    assert len({len(str(image.url)) for image in images}) == 1
    assert len({image.content for image in images}) == 9


def test_images_are_for_their_reader_alone(site, phantom):
    person, other = site.person(), site.person()
    (task,) = phantom.tasks_of(person.enter())
    other.enter()
    assert person.client.get(f"/image/{task}.png").status_code == 200
    assert other.client.get(f"/image/{task}.png").status_code == 404
    assert site.client().get(f"/image/{task}.png").status_code == 404


@pytest.mark.parametrize("place", ["/", "/nothing", "/static/style.css", "/admin/login", "/rate"])
def test_every_answer_has_the_security_headers(site, place):
    headers = site.client().get(place).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "cache-control" in headers


def test_pages_have_no_inline_script_or_style(site, phantom):
    for answer in all_pages(site, phantom):
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert "<script>" not in answer.text
            assert "style=" not in answer.text
            assert " on" + "click" not in answer.text


def test_https_cookies_go_nowhere_else(make_site):
    answer = make_site(is_https=True).client().get("/admin/login")
    cookie = answer.headers["set-cookie"].lower()
    assert "secure" in cookie
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "max-age" in answer.headers["strict-transport-security"]


def test_a_form_without_the_token_of_its_session_is_refused(site, phantom):
    person = site.person()
    page = person.enter()
    (task,) = phantom.tasks_of(page)
    for token in ({}, {"csrf": ""}, {"csrf": "x" * 22}, {"csrf": "ж"}):
        answer = person.client.post("/rate", data={"tasks": task, f"score-{task}": "3", **token})
        assert answer.status_code == 403
    stranger = site.client()
    stranger.get("/admin/login")
    assert stranger.post("/admin/login", data={"csrf": phantom.csrf_of(page)}).status_code == 403
    assert site.rows("SELECT count(*) FROM rating") == [(0,)]


def test_a_forged_or_ended_session_is_nobody(site, phantom):
    person = site.person()
    page = person.enter()
    forged = site.client()
    forged.cookies.set("study", person.client.cookies["study"][:-3] + "abc")
    assert "invitation link that you were sent" in forged.get("/rate").text
    from echodiff.study.readers import renew_invitation, revoke_invitation

    renewed = renew_invitation(site.study, person.token)
    assert person.rate(page).status_code == 409
    assert site.client().get(person.link).status_code == 404
    assert site.client().get(f"/invitation/{renewed}").status_code == 200
    revoke_invitation(site.study, person.token)
    assert site.client().get(f"/invitation/{renewed}").status_code == 404


def test_tokens_and_passwords_are_stored_as_hashes(site):
    person = site.person()
    set_admin_password(site.study, PASSWORD)
    stored = (site.folder / "study.sqlite").read_bytes()
    stored += (site.folder / "study.sqlite-wal").read_bytes()
    assert person.link.split("/")[-1].encode() not in stored
    assert PASSWORD.encode() not in stored
    assert is_password(PASSWORD, hash_password(PASSWORD))
    assert not is_password(PASSWORD + " ", hash_password(PASSWORD))
    assert hash_password(PASSWORD) != hash_password(PASSWORD)


def test_guessing_is_stopped(site, phantom):
    set_admin_password(site.study, PASSWORD)
    client = site.client()
    page = client.get("/admin/login").text
    form = {"csrf": phantom.csrf_of(page), "name": "admin", "password": "guess"}
    found = [client.post("/admin/login", data=form).status_code for _ in range(11)]
    assert found == [403] * 10 + [429]
    # The right password waits too, and so do invitations.
    assert client.post("/admin/login", data={**form, "password": PASSWORD}).status_code == 429
    assert client.get("/invitation/" + "a" * 43).status_code == 404


def test_attempts_count_before_the_password_is_hashed(site, phantom, monkeypatch):
    from echodiff.study.web import admin_pages

    client, begun = site.client(), []
    form = {"csrf": phantom.csrf_of(client.get("/admin/login").text), "password": "guess"}

    def slow(*_):
        begun.append(1)
        if len(begun) < 15:  # the next request comes while this one is hashed
            client.post("/admin/login", data=form)

    monkeypatch.setattr(admin_pages, "_login", slow)
    client.post("/admin/login", data=form)
    assert len(begun) == 10


def test_an_ended_session_gets_no_image(site, phantom, monkeypatch):
    from echodiff.study.readers import revoke_invitation
    from echodiff.study.web import site as site_module

    person = site.person()
    (task,) = phantom.tasks_of(person.enter())
    revoke_invitation(site.study, person.token)
    monkeypatch.setattr(site_module, "REMEMBERED_SECONDS", 0)
    assert person.client.get(f"/image/{task}.png").status_code == 404


def test_a_flood_and_a_huge_body_are_refused(make_site, phantom):
    site = make_site(rate=0.5)
    client = site.client()
    found = [client.get("/", headers={"cookie": "study=x"}) for _ in range(20)]
    assert [answer.status_code for answer in found[:3]] == [200] * 3
    refused = [answer for answer in found if answer.status_code == 429]
    assert "What was not shown as saved is not saved." in refused[0].text
    huge = site.client().post("/rate", content=b"x" * 300_000)
    assert huge.status_code == 413
    assert huge.text.startswith("<!doctype html>")


def fuzz(site, phantom, count, seed):
    """Requests that no page of ours makes; returns the statuses."""
    rng = random.Random(seed)
    person = site.person()
    page = person.enter()
    (task,) = phantom.tasks_of(page)
    csrf = phantom.csrf_of(page)
    alphabet = string.printable + "жқ\u0000\ud7ff\U0001f600'\"<>%;&=\\{}"
    places = [
        "/", "/rate", "/consent", "/questionnaire", "/comments", "/withdraw", "/language", "/admin",
        "/admin/login", "/admin/state", "/admin/invite", "/admin/reader/x", "/admin/export.zip",
        "/image/x.png", f"/image/{task}.png", "/captions", "/captions/1", "/captions/1.png",
        "/static/x", "/static/../plan.json", "/invitation/x", "/admin/rows", person.link,
    ]  # fmt: skip
    names = [
        "csrf", "tasks", f"score-{task}", f"text-{task}", f"ms-{task}", f"display-{task}", "agree",
        "language", "gender", "age_band", "weekly_readings", "name", "password", "what", "count",
        "state", "role", "caption", "comment",
    ]  # fmt: skip

    def junk(limit=40):
        return "".join(rng.choice(alphabet) for _ in range(rng.randrange(limit)))

    values = [
        csrf, task, "3", "-1", "1e400", "nan", "[" * 60, '{"zoom": 1e999}', "erase", "9" * 50,
        '{"zoom": ' + "9" * 400 + "}", "\0", "yes", "en",
    ]  # fmt: skip
    statuses = []
    for _ in range(count):
        place = rng.choice(places)
        if rng.random() < 0.3:
            place += "/" + urllib.parse.quote(junk(20))
        if rng.random() < 0.2:
            place += "?" + urllib.parse.quote(junk(), safe="&=;")
        method = rng.choice(["GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
        form = {
            rng.choice(names): rng.choice([junk(), rng.choice(values)])
            for _ in range(rng.randrange(6))
        }
        if rng.random() < 0.7:
            form["csrf"] = csrf
        if place == "/withdraw" or form.get("what") in {"erase", "withdraw"}:
            form.pop("what", None)  # the person shall stay for the rest
        headers = {"accept-language": urllib.parse.quote(junk())}
        if rng.random() < 0.1:
            headers["cookie"] = urllib.parse.quote(junk(), safe="=;")
        body = {} if method in {"GET", "HEAD", "OPTIONS"} else {"data": form}
        if body and rng.random() < 0.2:
            kind = rng.choice(["multipart/form-data; boundary=x", "application/json", junk(8)])
            headers["content-type"] = urllib.parse.quote(kind, safe="/;= ")
            body = {"content": junk().encode("utf-8", "replace")}
        answer = person.client.request(method, place, headers=headers, **body)
        statuses.append(answer.status_code)
        if answer.headers.get("content-type") != "image/png":
            seen = json.dumps(dict(answer.headers)) + answer.text
            for leak in (*LEAKS, "patient-", "Traceback"):
                assert leak not in seen.replace("/secret", ""), (leak, method, place)
    return statuses


def test_fuzzed_requests_get_an_answer_and_no_secret(site, phantom):
    assert max(fuzz(site, phantom, 400, seed=1)) < 500


@pytest.mark.slow
def test_ten_thousand_fuzzed_requests_get_an_answer_and_no_secret(site, phantom):
    statuses = fuzz(site, phantom, 10_000, seed=2)
    assert max(statuses) < 500
    assert statuses.count(200) > 500
