"""`echodiff study audit`: a sound study passes, and each planted leak is named."""

import asyncio
import io
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from echodiff.__main__ import main
from echodiff.study import readers
from echodiff.study.audit import command, served
from echodiff.study.audit.codec import list_coefficients, quantisation, share_on_lattice
from echodiff.study.audit.detection import Evidence, detect
from echodiff.study.database import Database, default_url
from echodiff.study.equality import encode_png, round_trip
from echodiff.study.folder import create_study
from echodiff.study.plan import load_plan
from echodiff.study.store import open_study
from echodiff.study.web.application import build_application


@pytest.fixture(scope="module")
def sound(tmp_path_factory, write_fans):
    """A study of two sources of one look, which differ in size, softness and file type."""
    place = tmp_path_factory.mktemp("audited")
    write_fans(place / "real", 42, seed=1)
    write_fans(place / "gan", 42, seed=2, size=110, softness=2.3, suffix=".jpg", weights="w")
    flags = ["--images", "8", "--shared", "2", "--repeats", "1", "--readers", "3", "--pool", "40"]
    sources = [part for name in ("real", "gan") for part in ("--source", f"{name}={place / name}")]
    assert main(["study", "init", str(place / "study"), *sources, *flags]) == 0
    return place / "study"


@pytest.fixture
def study(sound, tmp_path):
    """A copy to plant something in."""
    shutil.copytree(sound, tmp_path / "study")
    return tmp_path / "study"


class Clock:
    """Time that passes at random, and the same in every run."""

    def __init__(self):
        self.now, self.draw = 0.0, np.random.default_rng(0)

    def perf_counter(self):
        self.now += self.draw.exponential(0.004)
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """What chance decides in the application is the same in every run: identifiers and times. A
    twentieth of all audits of sound studies may be flagged."""
    clock, names = Clock(), np.random.default_rng(1)
    monkeypatch.setattr(served, "time", clock)
    monkeypatch.setattr(readers, "new_identifier", lambda: names.bytes(12).hex())
    return clock


def audit(study, *flags):
    """Exit status, and what told the source."""
    status = main(["study", "audit", str(study), *flags])
    result = json.loads((study / "audit.json").read_text("utf-8"))
    assert (status == 1) == bool(result["told_by"]) == (not result["passed"])
    return status, result


def generated(study):
    """Files of the generated images."""
    return [image.file for image in load_plan(study).images if image.source == "gan"]


def change_pixels(study, change):
    for path in generated(study):
        path.write_bytes(encode_png(change(np.asarray(Image.open(path)).copy())))


def test_a_sound_study_passes_and_says_with_what_numbers(sound, clock, capsys):
    status, result = audit(sound, "--readers", "4")
    assert status == 0
    assert "passed: nothing but the content tells the source" in capsys.readouterr().out
    names = [one["name"] for one in result["attempts"]]
    assert names == ["file name", "length", "dimensions", "metadata", "grey range", "tone",
                     "marks", "codec", "content", "order", "address", "headers", "cookies",
                     "page", "response time"]  # fmt: skip
    by_name = {one["name"]: one for one in result["attempts"]}
    for name in ("length", "dimensions", "metadata", "headers", "cookies"):
        assert (by_name[name]["auc"], by_name[name]["p"]) == (0.5, 1.0)
    assert by_name["codec"]["num_images"] == 80
    assert by_name["headers"]["num_images"] == 4 * 18
    assert all(one["low"] <= 0.5 <= one["high"] for one in result["attempts"] if one["is_gated"])
    assert len(result["study_sha256"]) == 64


def plant_length(study):
    for path in generated(study):
        path.write_bytes(path.read_bytes() + b"\0")


def plant_time(study):
    for path in generated(study):
        os.utime(path, (10**9 + 1, 10**9 + 1))


def plant_metadata(study):
    # Of the same length: a chunk in all files, and another text in it.
    for image in load_plan(study).images:
        told = PngInfo()
        told.add_text("Software", "gan" if image.source == "gan" else "GE!")
        buffer = io.BytesIO()
        Image.open(image.file).save(buffer, "PNG", compress_level=0, pnginfo=told)
        image.file.write_bytes(buffer.getvalue())


def plant_size(study):
    change_pixels(study, lambda grey: grey.T[: grey.shape[0] - 8])


def plant_grey_range(study):
    change_pixels(study, lambda grey: np.minimum(grey, 235))


def plant_tone(study):
    change_pixels(
        study, lambda grey: round_trip((255 * (grey / 255.0) ** 1.3).astype(np.uint8), 90)
    )


def plant_mark(study):
    def mark(grey):
        grey[3:6, 3:9] = 200
        return grey

    change_pixels(study, mark)


def plant_codec(study):
    change_pixels(study, lambda grey: round_trip(grey, 70))


def plant_shifted_grid(study):
    change_pixels(study, lambda grey: np.roll(round_trip(np.roll(grey, 3, 1), 70), -3, 1))


def plant_order(study):
    values = json.loads((study / "plan.json").read_text("utf-8"))
    source = {image["token"]: image["source"] for image in values["images"]}
    for sequence in values["sequences"]:
        rated = [task for task in sequence if task["kind"] != "practice"]
        # The real ones mostly first.
        rated.sort(key=lambda task: source[task["image_token"]] != "real")
        sequence[:] = [task for task in sequence if task["kind"] == "practice"] + rated
    (study / "plan.json").write_text(json.dumps(values), encoding="utf-8")


def plant_name(study):
    values = json.loads((study / "plan.json").read_text("utf-8"))
    new = {image["token"]: f"{image['source'][0]}-{image['token']}" for image in values["images"]}
    for image in values["images"]:
        (study / "images" / image["file"]).rename(study / "images" / f"{new[image['token']]}.png")
        image["token"] = new[image["token"]]
        image["file"] = f"{image['token']}.png"
    for task in [task for sequence in values["sequences"] for task in sequence]:
        task["image_token"] = new[task["image_token"]]
    (study / "plan.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("plant", "told_by"),
    [
        (plant_length, "length"), (plant_time, "length"), (plant_metadata, "metadata"),
        (plant_size, "dimensions"), (plant_grey_range, "grey range"), (plant_tone, "tone"),
        (plant_mark, "marks"), (plant_codec, "codec"), (plant_shifted_grid, "codec"),
        (plant_order, "order"), (plant_name, "file name"),
    ],
)  # fmt: skip
def test_a_leak_in_the_study_folder_is_named(study, plant, told_by, capsys):
    plant(study)
    status, result = audit(study, "--readers", "0")
    assert status == 1
    assert told_by in result["told_by"]
    assert f"the source can be told by: {result['told_by'][0]}" in capsys.readouterr().out


class Leaking:
    """Around the application: changes what is sent for the images of one source."""

    def __init__(self, application, study, how, clock):
        self.application, self.how, self.clock = application, how, clock
        files = {image.file.read_bytes(): image.source for image in load_plan(study).images}
        self.source_of = files

    async def __call__(self, scope, receive, send):
        messages = []

        async def keep(message):
            messages.append(message)

        await self.application(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages)
        is_generated = self.source_of.get(body) == "gan"
        for message in messages:
            if message["type"] == "http.response.start" and is_generated:
                message["headers"] = [*message["headers"], *self.how.get("headers", [])]
            if is_generated and "seconds" in self.how:
                self.clock.now += self.how["seconds"]
            await send(message)


@pytest.mark.parametrize(
    ("how", "told_by"),
    [
        ({"headers": [(b"x-model", b"gan")]}, "headers"),
        ({"headers": [(b"etag", b'"1"')]}, "headers"),
        ({"headers": [(b"set-cookie", b"seen=1; Path=/")]}, "cookies"),
        ({"seconds": 0.02}, "response time"),
    ],
)
def test_a_leak_of_the_server_is_named(study, how, told_by, clock, monkeypatch):
    wrapped = served.build_application
    monkeypatch.setattr(
        served, "build_application",
        lambda *args, **options: Leaking(wrapped(*args, **options), study, how, clock),
    )  # fmt: skip
    monkeypatch.setattr(command, "gather_images", lambda *args: [])
    status, result = audit(study, "--readers", "4")
    assert status == 1
    assert result["told_by"] == [told_by]


@pytest.mark.parametrize("told_by", ["address", "page"])
def test_a_leak_of_the_page_is_named(study, told_by, clock, monkeypatch):
    plan = load_plan(study)
    source_of = {image.file.read_bytes(): image.source for image in plan.images}
    shown = served._show

    class Page:
        def __init__(self, page, text):
            self.text, self.headers = text, page.headers

    async def show(*args):
        leaked = []
        for one in await shown(*args):
            name = source_of[one.answers[0].content]
            address = f"/image/{name}-{one.task}.png" if told_by == "address" else one.address
            text = one.page.text + (f'<p class="{name}">' if told_by == "page" else "")
            leaked.append(served.Showing(one.task, Page(one.page, text), address, one.answers,
                                         one.seconds))  # fmt: skip
        return leaked

    monkeypatch.setattr(served, "_show", show)
    monkeypatch.setattr(command, "gather_images", lambda *args: [])
    status, result = audit(study, "--readers", "4")
    assert status == 1
    assert result["told_by"] == [told_by]


def test_too_few_images_are_refused(tmp_path, write_fans, capsys):
    for seed, name in enumerate(("a", "b")):
        write_fans(tmp_path / name, 8, seed=seed)
    sources = [f"--source={name}={tmp_path / name}" for name in ("a", "b")]
    flags = ["--images", "3", "--shared", "0", "--repeats", "0", "--readers", "1"]
    assert main(["study", "init", str(tmp_path / "s"), *sources, *flags]) == 0
    capsys.readouterr()
    assert main(["study", "audit", str(tmp_path / "s")]) == 2
    assert "needs 8 images of each source; there are 7 of a, 7 of b" in capsys.readouterr().err
    assert not (tmp_path / "s" / "audit.json").exists()


def test_permutations_keep_false_alarms_at_their_level():
    generator = np.random.default_rng(0)
    hits, count = 0, 60
    for draw in range(count):
        labels = ["a", "b", "c"] * 12
        rows = [{"x": float(generator.normal()), "y": str(generator.integers(4))} for _ in labels]
        patients = [place // 3 for place in range(len(labels))]
        found = detect(Evidence("x", rows, labels, patients), level=0.95,
                       generator=np.random.default_rng(draw))  # fmt: skip
        hits += found.p <= 0.1
    assert hits / count < 0.2


def test_the_lattice_of_a_round_trip_is_found_and_no_other():
    grey = np.random.default_rng(0).normal(120, 30, (64, 64)).clip(1, 254).astype(np.uint8)
    coefficients = list_coefficients(round_trip(grey, 80))
    assert share_on_lattice(coefficients, 80) > 0.95
    assert share_on_lattice(coefficients, 70) < 0.6
    assert quantisation(50)[0, 0] == 16


def test_the_image_of_a_task_is_the_one_to_rate_and_not_the_one_beside_it(phantom, tmp_path):
    """A paired design of several images on a page."""
    plan = phantom.make_plan(
        tmp_path / "made", practice=0, readers=1, design="diagnosis", images_per_page=2,
        diagnoses=("normal", "lv_hypertrophy"),
    )  # fmt: skip
    companion = plan.images[-1].token
    plan.sequences[0][:] = [
        replace(task, condition="with", companion_token=companion) for task in plan.sequences[0]
    ]
    create_study(tmp_path / "study", plan)
    database = Database(default_url(tmp_path / "study"))
    opened = open_study(tmp_path / "study", database)
    shown = asyncio.run(served._show(opened, build_application(opened), 1))
    database.close()
    assert [one.address for one in shown] == [f"/image/{one.task}.png" for one in shown]
    assert len(shown) == 8
