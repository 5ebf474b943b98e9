"""A small study of phantom frames: the plan, its folder, and a reader that clicks through it."""

import hashlib
import html
import io
import re
import secrets

import numpy as np
from PIL import Image

from echodiff.study.folder import create_study
from echodiff.study.plan import PlannedImage, PlannedTask, StudyConfig, StudyPlan

SOURCES = ("real", "cyclegan", "cut", "sd")
QUESTIONNAIRE = {
    "gender": "woman", "age_band": "35-44", "qualification": "врач высшей категории",
    "speciality": "cardiologist", "experience_years": "10.5", "graduated_years": "12",
    "weekly_readings": "40",
}  # fmt: skip


def write_png(path, seed, size):
    image = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=0)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def make_plan(folder, *, per_source=2, readers=3, practice=1, size=32, **settings):
    """A plan with its own images; readers have the same images in rotated order."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    wanted = [("main", source) for source in SOURCES for _ in range(per_source)]
    wanted += [("practice", "real")] * practice + [("companion", "sd")]
    for number, (pool, source) in enumerate(wanted):
        path = folder / f"frame-{number}.png"
        digest = write_png(path, number, size)
        images.append(
            PlannedImage(
                token=secrets.token_hex(10),
                file=path,
                sha256=digest,
                source=source,
                origin=f"/secret/{source}/{number}.png",
                patient=f"patient-{number}",
                pool=pool,
                truth="lv_hypertrophy" if number % 2 else "normal",
            )
        )
    first = [
        PlannedTask(image_token=i.token, kind="practice") for i in images if i.pool == "practice"
    ]
    main = [PlannedTask(image_token=i.token, kind="main") for i in images if i.pool == "main"]
    sequences = [[*first, *main[n % len(main) :], *main[: n % len(main)]] for n in range(readers)]
    settings = {"name": "Study of hearts", "sources": SOURCES} | settings
    return StudyPlan(config=StudyConfig(**settings), images=images, sequences=sequences)


def make_study(tmp_path, **settings):
    folder = tmp_path / "study"
    create_study(folder, make_plan(tmp_path / "made", **settings))
    return folder


def csrf_of(page):
    return re.search(r'name="csrf" value="([^"]+)"', page).group(1)


def tasks_of(page):
    return re.search(r'name="tasks" value="([^"]*)"', page).group(1).split()


class Person:
    """A reader behind an HTTP client (starlette's, or httpx2's against a real server)."""

    def __init__(self, client, link, language="en"):
        self.client, self.link, self.language = client, link, language

    def post(self, path, page, **fields):
        return self.client.post(path, data={"csrf": csrf_of(page), **fields})

    def begin(self):
        page = self.client.get(self.link).text
        return self.post(self.link, page, language=self.language).text

    def enter(self):
        page = self.begin()
        page = self.post("/consent", page, agree="yes").text
        return self.post("/questionnaire", page, **QUESTIONNAIRE).text

    def rate(self, page, score=3, **fields):
        tasks = tasks_of(page)
        answers = {f"score-{task}": str(score) for task in tasks}
        answers |= {f"{name}-{task}": value for task in tasks for name, value in fields.items()}
        return self.post("/rate", page, tasks=" ".join(tasks), **answers)

    def finish(self, page, score=3):
        while "/comments" not in page or 'name="comment"' not in page:
            answer = self.rate(page, score)
            assert answer.status_code == 200, answer.text
            page = answer.text
        return self.post("/comments", page, comment="").text


def visible(page):
    """The text of a page."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page))
