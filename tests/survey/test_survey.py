"""`echodiff compare-generators` at toy size: the real command, its files, its refusals."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from echodiff.data.leaks import find_trainings
from echodiff.diffusion.controlnet_config import TrainControlNetConfig
from echodiff.fingerprints import sha256_file
from echodiff.frames.reader import load_frames
from echodiff.images import read_mask_u8, write_mask
from echodiff.settings.command_line import parse
from echodiff.survey import controlnet, sets
from echodiff.survey.arms import WEIGHTS
from echodiff.survey.command import main
from echodiff.survey.compute import ArmPlan, plan_steps
from echodiff.survey.decoder import FittedDecoder
from echodiff.survey.frames import open_frames
from echodiff.survey.latents import LatentSpace
from echodiff.survey.privacy import audit_arm
from echodiff.survey.sets import RECORD
from echodiff.survey.stages import plan_drawing
from echodiff.survey.survey_config import DECODER, SurveyConfig
from echodiff.survey.trainings import open_workshop, plan_trainings

HELD_OUT = "siemens"
TOY = [
    "--resolution", "32", "--channels", "8", "--max-steps", "4", "--batch-size", "4",
    "--num-images", "8", "--num-synthetic", "8", "--sample-steps", "2", "--curve-steps", "1,2",
    "--segmentation-steps", "4", "--segmentation-width", "2", "--features", "texture",
    "--seeds", "1", "--checkpoint-every", "2",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """A set is drawn in several batches."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sets, "DRAWN_AT_ONCE", 3)
        yield


@pytest.fixture(scope="module")
def scans(tmp_path_factory, write_scans):
    return write_scans(tmp_path_factory.mktemp("scans") / "mr")


def words(scans, out, *more):
    return ["--data", str(scans), "--out", str(out), "--held-out-vendor", HELD_OUT, *TOY, *more]


def refused(capsys, arguments):
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(("error: ", "echodiff compare-generators: error: "))
    return line.partition("error: ")[2]


ARMS = ("--arms", "gan,flow", "--normalisation", "none,zscore")


@pytest.fixture(scope="module")
def out(scans, tmp_path_factory):
    place = tmp_path_factory.mktemp("done") / "out"
    assert main(words(scans, place, *ARMS)) == 0
    return place


@pytest.fixture(scope="module")
def table(out):
    return json.loads((out / "survey.json").read_text())


def test_the_table_has_every_arm_with_its_cells(table):
    assert [*table["arms"]] == ["gan", "flow"]
    assert table["vendors"] == ["canon", "ge"]
    assert table["held_out"] == [HELD_OUT]
    assert table["counts"] == {"train": 12, "test": 8, "unseen": 10}
    assert table["labels"] == ["lv", "lv_myocardium", "la"]
    assert table["distance"] == "mmd_texture"
    for one in table["arms"].values():
        score = one["scores"]["mmd_texture"]
        assert (score["n"], score["num_trainings"]) == (8, 1)
        assert score["low"] < score["value"] < score["high"]
        assert one["gate"]["passed"] == (not one["gate"]["reasons"])
        assert one["audit"]["is_measured"] is False
        assert one["audit"]["verdict"].startswith("not measured")
        assert {*one["styles"]} == {"canon", "ge"}
        assert one["styles"]["ge"]["agrees"]["n"] == 8
    assert [*table["arms"]["flow"]["curve"]] == ["1", "2"]
    assert table["arms"]["gan"]["curve"] == {}
    assert [*table["segmentations"]] == [
        "real", "real, zscore", "gan", "real + gan", "real + gan, random styles", "flow",
        "real + flow", "real + flow, random styles",
    ]  # fmt: skip
    real = table["segmentations"]["real"]
    assert (real["num_real"], real["num_synthetic"]) == (12, 0)
    assert real["test"]["num_patients"] == 4
    assert real["unseen"]["num_patients"] == 5
    assert "gain" in table["segmentations"]["real + flow, random styles"]["unseen"]
    assert [*table["verdict"]] == ["fidelity", "speed", "utility", "privacy", "scanner"]


def test_compute_is_equal_but_for_the_rounding_to_whole_steps(table):
    training = {arm: one["training"] for arm, one in table["arms"].items()}
    budget = training["flow"]["teraflops"]
    assert training["flow"]["num_steps"] == 4
    for one in training.values():
        assert abs(one["teraflops"] - budget) <= 0.5 * one["teraflops"] / one["num_steps"] + 1e-6


def test_every_set_is_a_frames_folder_that_knows_its_masks_and_its_training(out):
    folder = out / "sets" / "flow" / "seed-0"
    own = load_frames(folder / "own", require_mask=True)
    assert len(own) == 8
    assert {row.vendor for row in own} == {"canon", "ge"}
    test = [row for row in load_frames(out / "data" / "none") if "test-" in row.file_name]
    for row, of_mask in zip(own, test, strict=False):
        assert row.patient_id == of_mask.patient_id
        mask = read_mask_u8(folder / "own" / row.mask_file_name)
        assert (mask == read_mask_u8(out / "data" / "none" / of_mask.mask_file_name)).all()
    (trained,), problem = find_trainings(folder / "own", own)
    assert problem is None
    assert len(trained.patients) == 6
    assert {row.vendor for row in load_frames(folder / "random-styles")} == {"mixed"}
    style = json.loads(load_frames(folder / "style-1-ge")[0].settings)["style"]
    assert style == [0.0, 1.0]


def test_the_page_shows_every_arm_and_says_what_it_is_not_for(out):
    page = (out / "report.html").read_text()
    for word in ("gan", "flow", "not for diagnosis", "not measured"):
        assert word in page
    assert page.count("data:image/png") == 2
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_finished_comparison_is_written_again_from_what_is_there(scans, out, monkeypatch):
    before = (out / "survey.json").read_bytes()
    monkeypatch.setattr("echodiff.survey.trainings.train_arm", None)
    monkeypatch.setattr("echodiff.segmentation.training._train", None)
    monkeypatch.setattr("echodiff.survey.scoring.score_measured", None)
    assert main(words(scans, out, *ARMS)) == 0
    assert (out / "survey.json").read_bytes() == before


class KilledError(Exception):
    pass


def test_a_comparison_that_was_killed_gives_the_same_table(scans, out, tmp_path, monkeypatch):
    place = tmp_path / "out"
    shutil.copytree(out, place)
    # As if the kill had come while the second set of the last arm was being drawn.
    shutil.rmtree(place / "scores")
    (place / "survey.json").unlink()
    folder = place / "sets" / "flow" / "seed-0" / "synthetic"
    shutil.rmtree(folder)
    calls = []

    def draw(*arguments, **options):
        if len(calls) == 1:
            raise KilledError
        calls.append(arguments)
        return batch(*arguments, **options)

    batch = sets.draw_batch
    monkeypatch.setattr("echodiff.survey.arms.draw_batch", draw)
    with pytest.raises(KilledError):
        main(words(scans, place, *ARMS))
    assert len([*folder.glob("images/*.png")]) == 3
    monkeypatch.setattr("echodiff.survey.arms.draw_batch", batch)
    assert main(words(scans, place, *ARMS)) == 0
    assert (place / "survey.json").read_bytes() == (out / "survey.json").read_bytes()


def test_another_comparison_is_refused_and_what_is_there_stays(scans, out, capsys):
    before = (out / "survey.json").read_bytes()
    line = refused(capsys, words(scans, out, *ARMS, "--seed", "1"))
    assert "holds another comparison. It differs in --seed (0 there, 1 here)" in line
    assert (out / "survey.json").read_bytes() == before


def test_arms_can_be_added_to_a_finished_comparison(scans, out, table, tmp_path, monkeypatch):
    place = tmp_path / "out"
    shutil.copytree(out, place)
    more = ("--arms", "gan,flow,vae", *ARMS[2:])
    assert main(words(scans, place, *more)) == 0
    longer = json.loads((place / "survey.json").read_text())
    assert [*longer["arms"]] == ["gan", "flow", "vae"]
    assert longer["arms"]["gan"] == table["arms"]["gan"]
    assert longer["arms"]["flow"] == table["arms"]["flow"]


def test_a_vendor_of_the_test_alone_is_to_be_held_out(scans, tmp_path, capsys):
    folder = tmp_path / "mr"
    shutil.copytree(scans, folder)
    path = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if (row["vendor"], row["split"]) == ("ge", "train"):
            row["vendor"] = "canon"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    line = refused(capsys, words(folder, tmp_path / "out"))
    assert "no training frame is of vendor ge, which val or test has" in line
    assert line.endswith("--held-out-vendor siemens,ge")
    assert not (tmp_path / "out").exists()


def test_the_command_line_of_a_controlnet_says_all_of_its_settings(scans, tmp_path):
    config = parse(SurveyConfig, words(scans, tmp_path / "out", "--threads", "1"), prog="test")
    settings = controlnet.build_settings(config, scans, num_steps=7, number=2)
    line = controlnet._to_words(settings)
    assert parse(TrainControlNetConfig, line, prog="test") == settings
    assert settings.threads == 1


def test_an_interrupted_audit_is_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr("echodiff.audit.command.main", lambda line: 130)
    with pytest.raises(KeyboardInterrupt):
        audit_arm("controlnet", tmp_path, tmp_path, tmp_path / "audit", None)


# diffusers makes an array of a tensor in numpy's old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_controlnet_is_trained_and_drawn_with_the_threads_asked_for(scans, tmp_path, monkeypatch):
    unmeasured = {"is_measured": False, "verdict": "not measured"}
    monkeypatch.setattr("echodiff.survey.privacy.audit_arm", lambda *arguments: unmeasured)

    def plan_short(costs, *arguments, **options):  # a share of one step pays for no decoder
        return {DECODER: ArmPlan(costs[DECODER], 2), **plan_steps(costs, *arguments, **options)}

    monkeypatch.setattr("echodiff.survey.trainings.plan_steps", plan_short)
    place = tmp_path / "out"
    more = ("--arms", "controlnet", "--normalisation", "none", "--max-steps", "1", "--threads", "1",
            "--num-images", "4", "--num-synthetic", "2", "--sample-steps", "1")  # fmt: skip
    assert main(words(scans, place, *more)) == 0
    assert torch.get_num_threads() == 1
    table = json.loads((place / "survey.json").read_text())
    arm = table["arms"]["controlnet"]
    assert arm["scores"]["mmd_texture"]["n"] == 4
    texts = {row.text for row in load_frames(place / "sets/controlnet/seed-0/style-1-ge")}
    assert texts == {"ge scanner"}
    trained = load_frames(place / "data" / "words")
    assert {row.text for row in trained} == {"canon scanner", "ge scanner"}
    assert {*table["autoencoder"]} == {"as it is", "fitted"}
    assert table["autoencoder"]["fitted"]["ge"]["n"] == 4
    record = json.loads((place / "sets/controlnet/seed-0/own" / RECORD).read_text())
    fitted = place / "arms" / "decoder" / "seed-0" / WEIGHTS
    assert record["decoder_sha256"] == sha256_file(fitted)
    assert "real frames, decoder fitted" in (place / "report.html").read_text()

    # Images are what the fitted decoder makes of latents: all 0, it makes none of any.
    zero = LatentSpace("tiny", torch.device("cpu")).decoder
    for weights in zero.parameters():
        torch.nn.init.zeros_(weights)
    save_file(zero.state_dict(), tmp_path / "zero.safetensors")
    config, frames = (
        parse(SurveyConfig, words(scans, place, *more), prog="test"),
        place / "data/none",
    )
    source = controlnet.load_controlnet(
        config, frames, place / "arms/controlnet/seed-0", 0, torch.device("cpu"),
        FittedDecoder(tmp_path / "zero.safetensors"),
    )  # fmt: skip
    (image,) = source.draw_set(plan_drawing(config, frames, ("canon", "ge")).own, [0])
    assert {*np.unique(image)} <= {127, 128}


def test_latents_are_planned_alike_in_whatever_order_arms_are_added(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("echodiff.survey.compute.LEAST_DECODER_STEPS", 1)

    def plan(out, arms, share="0.2"):
        more = ("--space", "latent", "--arms", arms, "--max-steps", "400000",
                "--decoder-share", share)  # fmt: skip
        config = parse(SurveyConfig, words(scans, tmp_path / out, *more), prog="test")
        config.out.mkdir(exist_ok=True)
        frames = open_frames(config)
        shop = open_workshop(config, frames, scans, Accelerator(cpu=True))
        found = plan_trainings(shop)
        return {name: (one.num_steps, one.flops) for name, one in found.items()}

    plan("longer", "flow")
    both = plan("longer", "flow,diffusion")
    assert both == plan("at-once", "flow,diffusion")
    assert both["flow"] == both["diffusion"]
    assert both["flow"][0] < 400000
    # Diffusion was the measure of the first, and none of its arms.
    plan("later", "gan")
    assert plan("later", "flow,diffusion") == both
    none = plan("none", "flow", "0")
    assert [*none] == ["flow"]
    assert none["flow"][0] == 400000
    assert DECODER in both


def test_the_quick_comparison_has_the_arms_and_steps_that_its_aims_are_about(
    load_benchmark, tmp_path
):
    quick = load_benchmark("survey").QUICK
    config = parse(SurveyConfig, ["--out", str(tmp_path / "out"), *quick], prog="test")
    assert {"gan", "vae", "diffusion", "flow"} == {*config.arms}
    assert (config.seeds, config.resolution, config.sample_steps) == (1, 128, 32)
    assert 8 in config.curve_steps


def test_one_vendor_alone_leaves_nothing_to_train_on(write_scans, tmp_path, capsys):
    folder = write_scans(tmp_path / "one", vendors=(HELD_OUT,))
    line = refused(capsys, words(folder, tmp_path / "out"))
    assert line == (
        f"--held-out-vendor {HELD_OUT}: {folder} has frames of no other vendor to train on"
    )
    assert not (tmp_path / "out").exists()


def test_a_vendor_that_no_frame_has_is_named_with_those_there_are(scans, tmp_path, capsys):
    line = refused(capsys, words(scans, tmp_path / "out", "--held-out-vendor", "philips"))
    assert "--held-out-vendor philips" in line
    assert "there are: canon, ge, siemens" in line


def test_a_mask_of_unknown_labels_is_named(scans, tmp_path, capsys):
    folder = tmp_path / "mr"
    shutil.copytree(scans, folder)
    row = next(row for row in load_frames(folder) if row.split == "train" and row.vendor == "ge")
    mask = read_mask_u8(folder / row.mask_file_name)
    write_mask(folder / row.mask_file_name, np.full_like(mask, 77))
    line = refused(capsys, words(folder, tmp_path / "out"))
    assert row.mask_file_name in line
    assert "label 77 is unknown" in line


def test_an_arm_without_its_extra_names_the_extra(scans, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    line = refused(capsys, words(scans, tmp_path / "out", "--dry-run"))
    assert "needs the package monai: pip install 'echodiff[segmentation]'" in line


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--resolution", "48"), "--resolution 48: must be a power of two"),
        (("--features", "nothing"), "nothing"),
        (("--channels", "12"), "--channels 12: must be a multiple of 8"),
        (("--arms", "gan,gan"), "--arms: gan is named twice"),
        (("--curve-steps", "0,2"), "--curve-steps: must be whole numbers from 1 to 1000"),
        (("--labels", "aorta"), "--labels: aorta is not in the masks"),
        (("--batch-size", "64"), "fewer than one batch of 64"),
    ],
)
def test_bad_settings_are_one_line(scans, tmp_path, capsys, flags, told):
    assert told in refused(capsys, words(scans, tmp_path / "out", *flags))
    assert not (tmp_path / "out").exists()


def test_generated_frames_are_no_real_ones(out, tmp_path, capsys):
    line = refused(capsys, words(out / "sets" / "flow" / "seed-0" / "own", tmp_path / "out"))
    assert "8 of 8 frames were generated" in line


def test_a_dry_run_states_time_and_disk_and_writes_nothing(scans, tmp_path, capsys):
    assert main(words(scans, tmp_path / "out", "--arms", "flow", "--dry-run")) == 0
    told = capsys.readouterr().out
    assert "flow: " in told
    assert "TFLOP" in told
    assert "in all 1 trainings" in told
    assert "GiB" in told
    assert not (tmp_path / "out").exists()


def test_the_commands_of_the_page_are_real():
    page = (Path(__file__).parents[2] / "docs" / "survey.md").read_text("utf-8")
    lines = [line.partition("  #")[0].split() for line in page.splitlines()
             if line.startswith("echodiff compare-generators")]  # fmt: skip
    configs = [parse(SurveyConfig, line[2:], prog="docs") for line in lines]
    assert [config.held_out for config in configs] == [("cedar",), ("Canon", "GE")]
