"""`echodiff utility` at toy size: arms, cache, refusals, numbers and page."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echodiff.data.leaks import describe_trained
from echodiff.frames.reader import load_frames
from echodiff.settings.command_line import parse
from echodiff.utility import trainings
from echodiff.utility.command import main
from echodiff.utility.utility_config import UtilityConfig

TOY = [
    "--width", "2", "--resolution", "32", "--steps", "4", "--batch-size", "2",
    "--checkpoint-every", "0",
]  # fmt: skip
OTHERS = {"weights": "b" * 64, "patient_id": None}
SHARES = ("--arms", "shares,ratios", "--shares", "50,100", "--ratios", "1,5")


@pytest.fixture(scope="session")
def folders(tmp_path_factory, hearts):
    """4 real patients, 4 test patients of two vendors, 8 synthetic frames of another program."""
    place = tmp_path_factory.mktemp("utility")
    vendors = {"vendor": ["GE", "GE", "Philips", "Philips"]}
    hearts(place / "real", 8, seed=1, **vendors)
    hearts(place / "test", 8, seed=2, first=50, **vendors)
    hearts(place / "lora", 8, seed=3, patient_id=None)
    return place


def words(folders, out, *more, **other):
    places = {name: str(folders / name) for name in ("real", "lora", "test")}
    places |= {name: str(path) for name, path in other.items()}
    return [
        "--real", places["real"], "--synthetic", places["lora"], "--test", places["test"],
        "--out", str(out), *TOY, "--unknown-training", *more,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def out(folders, tmp_path_factory):
    place = tmp_path_factory.mktemp("done") / "out"
    assert main(words(folders, place, *SHARES)) == 0
    return place


@pytest.fixture
def result(out):
    return json.loads((out / "utility.json").read_text())


def test_every_arm_has_its_frames_scores_and_trainings(out, result):
    arms = result["arms"]
    frames = {name: (one["num_real"], one["num_synthetic"]) for name, one in arms.items()}
    assert frames == {
        "real-50": (4, 0), "real": (8, 0), "real-50+lora": (4, 8), "real+lora": (8, 8),
        "real+lora-1:1": (8, 8),
    }  # fmt: skip
    assert result["left_out"] == {
        "real+lora-1:5": "needs 40 synthetic frames, there are 8",
    }
    assert result["labels"] == ["lv", "lv_myocardium", "la"]
    assert all(len(set(one["runs"])) == 3 for one in arms.values())
    of_real = arms["real"]["frames"]
    assert set(of_real) == {"all", "ED", "ES", "vendor GE", "vendor Philips", "view A4C"}
    assert [of_real[name]["n"] for name in ("all", "ED", "vendor GE")] == [8, 4, 4]
    assert arms["real"]["unit"] == "mm"
    for label in result["labels"]:
        assert set(of_real["all"][label]) == {"dice", "hd95", "assd", "num_missed"}
    assert arms["real"]["ejection"].keys() == {"num_patients", "num_missed", "bias", "absolute"}
    pairs = [(one["first"], one["second"]) for one in result["contrasts"]]
    assert pairs == [
        ("real-50+lora", "real-50"), ("real+lora", "real"), ("real+lora-1:1", "real"),
    ]  # fmt: skip
    assert all(one["num_patients"] == 4 and one["num_seeds"] == 3 for one in result["contrasts"])
    assert result["verdict"].startswith(
        "Added to 4 real frames (50 % of the patients), 8 synthetic frames (lora) are worth "
    )
    assert "95 % interval" in result["verdict"]
    page = (out / "report.html").read_text()
    assert result["verdict"].replace(" %", "\u00a0%") in page
    assert "with lora" in page


def test_equal_arms_share_their_trainings(out, result):
    # As many synthetic frames as real ones are all of them.
    arms = result["arms"]
    assert arms["real+lora-1:1"]["runs"] == arms["real+lora"]["runs"]
    assert arms["real+lora-1:1"]["frames"] == arms["real+lora"]["frames"]
    runs = {path.name for path in (out / "trainings").iterdir()}
    assert runs == {run for one in arms.values() for run in one["runs"]}
    assert len(runs) == 12
    assert not list(out.glob("trainings/*/checkpoints"))


def test_the_mean_of_an_arm_is_that_of_its_trainings(out, result):
    of_seeds = []
    for run in result["arms"]["real"]["runs"]:
        (path,) = out.glob(f"results/{run}-*.json")
        of_seeds.append(np.array(json.loads(path.read_text())["values"])[:, :, 0].mean())
    assert result["arms"]["real"]["frames"]["all"]["dice"]["value"] == pytest.approx(
        np.mean(of_seeds)
    )


def test_the_same_command_trains_only_what_is_missing(
    folders, out, result, tmp_path, monkeypatch, capsys
):
    assert main(words(folders, out, *SHARES)) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    trained = []
    train = trainings.train_segmentation
    monkeypatch.setattr(
        trainings, "train_segmentation",
        lambda run_dir, *more, **options: trained.append(run_dir.name)
        or train(run_dir, *more, **options),
    )  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in out.glob("trainings/*/*.safetensors")}
    more = ("--arms", "shares,synthetic,classical", "--shares", "50,100", "--overwrite")
    assert main(words(folders, out, *more)) == 0
    after = json.loads((out / "utility.json").read_text())
    assert {*after["arms"]} == {
        "real-50", "real", "real-classical", "lora", "real-50+lora", "real+lora",
    }  # fmt: skip
    assert after["arms"]["real"]["frames"] == result["arms"]["real"]["frames"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(out.glob("trainings/*/*.safetensors"))) == len(before) + 6
    (verdict,) = [one for one in after["worth"] if one["share"] == 50]
    assert verdict["most"] == 4


def test_a_vendor_is_kept_out_of_every_training(folders, tmp_path):
    out = tmp_path / "out"
    more = ("--arms", "synthetic", "--hold-out", "vendor=GE")
    assert main(words(folders, out, *more)) == 0
    result = json.loads((out / "utility.json").read_text())
    assert result["arms"]["real"]["num_real"] == 4
    assert "vendor GE was kept out of every training; 4 test frames are of it" in result["notes"]
    assert result["verdict"].startswith("Mean Dice of lora less real: ")


def test_the_benchmark_prints_every_arm_and_what_is_aimed_at(out, result, load_benchmark):
    benchmark = load_benchmark("utility")
    head, _, *rows = benchmark.write_arms(result)
    assert head.startswith("| arm | real | synthetic | Dice | lv | lv_myocardium | la |")
    assert len(rows) == len(result["arms"])
    assert benchmark.write_bars(result)[-1] == result["verdict"]


def test_several_sets_are_named_one_after_the_other(folders, tmp_path):
    argv = ["--synthetic", "a", "b", "--real", "r", "--test", "t", "--out", "o"]
    assert parse(UtilityConfig, argv, prog="utility").synthetic == (Path("a"), Path("b"))
    assert parse(UtilityConfig, ["--synthetic", "a,b", *argv[3:]], prog="utility").synthetic == (
        Path("a"), Path("b"),
    )  # fmt: skip


# --- Refused before anything is written ----------------------------------------------------------


def refuse(argv, out, capsys):
    assert main(argv) == 2
    assert not out.exists()
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_test_patients_that_a_network_would_see_are_refused(folders, tmp_path, capsys, hearts):
    out = tmp_path / "out"
    line = refuse(words(folders, out, test=folders / "real"), out, capsys)
    assert "--test" in line
    assert "8 of 8 frames were trained on" in line
    # An image of the same patient, not of the same pixels.
    other = hearts(tmp_path / "other", 8, seed=9, first=3)
    line = refuse(words(folders, out, test=other), out, capsys)
    assert "1 patients (p3)" in line


def test_synthetic_frames_of_a_test_patient_are_refused(folders, tmp_path, capsys, hearts):
    # generate.py --masks writes its own source, and that of the mask in a column of its own.
    test = hearts(tmp_path / "test", 8, seed=2, first=50, source="camus")
    columns = {"weights": "a" * 64, "source": "generated"}
    drawn = hearts(tmp_path / "drawn", 8, seed=9, first=53, **columns)
    out = tmp_path / "out"
    line = refuse(words(folders, out, lora=drawn, test=test), out, capsys)
    assert f"--synthetic {drawn}" in line
    assert "(p53)" in line


def test_a_generator_that_saw_test_patients_is_refused_by_its_record(
    folders, tmp_path, capsys, hearts
):
    drawn = hearts(tmp_path / "drawn", 8, seed=9, **OTHERS)
    seen = describe_trained([(folders / "test", load_frames(folders / "test")[:2])])
    record = {"weights": "runs/lora", "weights_sha256": "b" * 64, "trained_on": seen}
    (drawn / "generate.json").write_text(json.dumps(record))
    line = refuse(words(folders, tmp_path / "out", lora=drawn), tmp_path / "out", capsys)
    assert "2 of 8 frames were trained on (runs/lora): 1 patients (p50)" in line


def test_a_generator_of_unknown_training_needs_a_flag(folders, tmp_path, capsys):
    argv = words(folders, tmp_path / "out")
    argv.remove("--unknown-training")
    line = refuse(argv, tmp_path / "out", capsys)
    assert "no record of what its generator was trained on" in line
    assert line.endswith("--unknown-training accepts that")


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("test", {"weights": "a" * 64}, "8 of 8 frames were generated"),
        ("test", {"per_patient": 4}, "2 patients with masks, and intervals need 4"),
        ("real", {"without": (1, 2, 3)}, "every mask is empty"),
        ("lora", {"without": (1, 2, 3), "patient_id": None}, "every mask is empty"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(
    folders, tmp_path, capsys, hearts, name, columns, message
):
    own = hearts(tmp_path / "own", 8, seed=9, first=80, **columns)
    line = refuse(words(folders, tmp_path / "out", **{name: own}), tmp_path / "out", capsys)
    assert message in line
    assert str(own) in line


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hold-out", "vendor=Siemens"], "no frame of --test has that vendor (there are: GE,"),
        (["--hold-out", "age=9"], "must be vendor=NAME or view=NAME"),
        (["--labels", "rv"], "--labels: rv is in no mask of --real"),
        (["--labels", "heart"], "'heart' is not a label"),
        (["--shares", "0,100"], "--shares: must be different whole numbers from 1 to 100"),
        (["--seeds", "2"], "--seeds 2: must be 3 or more"),
        (["--resolution", "100"], "--resolution 100: must be a multiple of 16"),
        (["--arms", "everything"], "--arms"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folders, tmp_path, capsys, more, message):
    assert message in refuse(words(folders, tmp_path / "out", *more), tmp_path / "out", capsys)


def test_a_jpeg_mask_is_refused_by_its_name(folders, tmp_path, capsys, hearts):
    own = hearts(tmp_path / "own", 8, seed=9, patient_id=None)
    mask = own / "masks" / "0003.png"
    Image.open(mask).convert("L").save(mask, format="JPEG")
    line = refuse(words(folders, tmp_path / "out", lora=own), tmp_path / "out", capsys)
    assert str(mask) in line
    assert "JPEG" in line


def test_a_label_that_one_folder_lacks_counts_as_background_with_a_note(
    folders, tmp_path, hearts, capsys
):
    own = hearts(tmp_path / "own", 8, seed=9, patient_id=None, without=(3,))
    more = ("--arms", "synthetic", "--steps", "1")
    assert main(words(folders, tmp_path / "out", *more, lora=own)) == 0
    note = "note: la is not in the masks of all folders, and counts as background"
    assert note in capsys.readouterr().out.splitlines()
    result = json.loads((tmp_path / "out" / "utility.json").read_text())
    assert result["labels"] == ["lv", "lv_myocardium"]
