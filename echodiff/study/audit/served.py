"""What the application tells of an image: address, headers, cookies, page and time to answer.

Simulated readers go through a copy of the study, in this process; the study's own database is not
touched.
"""

import asyncio
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from sqlalchemy import select

from echodiff.progress import ProgressBar
from echodiff.study.audit.detection import Evidence, Value
from echodiff.study.audit.files import measure_name
from echodiff.study.database import Database, default_url
from echodiff.study.models import Image, Task
from echodiff.study.plan import IMAGE_FOLDER, PLAN_FILE
from echodiff.study.readers import invite
from echodiff.study.simulated import Visit, clients, read_study
from echodiff.study.store import OpenStudy, open_study
from echodiff.study.web.application import build_application

NUM_REQUESTS = 3
"""Requests of each image, for the time to answer."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")
_MAX_WORDS = 150
_ROUND = re.compile(r"\d+")
Wrap = Callable[[Any], Any]


@dataclass(frozen=True)
class Showing:
    """One image as the application showed it to one reader."""

    task: str
    page: httpx2.Response
    address: str
    answers: list[httpx2.Response]
    seconds: list[float]


def gather_served(
    folder: Path,
    labels: Mapping[str, str],
    patients: Mapping[str, str],
    *,
    num_readers: int,
    wrap: Wrap = lambda application: application,
) -> list[Evidence]:
    """Show the study to simulated readers, and return what could tell the source.

    labels, patients: of each image token; images without a label are shown but not counted.
    wrap: a middleware around the application, such as that of a proxy.
    """
    with tempfile.TemporaryDirectory(prefix="echodiff-audit-") as place:
        copy = Path(place)
        shutil.copytree(folder / IMAGE_FOLDER, copy / IMAGE_FOLDER)
        shutil.copy2(folder / PLAN_FILE, copy / PLAN_FILE)
        database = Database(default_url(copy))
        try:
            study = open_study(copy, database)
            application = wrap(build_application(study, rate=1e6))
            showings = asyncio.run(_show(study, application, num_readers))
            token_of = _images_of_tasks(study)
        finally:
            database.close()
    showings = [one for one in showings if token_of[one.task] in labels]
    told = [labels[token_of[one.task]] for one in showings]
    hearts = [patients[token_of[one.task]] for one in showings]
    measured: dict[str, list[dict[str, Value]]] = {
        "address": [measure_name(one.address) for one in showings],
        "headers": [describe_headers(one) for one in showings],
        "cookies": [describe_cookies(one) for one in showings],
        "page": describe_pages(showings),
        "response time": [describe_time(one) for one in showings],
    }
    return [Evidence(name, rows, told, hearts) for name, rows in measured.items()]


async def _show(study: OpenStudy, application: Any, num_readers: int) -> list[Showing]:
    showings: list[Showing] = []
    draw = np.random.default_rng(0)

    async def look(visit: Visit) -> None:
        if visit.is_practice:
            return
        for task, address in zip(visit.tasks, visit.images, strict=True):
            answers, seconds = [], []
            for _ in range(NUM_REQUESTS):
                start = time.perf_counter()
                answers.append(await visit.client.get(address))
                seconds.append(time.perf_counter() - start)
            showings.append(Showing(task, visit.page, address, answers, seconds))

    invited = invite(study, num_readers)
    for (_, token), client in ProgressBar(
        list(zip(invited, clients(application, num_readers), strict=True)),
        desc="readers", unit="reader",
    ):  # fmt: skip
        async with client:
            await read_study(client, token, lambda _: int(draw.integers(1, 6)), look=look)
    return showings


def _images_of_tasks(study: OpenStudy) -> dict[str, str]:
    with study.database.read() as connection:
        found = select(Task.token.label("task"), Image.token.label("image")).join(
            Image, Image.id == Task.image_id
        )
        return {row.task: row.image for row in connection.execute(found)}


def describe_headers(showing: Showing) -> dict[str, Value]:
    """Status, names, order and values of the headers of an image."""
    answer = showing.answers[0]
    raw = [name.decode("latin-1").lower() for name, _ in answer.headers.raw]
    names = [name for name in raw if name != "set-cookie"]  # cookies are an attempt of their own
    row: dict[str, Value] = {"status": str(answer.status_code), "names": " ".join(names)}
    for name, value in answer.headers.multi_items():
        if name != "set-cookie":
            row[name] = float(value) if value.isdigit() else value
    row["body"] = float(len(answer.content))
    return row


def describe_cookies(showing: Showing) -> dict[str, Value]:
    """Cookies that come with the image and with its page, without what they hold."""
    row: dict[str, Value] = {}
    for kind, answer in (("image", showing.answers[0]), ("page", showing.page)):
        cookies = answer.headers.get_list("set-cookie")
        row[f"{kind}: number"] = float(len(cookies))
        for cookie in cookies:
            name, _, rest = cookie.partition("=")
            value, _, attributes = rest.partition(";")
            row[f"{kind}: length of {name}"] = float(len(value))
            row[f"{kind}: attributes of {name}"] = _ROUND.sub("N", attributes)
    return row


def describe_pages(showings: list[Showing]) -> list[dict[str, Value]]:
    """Words of the pages, random identifiers and the place in the sequence left out."""
    texts = [_ROUND.sub("N", _TOKEN.sub("TOKEN", one.page.text)) for one in showings]
    words = [set(re.findall(r"[\w./:-]+", text)) for text in texts]
    counts: dict[str, int] = {}
    for some in words:
        for word in some:
            counts[word] = counts.get(word, 0) + 1
    varying = [word for word, count in counts.items() if 1 < count < len(words)]
    varying = sorted(varying, key=lambda word: (abs(counts[word] - len(words) / 2), word))
    kept = varying[:_MAX_WORDS]
    return [
        {"length": float(len(text)), **{f"word {word}": float(word in some) for word in kept}}
        for text, some in zip(texts, words, strict=True)
    ]


def describe_time(showing: Showing) -> dict[str, Value]:
    """Seconds until the image was there."""
    return {
        "first": showing.seconds[0],
        "shortest": min(showing.seconds),
        "median": statistics.median(showing.seconds),
    }
