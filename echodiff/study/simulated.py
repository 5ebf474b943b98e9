"""A reader who walks through the application by itself, as a browser without JavaScript does."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from html.parser import HTMLParser
from typing import NamedTuple

import httpx2

Score = Callable[[str], int]
"""Score 1..5 of a task, by its token."""
Look = Callable[["Visit"], Awaitable[None]]
ANSWERS = {
    "gender": "", "age_band": "35-44", "qualification": "simulated", "speciality": "other",
    "experience_years": "10", "graduated_years": "12", "weekly_readings": "20",
    "name": "Simulated Reader", "birth_date": "1985-01-01",
}  # fmt: skip
"""Answers to the questionnaire; an application takes those that it asks for."""
MAX_PAGES = 5000


class Visit(NamedTuple):
    """One page of the rating."""

    client: httpx2.AsyncClient
    page: httpx2.Response
    images: list[str]
    """Address of the image of each task, as the page spells it; not of those beside them."""
    tasks: list[str]
    """Tokens of the tasks."""
    is_practice: bool


class Page(HTMLParser):
    """Fields of a page, and its images that are to be rated."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.images: list[str] = []
        self.choices: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "img" and found.get("class") == "main":
            self.images.append(found.get("src", ""))
        if tag == "input" and found.get("type") == "radio":
            self.choices.setdefault(found.get("name", ""), []).append(found.get("value", ""))
        elif tag == "input":
            self.fields.setdefault(found.get("name", ""), found.get("value", ""))


async def read_study(
    client: httpx2.AsyncClient,
    invitation: str,
    score: Score,
    *,
    language: str = "en",
    answers: Mapping[str, str] | None = None,
    look: Look | None = None,
) -> int:
    """Go from the invitation to the thanks, and return the number of images that were rated.

    look: called with every page before it is rated. RuntimeError where a page is not as expected.
    """
    await _post(client, f"/invitation/{invitation}", language=language)
    await _post(client, "/consent", agree="yes")
    await _post(client, "/questionnaire", **(ANSWERS | dict(answers or {})))
    num_rated = 0
    for _ in range(MAX_PAGES):
        page = await client.get("/rate")
        if page.status_code in {302, 303}:
            await _post(client, "/comments", comment="")
            return num_rated
        _expect(page, 200)
        parsed = Page(page.text)
        tasks = parsed.fields.get("tasks", "").split()
        if not tasks:
            raise RuntimeError(f"a rating page without images: {_title(page)}")
        is_practice = re.search(r'class="notice"', page.text) is not None
        if look is not None:
            await look(Visit(client, page, parsed.images, tasks, is_practice))
        form = {"csrf": parsed.fields["csrf"], "tasks": " ".join(tasks)}
        for task in tasks:
            form |= {f"score-{task}": str(score(task)), f"ms-{task}": "4000"}
            if options := parsed.choices.get(f"diagnosis-{task}"):
                form[f"diagnosis-{task}"] = options[score(task) % len(options)]
        _expect(await client.post("/rate", data=form), 303)
        num_rated += 0 if is_practice else len(tasks)
    raise RuntimeError("the rating does not end")


def clients(application: object, count: int) -> Sequence[httpx2.AsyncClient]:
    """Browsers, each with its own cookies, that reach an ASGI application in this process."""
    transport = httpx2.ASGITransport(app=application)  # type: ignore[arg-type]
    return [httpx2.AsyncClient(transport=transport, base_url="http://study.invalid")
            for _ in range(count)]  # fmt: skip


async def _post(client: httpx2.AsyncClient, path: str, **fields: str) -> None:
    page = await client.get(path)
    _expect(page, 200)
    form = {"csrf": Page(page.text).fields.get("csrf", ""), **fields}
    _expect(await client.post(path, data=form), 303)


def _expect(response: httpx2.Response, status: int) -> None:
    if response.status_code != status:
        method, path = response.request.method, response.request.url.path
        # The path of an invitation is a secret.
        place = re.sub(r"(?<=/invitation/).*", "...", path)
        raise RuntimeError(f"{method} {place}: {response.status_code}, {_title(response)}")


def _title(response: httpx2.Response) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", response.text, re.DOTALL)
    return found[1].strip() if found else response.text[:80]
