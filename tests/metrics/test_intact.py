"""`intact` through `echodiff evaluate`: sound and broken hearts, frames it does not apply to."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from echodiff.anatomy import Finding, Label, View
from echodiff.captions.views import is_child_in, view_in
from echodiff.evaluate import compare_frames, main
from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_gray_u8, read_mask_u8
from echodiff.metrics.frame_features import load_networks
from echodiff.metrics.held_out import open_held_out
from echodiff.metrics.intact import choose_sample, describe_expected
from echodiff.phantom.dataset import write_phantom_frames
from echodiff.pretrain import broken_hearts
from echodiff.pretrain.broken_hearts import Painted
from echodiff.report.charts import draw_score_curves

NUM = 12
PROMPT = "normal heart, septa intact without defects, apical four-chamber view, end of diastole"


def write_hearts(out, num, seed):
    write_phantom_frames(out, num=num, seed=seed, size=128, styles=("aspen",), finding_rate=0.0,
                         child_rate=0.0, splits=(0, 0, 1), workers=1, progress=False)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return write_hearts(tmp_path_factory.mktemp("hearts") / "real", NUM, 31)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_hearts(tmp_path_factory.mktemp("hearts") / "sound", NUM, 32)


def write_generated(out, source, change=None, prompt=PROMPT, **columns):
    """Images of `source` as if generated; `change` paints into every second one."""
    with FramesWriter(out) as writer:
        for number, row in enumerate(load_frames(source)):
            labels = read_mask_u8(source / row.mask_file_name)
            frame = Painted(read_gray_u8(source / row.file_name), labels)
            if change and number % 2:
                frame = change(frame, np.random.default_rng(number))
            name = f"{number:06d}.png"
            new = Frame(file_name=name, text=prompt, prompt=prompt, modality="echo")
            writer.add(replace(new, **columns), frame.image_u8)
    return out


def evaluate(generated, reference, out, *flags):
    """metrics.json and the page."""
    flags = [str(generated), "--reference", str(reference), "--out", str(out), *map(str, flags)]
    assert main([*flags, "--features", "texture"]) == 0
    return json.loads((out / "metrics.json").read_text()), (out / "report.html").read_text()


def test_sound_hearts_are_intact(sound, reference, tmp_path):
    result, _ = evaluate(write_generated(tmp_path / "sound", sound), reference, tmp_path / "out")
    score = result["scores"]["intact"]
    assert score["value"] >= 1 - 1 / NUM
    assert score["real"] >= 1 - 2 / NUM
    assert (score["n"], score["n_reference"], score["num_without"]) == (NUM, NUM, 0)
    assert score["low"] < score["value"] <= score["high"]
    assert score["features"] == "anatomy-tiny"
    criteria = {name for name in result["scores"] if name.startswith("intact_")}
    assert len(criteria) == 12
    assert "intact_atrial_septum" in criteria


def test_broken_hearts_are_counted_named_and_shown_first(sound, reference, tmp_path, capsys):
    def break_both(frame, rng):
        frame = broken_hearts.merge_chambers(frame, rng, broken_hearts.SEPTA[0])
        return broken_hearts.merge_chambers(frame, rng, broken_hearts.SEPTA[1])

    broken = write_generated(tmp_path / "broken", sound, break_both)
    result, page = evaluate(broken, reference, tmp_path / "out")
    score = result["scores"]["intact"]
    assert score["value"] == pytest.approx(0.5, abs=0.1)
    rows = [one["row"] for one in result["anatomy"]["broken"]]
    assert score["frames"] == rows
    assert len(set(rows) & {1, 3, 5, 7, 9, 11}) >= 5
    first = result["anatomy"]["broken"][0]
    assert first["file_name"] == f"{first['row']:06d}.png"
    assert any(fault["criterion"] == "atrial_septum" for fault in first["faults"])
    assert "septum open over" in first["faults"][0]["reason"]
    assert len(first["faults"][0]["box"]) == 4
    (alarm,) = [text for text in result["alarms"] if text.startswith("broken hearts")]
    assert f"{len(rows)} of {NUM}" in alarm
    assert page.index("Broken hearts") < page.index("Sets at the same scale")
    assert first["faults"][0]["reason"] in page
    printed = capsys.readouterr().out
    assert re.search(r"Intact anatomy +\d+ % \(\d+ % to \d+ %\); real frames \d+ %; n 12", printed)


def test_of_a_large_reference_a_sample_is_judged(sound, reference, tmp_path, monkeypatch):
    monkeypatch.setattr("echodiff.evaluate.MOST_OF_REFERENCE", 5)
    monkeypatch.setattr("echodiff.metrics.frame_features.READ_AT_ONCE", 4)
    result, _ = evaluate(write_generated(tmp_path / "sound", sound), reference, tmp_path / "out")
    score, anatomy = result["scores"]["intact"], result["anatomy"]
    assert (score["n"], score["n_reference"]) == (NUM, 5)
    assert anatomy["not_measured_reference"] == {"not in the sample": 7}
    assert anatomy["not_measured"] == {}


def test_a_sample_holds_both_phases_and_only_frames_that_can_be_judged():
    # Phases alternate from row to row; every eighth frame alone is of a view that is judged.
    phases = [Frame(file_name="a.png", text="", view="A4C", phase=p) for p in ("ED", "ES")] * 400
    chosen = choose_sample(phases, 500)
    assert chosen.sum() == 500
    assert 200 < chosen[::2].sum() < 300
    views = [replace(phases[0], view="A4C" if i % 8 == 1 else "PLAX") for i in range(4000)]
    assert np.flatnonzero(choose_sample(views, 500)).tolist() == list(range(1, 4000, 8))
    assert choose_sample(views, None).sum() == 500
    assert choose_sample([], 5).shape == (0,)


def test_a_defect_that_was_asked_for_is_intact(sound, reference, tmp_path):
    def open_septum(frame, rng):
        return broken_hearts.tear_septum(frame, rng, broken_hearts.SEPTA[0], 6)

    asked = "secundum ASD, apical four-chamber view"
    folder = write_generated(tmp_path / "asd", sound, open_septum, prompt=asked)
    result, _ = evaluate(folder, reference, tmp_path / "out")
    assert "intact_atrial_septum" not in result["scores"]
    assert result["scores"]["intact_ventricular_septum"]["n"] == NUM


def test_frames_of_no_known_view_are_counted_not_judged(sound, reference, tmp_path):
    folder = write_generated(tmp_path / "unknown", sound, prompt="a heart")
    result, _ = evaluate(folder, reference, tmp_path / "out")
    assert result["left_out"]["intact"] == "no generated frame can be judged: view unknown (12)"
    assert result["anatomy"]["not_measured"] == {"view unknown": 12}
    assert not [name for name in result["scores"] if name.startswith("intact")]


def test_frames_of_another_kind_have_no_score(sound, tmp_path):
    rng = np.random.default_rng(0)
    with FramesWriter(tmp_path / "noise") as writer:
        for number in range(NUM):
            row = Frame(file_name=f"{number}.png", text="", view="A4C", modality="echo")
            writer.add(row, rng.integers(0, 255, (128, 128), dtype=np.uint8))
    result, page = evaluate(write_generated(tmp_path / "own", sound), tmp_path / "noise",
                            tmp_path / "out")  # fmt: skip
    assert "does not know frames of this kind" in result["left_out"]["intact"]
    assert result["anatomy"]["broken"] == []
    assert "<h2>Broken hearts" not in page


def test_two_sets_are_compared(sound, reference, tmp_path):
    whole = write_generated(tmp_path / "whole", sound)
    torn = write_generated(
        tmp_path / "torn", sound,
        lambda f, r: broken_hearts.remove_chamber(f, r, Label.LA),
    )  # fmt: skip
    gain = compare_frames(torn, whole, reference, features=["texture"])["intact_gain"]
    assert gain["value"] == pytest.approx(0.5, abs=0.1)
    assert gain["low"] > 0
    assert (gain["n"], gain["n_first"]) == (NUM, NUM)


def test_a_segmenter_of_ones_own(sound, reference, tmp_path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    config = json.loads((shipped("assets/segmenter") / "config.json").read_text())
    weights = load_file(shipped("assets/segmenter") / "model.safetensors")
    (own / "config.json").write_text(json.dumps(config | {"name": "ours"}))
    save_file(weights, own / "model.safetensors")
    folder = write_generated(tmp_path / "generated", sound)
    result, _ = evaluate(folder, reference, tmp_path / "out", "--segmenter", own)
    assert result["scores"]["intact"]["features"] == "ours"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda own: (own / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda own: (own / "model.safetensors").write_bytes(b"\x80\x04."), "not the weights"),
        (lambda own: edit(own, labels=["lv"]), "labels of config.json must be"),
        (lambda own: edit(own, channels=[24, 40]), "not the weights"),
        (lambda own: edit(own, channels=[7]), "multiples of 8"),
        (lambda own: edit(own, channels="many"), "channels"),
        (lambda own: spoil(own), "head.bias holds values that are not finite"),
    ],
)
def test_a_folder_that_is_no_segmenter_is_refused(
    sound, reference, tmp_path, capsys, change, words
):
    own = tmp_path / "own"
    own.mkdir()
    for name in ("config.json", "model.safetensors"):
        (own / name).write_bytes((shipped("assets/segmenter") / name).read_bytes())
    change(own)
    out = tmp_path / "out"
    flags = [str(sound), "--reference", str(reference), "--out", str(out), "--segmenter", str(own)]
    assert main([*flags, "--features", "texture"]) == 2
    assert words in capsys.readouterr().err
    assert not (out / "metrics.json").exists()


def spoil(own):
    weights = load_file(own / "model.safetensors")
    weights["head.bias"][0] = float("nan")
    save_file(weights, own / "model.safetensors")


def edit(own, **fields):
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("apical four-chamber view", View.A4C),
        ("4-chamber position", View.A4C),
        ("A4C, normal", View.A4C),
        ("apical 4 chamber", View.A4C),
        ("apical two-chamber view", View.A2C),
        ("2CH", View.A2C),
        ("parasternal long-axis view", View.PLAX),
        ("four-chamber and two-chamber view", None),
        ("all four chambers dilated", None),
        ("a heart", None),
    ],
)
def test_a_view_is_read_out_of_a_caption(text, view):
    assert view_in(text) is view


def test_what_a_frame_should_show_is_read_from_its_row():
    row = Frame(file_name="a.png", text="", modality="mr", view="A4C")
    assert describe_expected(row) == "modality mr"
    assert describe_expected(None) == "no row in metadata.jsonl"
    assert describe_expected(replace(row, modality=None, view="SAX")) == "view SAX"
    known = describe_expected(replace(row, modality="echo", findings=["asd"]))
    assert known.findings == {Finding.ASD}
    # Without a caption nothing says whether a septum may be open.
    assert describe_expected(replace(row, modality="echo")).findings is None
    # A finding in doubt is not held against a heart, nor is a closed septum after a repair.
    asked = {
        "apical four-chamber view": frozenset(),
        "A4C, ostium secundum defect of the interatrial septum": {Finding.ASD},
        "A4C, partial AVSD": {Finding.ASD},
        "A4C, possible VSD": {Finding.VSD},
        "A4C, status post closure of an ASD": {Finding.ASD},
        "A4C, no ASD": frozenset(),
    }
    for text, findings in asked.items():
        expected = describe_expected(replace(row, text=text, modality="echo"))
        assert expected.findings == findings, text
    assert is_child_in("echocardiogram of the child")
    assert not is_child_in("echocardiogram of the adult")


def test_a_training_curve_has_intact_images_beside_real_ones(reference, sound):
    rows = load_frames(sound)
    images = [read_gray_u8(sound / row.file_name) for row in rows]
    score = open_held_out(load_networks(["texture"]).opened, reference, load_frames(reference))
    curve = score(images, [PROMPT] * len(images))
    assert curve["intact"] >= 1 - 1 / NUM
    assert curve["intact_low"] < curve["intact"] <= curve["intact_high"]
    assert curve["intact_real"] >= 1 - 2 / NUM
    assert not {name for name in score(images) if name.startswith("intact")}
    merged = [image.copy() for image in images]
    for image in merged:
        image[64:] = 0  # no atria
    assert score(merged, [PROMPT] * len(images))["intact"] == 0
    (chart, *_) = draw_score_curves([{"step": 0, **curve}, {"step": 9, **curve}])
    assert chart.title == "Intact anatomy"
    assert chart.has_band
    assert chart.has_baseline
