"""`echodiff audit` as a user runs it, on weights that know their frames and on some that do not."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.extraction import Attempt, Extraction
from echodiff.frames.reader import load_frames
from echodiff.hub.scan import Known, scan_file
from echodiff.metrics.faithfulness import compute_share
from echodiff.runs import Run
from echodiff.settings.command_line import parse

pytestmark = pytest.mark.filterwarnings(
    # diffusers' sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
QUICK = ("--pairs", "8", "--attempts", "2", "--captions", "4", "--sample-steps", "2",
         "--features", "texture", "--threads", "1")  # fmt: skip


@pytest.fixture(scope="module")
def frames(speckle, tmp_path_factory):
    return speckle(tmp_path_factory.mktemp("real") / "frames", train=10, test=20)


@pytest.fixture(scope="module")
def trained(frames, tiny_random_base, train_script, tmp_path_factory):
    """A run folder whose weights are trained on the same ten frames until they know them."""
    from accelerate.state import AcceleratorState, GradientState

    out = tmp_path_factory.mktemp("runs") / "ours"
    flags = {
        "base": tiny_random_base, "data": frames, "out": out, "rank": 32, "alpha": 32,
        "learning-rate": 0.01, "batch-size": 10, "max-steps": STEPS, "threads": 1,
        "checkpoint-every": 0, "held-out-frames": 0,
    }  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    train_script.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return out


STEPS = 20


@pytest.fixture
def audit(trained, tmp_path, fresh_accelerate, capsys):
    """`audit(*flags)` -> exit status, privacy.json or None, stdout, stderr."""

    def run(*flags, run_dir=trained, out=tmp_path / "audit"):
        fresh_accelerate()
        status = main(["audit", str(run_dir), "--out", str(out), *QUICK, *map(str, flags)])
        printed = capsys.readouterr()
        path = out / "privacy.json"
        record = json.loads(path.read_text("utf-8")) if path.is_file() else None
        return status, record, printed.out, printed.err

    return run


def write_set(folder, images, weights):
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, image in enumerate(images):
        name = f"images/{number:04d}.png"
        Image.fromarray(image).save(folder / name)
        rows.append({"file_name": name, "text": "a heart", "weights": weights})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_an_audit_has_every_attack_with_n_interval_and_p(audit, trained, tmp_path):
    status, record, out, _ = audit()
    assert status in (0, 1)
    assert status == int(not record["passed"])
    weights = Run.load(trained).record["weights_sha256"]
    assert record["weights_sha256"] == weights
    assert record["n"] == {
        "members": 10, "member_patients": 10, "non_members": 20, "non_member_patients": 20,
        "training_frames": 10,
    }  # fmt: skip
    attacks = ["loss", "calibrated_loss", "pia", "secmi", "sima", "recall"]
    assert [*record["attacks"]] == [*attacks, "set", "extraction"]
    for name in attacks:
        one = record["attacks"][name]
        assert 0 <= one["low"] <= one["auc"] <= one["high"] <= 1
        assert 0 < one["p"] <= one["p_holm"] <= 1
        assert (one["num_members"], one["num_others"], one["p_by"]) == (10, 20, "exact")
        assert one["tpr_at_1_percent_fpr"].startswith("cannot be measured at this N")
    assert record["attacks"]["extraction"]["n"] == 8
    assert record["ceiling"]["num_canaries"] == 20
    assert record["ceiling"]["ceiling"] == pytest.approx(1.82, abs=0.01)
    assert any("LiRA" in one for one in record["not_tested"])
    assert record["reduced"] == [
        "--pairs 8, usually 48", "--attempts 2, usually 8", "--captions 4, usually 40",
        "--sample-steps 2, usually 20",
    ]  # fmt: skip
    assert "as much as usual: --attempts 2, usually 8" in record["not_tested"]
    # The verdict is where a push looks for it, without a name of a patient, file or place.
    assert json.loads((trained / "privacy.json").read_text("utf-8")) == record
    assert list(scan_file(trained / "privacy.json", Known())) == []
    text = json.dumps(record)
    assert not re.search(r"/tmp|\.png|p1\d?\b|child", text)
    page = (tmp_path / "audit/report.html").read_text("utf-8")
    assert "This page shows frames of patients" in page
    assert "Date and signature" in page
    assert page.count("<figcaption>Training frame</figcaption>") == 4
    assert "epsilon: at least" in out


def test_the_frames_of_a_moved_folder_are_taken_as_they_are(audit, speckle, tmp_path):
    """Weights that are asked for frames that they never saw, under the names of their own."""
    other = speckle(tmp_path / "never", train=10, test=20, seed=700)
    status, record, _, _ = audit("--attempts", "0", "--data", other)
    # Nothing was found in them, which says nothing of the frames that were trained on.
    assert status == 1
    assert not record["passed"]
    assert "10 of 10 frames that were attacked are not those of the training" in record["verdict"]
    tests = {name: one for name, one in record["attacks"].items() if "auc" in one}
    # The toy weights differ a little between machines: a limit of 5 % would fail by chance.
    assert len(tests) == 5
    assert min(one["p"] for one in tests.values()) > 0.001
    assert record["attacks"]["set"]["p"] > 0.001


def test_copies_in_a_set_are_listed_dropped_and_scored_before_and_after(
    audit, trained, draw, tmp_path
):
    weights = Run.load(trained).record["weights_sha256"]
    images = [draw(number) for number in range(3)]
    images += [draw(900 + number) for number in range(27)]
    folder = write_set(tmp_path / "set", images, weights)
    status, record, _, _ = audit(
        "--generated", folder, "--drop-copies", tmp_path / "kept", "--attempts", "0"
    )
    assert status == 1
    given, kept = record["sets"]
    assert given["copies"]["pixels"]["num_copies"] == 3
    assert given["copies"]["pixels"]["low"] <= 0.1 <= given["copies"]["pixels"]["high"]
    assert not given["passed"]
    assert "3 of 30 images show one of 3 training frames" in given["verdict"]
    assert kept["passed"]
    assert (kept["n"], kept["num_dropped"]) == (27, 3)
    assert {"before", "after"} == kept["scores"]["mmd_texture"].keys()
    page = (tmp_path / "audit/report.html").read_text("utf-8")
    assert "Scores with and without the copies" in page
    assert page.count("<figcaption>Training frame</figcaption>") == 10
    assert len(load_frames(tmp_path / "kept")) == 27
    rows = [json.loads(line) for line in (tmp_path / "audit/copies.jsonl").read_text().splitlines()]
    assert [row["is_copy"] for row in rows] == [True] * 3 + [False] * 27
    assert [row["training_frame"] for row in rows[:3]] == [
        f"images/{number:04d}.png" for number in range(3)
    ]


def test_what_was_measured_is_kept_if_every_image_is_a_copy(audit, trained, draw, tmp_path):
    weights = Run.load(trained).record["weights_sha256"]
    folder = write_set(tmp_path / "set", [draw(number) for number in range(3)], weights)
    flags = ("--generated", folder, "--drop-copies", tmp_path / "kept", "--attempts", "0")
    status, record, _, err = audit(*flags)
    assert status == 2
    assert "every image of" in err
    assert record["sets"][0]["copies"]["pixels"]["num_copies"] == 3
    assert not (tmp_path / "kept").exists()
    write_set(tmp_path / "kept", [draw(1)], weights)
    status, _, _, err = audit(*flags, out=tmp_path / "again")
    assert (status, (tmp_path / "again").exists()) == (2, False)
    assert "exists; --overwrite replaces it" in err


def test_every_frame_that_comes_back_for_a_caption_is_counted():
    attempt = Attempt(np.zeros((8, 8), np.uint8), 0.9, 4, 2, (4, 7, 4), 8)
    found = Extraction((attempt,), 0.6, compute_share(3, 8))
    assert found.num_extracted == 2


def test_other_non_members_are_checked(audit, speckle, frames, tmp_path):
    other = speckle(tmp_path / "elm", train=0, test=12, seed=300, vendor="elm")
    status, record, _, err = audit("--holdout", other)
    assert (status, record) == (2, None)
    assert "vendor elm" in err
    assert "give held-out frames of the same source and vendor" in err
    status, _, _, err = audit("--holdout", frames, "--overwrite")
    assert status == 0 or "were trained on" not in err  # its test split alone is read
    seen = speckle(tmp_path / "seen", train=0, test=12, seed=0)
    status, _, _, err = audit("--holdout", seen, "--overwrite")
    assert status == 2
    assert "of 12 frames were trained on" in err


def test_what_does_not_fit_is_refused_in_one_line(audit, trained, frames, tmp_path, draw):
    other = write_set(tmp_path / "other", [draw(1)], "0" * 64)
    for flags, said in (
        (("--generated", other), "was not made by the weights of"),
        (("--generated", frames), "but by no known weights"),
        (("--shadows", "3"), "--shadows 3: must be 0, or an even number from 4 on"),
        (("--drop-copies", tmp_path / "x"), "--drop-copies: needs --generated"),
        (("--sscd", "s.pt"), "is a program: needs --trust"),
    ):
        status, record, _, err = audit(*flags)
        assert (status, record) == (2, None), flags
        assert said in err
        assert len(err.strip().splitlines()) == 1
    (tmp_path / "empty").mkdir()
    assert "is not a run folder" in audit(run_dir=tmp_path / "empty")[3]
    (tmp_path / "audit").mkdir(exist_ok=True)
    (tmp_path / "audit/privacy.json").write_text("{}")
    status, _, _, err = audit()
    assert status == 2
    assert "exists already; --overwrite replaces it" in err


@pytest.mark.slow
def test_the_same_audit_gives_the_same_numbers(audit, tmp_path):
    first = audit("--attempts", "0")[1]
    second = audit("--attempts", "0", "--batch-size", "7", out=tmp_path / "again")[1]
    for name in ("loss", "calibrated_loss", "pia", "secmi", "sima"):
        assert first["attacks"][name]["auc"] == pytest.approx(
            second["attacks"][name]["auc"], abs=0.011
        )
    assert np.isclose(first["attacks"]["set"]["p"], second["attacks"]["set"]["p"], atol=0.01)


def test_the_commands_of_the_page_are_real():
    page = (Path(__file__).parents[2] / "docs/privacy.md").read_text("utf-8")
    lines = [line.split("#")[0].split() for line in page.splitlines()
             if line.startswith("echodiff audit ")]  # fmt: skip
    assert len(lines) == 5
    for words in lines:
        assert parse(AuditConfig, words[2:], prog="docs").out.parts[0] == "audits"
