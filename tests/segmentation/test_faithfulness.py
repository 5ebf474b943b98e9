"""Images and the masks that they were generated for, by `echodiff evaluate`."""

import json

import numpy as np
import pytest
from PIL import Image

from echodiff.anatomy import Label
from echodiff.evaluate import main
from echodiff.segmentation import faithfulness
from echodiff.segmentation.overlap import compute_overlap
from echodiff.segmentation.segmentation_config import SegmentationConfig

GENERATED = {"weights": "a" * 64, "patient_id": None}
LABELS = ("lv", "lv_myocardium", "la")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The network that `evaluate` trains, at toy size."""
    settings = SegmentationConfig(width=4, resolution=32, steps=60, batch_size=4)
    monkeypatch.setattr(faithfulness, "SETTINGS", settings)


def evaluate(generated, real, out, *more):
    words = [str(generated), "--reference", str(real), "--out", str(out), "--features", "texture"]
    assert main([*words, *more]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_obedient_images_reach_the_ceiling_and_others_the_floor(tmp_path, hearts, capsys):
    train = hearts(tmp_path / "train", 24, seed=1)
    real = hearts(tmp_path / "real", 12, seed=2, first=100)
    obedient = hearts(tmp_path / "obedient", 12, seed=3, **GENERATED)
    strange = hearts(tmp_path / "strange", 12, seed=4, obeys=False, **GENERATED)
    result = evaluate(obedient, real, tmp_path / "out", "--train", str(train))
    scores = result["scores"]
    names = {f"mask_{kind}_{label}" for kind in ("dice", "hd95", "assd") for label in LABELS}
    names |= {"obedience", *(f"obedience_{label}" for label in LABELS)}
    assert names == {name for name in scores if name.startswith(("mask_", "obedience"))}
    whole = scores["obedience"]
    parts = [scores[f"obedience_{label}"] for label in LABELS]
    assert whole["value"] == pytest.approx(np.mean([one["value"] for one in parts]))
    assert whole["low"] < whole["value"] < whole["high"]
    assert whole["low"] > 0.5
    for label in LABELS:
        dice, share = scores[f"mask_dice_{label}"], scores[f"obedience_{label}"]
        assert dice["floor"] < dice["low"] < dice["value"]
        assert (dice["n"], dice["n_reference"], len(dice["values"])) == (12, 12, 12)
        expected = (dice["value"] - dice["floor"]) / (dice["real"] - dice["floor"])
        assert share["value"] == pytest.approx(expected)
        assert scores[f"mask_hd95_{label}"]["unit"] == "mm"
    assert not [alarm for alarm in result["alarms"] if alarm.startswith("masks")]
    assert "Obedience to masks" in (tmp_path / "out" / "report.html").read_text()
    assert "Obedience to masks" in capsys.readouterr().out

    # The same network, which is not trained again.
    options = ("--train", str(train), "--overwrite")
    other = evaluate(strange, real, tmp_path / "out", *options)
    assert len(list((tmp_path / "out" / "segmentation").iterdir())) == 1
    assert other["scores"]["obedience"]["value"] < 0.2
    assert [alarm for alarm in other["alarms"] if alarm.startswith("masks are not obeyed")]
    card = (tmp_path / "out" / "report.html").read_text().partition("Obedience to masks")[2]
    assert "Target missed" in card[:900]


def test_without_masks_in_the_reference_there_is_no_ceiling(tmp_path, hearts):
    real = hearts(tmp_path / "real", 8, seed=2, first=100)
    rows = [json.loads(line) for line in (real / "metadata.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(row | {"mask_file_name": None}) + "\n" for row in rows)
    (real / "metadata.jsonl").write_text(text)
    generated = hearts(tmp_path / "generated", 8, seed=3, spacing_mm=None, **GENERATED)
    result = evaluate(generated, real, tmp_path / "out")
    assert result["scores"]["mask_dice_lv"]["real"] is None
    assert result["scores"]["mask_hd95_lv"]["unit"] == "px"
    assert result["left_out"]["obedience"].startswith("the reference has no masks of two patients")
    assert any("read by the shipped network" in note for note in result["notes"])


def test_a_network_that_cannot_tell_masks_apart_gives_no_obedience(tmp_path, hearts):
    real = hearts(tmp_path / "real", 8, seed=2, first=100)
    generated = hearts(tmp_path / "generated", 8, seed=3, **GENERATED)
    left_out = evaluate(generated, real, tmp_path / "out")["left_out"]
    assert left_out["obedience"] == (
        "anatomy-tiny does not tell whose mask it reads in frames of the reference"
    )


def test_frames_that_were_not_generated_and_mask_network_none_read_no_masks(tmp_path, hearts):
    real = hearts(tmp_path / "real", 8, seed=2, first=100)
    frames = hearts(tmp_path / "frames", 8, seed=3)
    assert "mask_dice_lv" not in evaluate(frames, real, tmp_path / "a")["scores"]
    generated = hearts(tmp_path / "generated", 8, seed=3, **GENERATED)
    result = evaluate(generated, real, tmp_path / "b", "--mask-network", "none")
    assert "mask_dice_lv" not in result["scores"]


def test_without_monai_masks_are_left_out_with_the_command_that_installs_it(
    tmp_path, hearts, monkeypatch
):
    monkeypatch.setattr(faithfulness.importlib.util, "find_spec", lambda name: None)
    real = hearts(tmp_path / "real", 8, seed=2, first=100)
    generated = hearts(tmp_path / "generated", 8, seed=3, **GENERATED)
    left_out = evaluate(generated, real, tmp_path / "out")["left_out"]
    assert left_out["mask_dice"] == (
        "needs the package monai: pip install 'echodiff[segmentation]'"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((32, 32), 77, np.uint8), "label 77 is unknown"),
        (np.ones((16, 32), np.uint8), "32 x 16 pixels, but the image images/0000.png has 32 x 32"),
        (np.eye(32, dtype=np.uint8)[..., None] * np.uint8([9, 0, 0]), "colour"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_its_name(
    tmp_path, hearts, capsys, content, message
):
    real = hearts(tmp_path / "real", 8, seed=2, first=100)
    generated = hearts(tmp_path / "generated", 8, seed=3, **GENERATED)
    Image.fromarray(content).save(generated / "masks" / "0000.png")
    words = [str(generated), "--reference", str(real), "--out", str(tmp_path / "out")]
    assert main([*words, "--features", "texture"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(generated / "masks" / "0000.png") in error
    assert message in error
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_network_that_saw_the_reference_is_refused(tmp_path, hearts, capsys):
    train = hearts(tmp_path / "train", 24, seed=1)
    real = hearts(tmp_path / "real", 12, seed=2, first=100)
    generated = hearts(tmp_path / "generated", 8, seed=3, **GENERATED)
    evaluate(generated, real, tmp_path / "out", "--train", str(train))
    (network,) = (tmp_path / "out" / "segmentation").iterdir()
    words = ["--out", str(tmp_path / "b"), "--features", "texture", "--mask-network", str(network)]
    assert main([str(generated), "--reference", str(train), *words]) == 2
    assert "24 of 24 frames were trained on" in capsys.readouterr().err


def test_images_for_masks_of_reference_patients_are_noted_and_refused_as_training(
    tmp_path, hearts, capsys
):
    real = hearts(tmp_path / "real", 8, seed=2, first=100, source="camus")
    drawn = {"weights": "a" * 64, "source": "generated", "mask_source": ["camus", "acdc"]}
    columns = {name: value for name, value in drawn.items() if name != "mask_source"}
    generated = hearts(tmp_path / "generated", 8, seed=3, first=102, **columns)
    rows = [json.loads(line) for line in (generated / "metadata.jsonl").read_text().splitlines()]
    for place, row in enumerate(rows):  # the same ids: p102 of one data set, p103 of another
        row["mask_source"] = drawn["mask_source"][place // 2 % 2]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (generated / "metadata.jsonl").write_text(text)
    notes = evaluate(generated, real, tmp_path / "a", "--mask-network", "none")["notes"]
    assert next(note for note in notes if "masks of patients" in note).startswith(
        "2 of 8 images were generated for masks of patients of the reference"
    )
    # What was trained on these images has seen the hearts of those patients.
    words = [str(generated), "--reference", str(real), "--train", str(generated)]
    assert main([*words, "--out", str(tmp_path / "b"), "--features", "texture"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "2 of 8 frames were trained on" in error
    assert "1 patients (p102)" in error


def test_overlap_is_what_the_shapes_say():
    found, truth = np.zeros((2, 40, 30), np.uint8)
    found[10:20, 10:20], truth[12:22, 10:20] = Label.LV, Label.LV
    truth[30:35, 10:20] = Label.LA
    values = compute_overlap(found, truth, (Label.LV, Label.LA, Label.RV), pixel=0.5)
    assert values[0] == pytest.approx([0.8, 1.0, 0.5])
    assert values[1] == pytest.approx([0.0, 25.0, 25.0])  # not found: the image's diagonal
    assert np.isnan(values[2]).all()
