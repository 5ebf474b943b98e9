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

from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.report.cards import Card
from echodiff.report.page import ImageSet, write_report
from echodiff.report.pictures import Picture, find_pictures
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


def write_set(
    folder: Path, texts: list[str], *, seed: int, size: int = 32, source: str | None = None
) -> Path:
    rng = np.random.default_rng(seed)
    with FramesWriter(folder) as writer:
        for index, text in enumerate(texts):
            image = rng.integers(0, 255, (size, size), dtype=np.uint8)
            writer.add(Frame(file_name=f"{index:06d}.png", text=text, source=source), image)
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
        verdict="All is well.",
        cards=[Card(label="Gain", value="+45 points", interval="35 to 55", note="x", is_good=True)],
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
    assert Page(report).images == 3 * 3 + 4 * 3
    assert "LVH &lt;thick&gt; &amp; narrow" in report


def test_numbers_settings_and_warnings_are_there(report: str) -> None:
    for text in (
        "not for diagnosis", "+45 points", "MMD² (tiny)", "0.3 to 0.5", "Base: copies: 2",
        "no Inception.", "ab" * 32, "dpmpp, 2 steps", "6 s, 2000 ms an image", "training loss",
        "--out &lt;here&gt;", "Frames with caption", "Drawn in", "torch 2.", "reference frames",
        "band: 95 % interval; dashed: held-out frames against others", "✓ Target reached",
        "All is well.",
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
    assert page.images == 1 + 3


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
    assert set(levels) == {round(1000 / 4095 * 255), round(4000 / 4095 * 255)}


def read_embedded(link: str) -> NDArray[np.uint8]:
    content = base64.b64decode(link.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_pictures_bring_their_captions(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "real", TEXTS, seed=0)
    assert find_pictures(folder)[2] == Picture(folder / "images" / "000002.png", TEXTS[2])
    assert find_pictures([folder / "images" / "000001.png"]) == [
        Picture(folder / "images" / "000001.png", TEXTS[1])
    ]


# --- The first page -----------------------------------------------------------------------------


def write_one(tmp_path: Path, *, source: str | None = None, **metrics: object) -> str:
    """The page of one generated set with these fields in its metrics.json."""
    real = write_set(tmp_path / "real", TEXTS, seed=0, source=source)
    drawn = write_set(tmp_path / "drawn", TEXTS, seed=1)
    (drawn / "metrics.json").write_text(json.dumps(metrics))
    write_report(
        tmp_path / "report.html",
        title="One set",
        summary="Three images.",
        sets=[ImageSet(title="Generated", folder=drawn)],
        reference=real,
        reference_text="3 frames",
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_alarm_names_the_images_to_look_at_and_shows_them(tmp_path: Path) -> None:
    score = {"value": 0.5, "low": None, "high": None, "n": 3, "n_reference": 3}
    report = write_one(
        tmp_path,
        scores={"sector_drift": score | {"frames": [0, 2, 7]}},
        alarms=["sector: 2 of 3 generated frames have a sector unlike any", "copies: 2"],
    )
    assert "Look at 000000, 000002</summary>" in report  # row 7 is none of the set
    assert report.count("<figcaption>000000</figcaption>") == 1
    assert report.count("▲ Alarm.") == 2
    assert "2 alarms below." in report


def test_broken_hearts_come_before_all_other_images_with_the_reason(tmp_path: Path) -> None:
    fault = {"criterion": "atrial_septum", "reason": "atrial septum <open>", "box": [8, 16, 16, 32]}
    entry = {"file_name": "images/000001.png", "faults": [fault]}
    report = write_one(
        tmp_path, scores={}, anatomy={"broken": [entry | {"row": 1}, entry | {"row": 9}], "num": 3}
    )
    assert "1 of 3 images fail a criterion of anatomy" in report
    assert "000001: atrial septum &lt;open&gt;" in report
    assert report.index("Broken hearts") < report.index("Sets at the same scale")


def test_a_damaged_record_of_anatomy_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json: anatomy: 'broken' must be"):
        write_one(tmp_path, scores={}, anatomy={"broken": 3})


def test_a_simulated_reference_is_called_so(tmp_path: Path) -> None:
    report = write_one(tmp_path / "a", source="echodiff phantom")
    assert "Reference (simulated)" in report
    assert "3 frames (simulated)" in report
    assert "simulated)" not in write_one(tmp_path / "b")


def test_tables_have_headers_alts_are_short_and_grids_fit_a_phone(report: str) -> None:
    assert not re.search(r"<th(?![^>]* scope=)", report.replace("<thead", ""))
    assert max(map(len, re.findall(r' alt="([^"]*)"', report))) < 40
    assert report.count('<div class="scroll"') == report.count("<table>") > 0
    widths = re.findall(r"minmax\((?!min\(100%|max\(1\d\dpx|0|1fr)[^)]*\)", report)
    assert widths == []


def test_the_warning_is_repeated_on_printed_pages(report: str) -> None:
    printed = report[report.index("@media print") :]
    assert re.search(r"body \{ display: table;", printed)
    assert re.search(r"\.warning \{ display: table-header-group; break-inside: avoid;", printed)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2 of a colour `#rgb` or `#rrggbb`."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(report: str, mode: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", report, flags=re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+);", light))
    if mode == "dark":
        assert dict(re.findall(r"--(\w+): (#\w+);", dark)).keys() == colours.keys()
        colours = dict(re.findall(r"--(\w+): (#\w+);", dark))
    for text in ("ink", "soft", "good", "bad", "base", "tuned", "real"):
        for ground in ("paper", "wash", "alarm"):
            first, second = sorted(luminance(colours[name]) for name in (text, ground))
            assert (second + 0.05) / (first + 0.05) >= 4.5, (text, ground)
