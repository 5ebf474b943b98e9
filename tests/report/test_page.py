"""The page is whole, carries its pictures, and fetches nothing."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.report.page import (
    Headline,
    ImageSet,
    find_pictures,
    write_report,
)
from echodiff.runs import Run

TEXTS = ["ASD, secundum, 4-chamber position", "normal heart", "LVH <thick> & narrow"]


class Page(HTMLParser):
    """Opens and closes every element, and collects what they name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.links += [
            value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}
        ]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<line .../>` closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write_set(folder: Path, texts: list[str], *, seed: int, size: int = 32) -> Path:
    rng = np.random.default_rng(seed)
    with FramesWriter(folder) as writer:
        for index, text in enumerate(texts):
            image = rng.integers(0, 255, (size, size), dtype=np.uint8)
            writer.add(Frame(file_name=f"{index:06d}.png", text=text), image)
    return folder


def write_generated(folder: Path, texts: list[str], *, seed: int) -> Path:
    write_set(folder, texts, seed=seed)
    score = {
        "value": 0.4, "low": 0.3, "high": 0.5, "n": 3, "n_reference": 3, "features": "tiny",
        "features_sha256": "ab" * 32, "resize": "128", "scale": 1, "real": 0.9, "floor": 0.1,
        "floor_n": 2, "value_at_floor_n": 0.45,
    }  # fmt: skip
    scores = {"mmd_tiny": score, "faithfulness": score, "faithfulness_asd": score}
    metrics = {"scores": scores, "alarms": ["copies: 2"], "notes": ["no Inception"]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    settings = {"scheduler": "dpmpp", "steps": 2, "guidance": 5.0, "resolution": 32}
    job = {
        "weights": "none", "weights_sha256": "cd" * 32, "settings": settings | {"dtype": "float32"},
        "config": {"prompt_file": "two.txt", "num_images": 3, "seed": 0}, "seconds": 6.0,
        "num_drawn": 3,
    }  # fmt: skip
    (folder / "generate.json").write_text(json.dumps(job))
    return folder


@pytest.fixture
def report(tmp_path: Path) -> str:
    real = write_set(tmp_path / "real", TEXTS, seed=0, size=64)
    sets = [
        ImageSet(title="Base", folder=write_generated(tmp_path / "base", TEXTS, seed=1)),
        ImageSet(title="LoRA", folder=write_generated(tmp_path / "lora", TEXTS, seed=2)),
        ImageSet(title="Others", folder=write_generated(tmp_path / "asd", ["ASD"] * 3, seed=3)),
    ]
    run = Run.create(tmp_path / "run", command="train_lora", config={"rank": 8, "seed": 0})
    for step in (10, 20, 30):
        run.log(step, loss=1 / step)
        run.log(step, mmd_tiny=0.4, mmd_tiny_low=0.3, mmd_tiny_high=0.5, mmd_tiny_floor=0.1)
    run.finish(base="tiny", held_out=["a"], num_captioned=40)
    write_report(
        tmp_path / "report.html",
        title="What changed",
        summary="Three sets.",
        sets=sets,
        reference=real,
        reference_text="3 frames",
        run=run,
        headlines=[Headline(label="Gain", value="+45 points", interval="35 to 55", note="Aim.")],
        commands=["python generate.py --out <here>"],
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_is_one_sound_file_that_fetches_nothing(report: str) -> None:
    page = Page(report)
    assert page.links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not re.search(r"(https?:)?//(?!\w*base64)[a-z]", re.sub(r"base64,[^\"]+", "", report))
    assert "@import" not in report
    assert "url(" not in report


def test_real_base_and_lora_stand_side_by_side_for_each_caption(report: str) -> None:
    assert report.count('class="match"') == 3
    assert Page(report).images == 3 * 3 + 4
    assert "LVH &lt;thick&gt; &amp; narrow" in report


def test_numbers_settings_and_warnings_are_there(report: str) -> None:
    for text in (
        "not for diagnosis", "+45 points", "MMD² (tiny)", "0.3 to 0.5", "Base: copies: 2",
        "no Inception.", "ab" * 32, "dpmpp, 2 steps", "6 s, 2000 ms an image", "training loss",
        "--out &lt;here&gt;", "Frames with caption", "Drawn in", "torch 2.", "reference frames",
        "band: 95 % interval; dashed: real vs real",
    ):  # fmt: skip
        assert text in report, text


def test_a_bare_set_makes_a_page_too(tmp_path: Path) -> None:
    real = write_set(tmp_path / "real", ["", ""], seed=0)
    drawn = write_set(tmp_path / "drawn", TEXTS, seed=1)
    write_report(
        tmp_path / "report.html",
        title="One set",
        summary="",
        sets=[ImageSet(title="Generated", folder=drawn)],
        reference=[real / "images" / "000001.png"],
        reference_text="1 frame",
    )
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.images == 2


def test_reference_frames_of_12_bits_are_shown_on_one_scale(tmp_path: Path) -> None:
    real = write_set(tmp_path / "real", TEXTS[:2], seed=0)
    for index, level in enumerate((1000, 4000)):
        deep = np.full((32, 32), level, np.uint16)
        Image.fromarray(deep).save(real / "images" / f"{index:06d}.png")
    write_report(
        tmp_path / "report.html",
        title="Deep frames",
        summary="",
        sets=[ImageSet(title="Drawn", folder=write_set(tmp_path / "drawn", TEXTS[:2], seed=1))],
        reference=real,
        reference_text="2 frames",
    )
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    shown = [read_embedded(link) for link in page.links if not link.startswith("#")]
    levels = [int(image[0, 0]) for image in shown if (image == image[0, 0]).all()]
    assert sorted(levels) == [round(1000 / 4095 * 255), round(4000 / 4095 * 255)]


def read_embedded(link: str) -> NDArray[np.uint8]:
    content = base64.b64decode(link.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_pictures_bring_their_captions(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "real", TEXTS, seed=0)
    assert find_pictures(folder)[2] == (folder / "images" / "000002.png", TEXTS[2])
    assert find_pictures([folder / "images" / "000001.png"]) == [
        (folder / "images" / "000001.png", TEXTS[1])
    ]
