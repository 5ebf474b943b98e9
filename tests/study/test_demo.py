"""`echodiff study demo`: simulated readers behind a real server, and the whole demo."""

import csv
import json

import pytest

from echodiff.__main__ import main
from echodiff.study.demo import MEAN_SCORES, read
from echodiff.study.plan import load_plan


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of uvicorn's and httpx2's own parts
def test_three_simulated_readers_finish_over_http_and_are_exported(tmp_path, write_fans, capsys):
    sources = []
    for seed, name in enumerate(MEAN_SCORES):
        made = {} if name == "real" else {"weights": "w"}
        write_fans(tmp_path / name, 8, seed=seed, **made)
        sources.append(f"--source={name}={tmp_path / name}")
    flags = ["--images", "3", "--shared", "1", "--repeats", "1", "--readers", "3"]
    study, out = tmp_path / "study", tmp_path / "export"
    assert main(["study", "init", str(study), *sources, *flags]) == 0
    read(study, seed=0)
    assert main(["study", "export", str(study), "--out", str(out), "--close"]) == 0
    with (out / "ratings.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    plan = load_plan(study)
    assert len(rows) == 3 * 3 * 4
    assert {row["sequence"] for row in rows} == {"0", "1", "2"}
    for number in range(3):
        mine = [row for row in rows if row["sequence"] == str(number)]
        planned = [task for task in plan.sequences[number] if task.kind != "practice"]
        assert [row["image"] for row in mine] == [task.image_token for task in planned]
        assert [row["kind"] for row in mine] == [task.kind for task in planned]
    means = {
        name: sum(int(r["score"]) for r in rows if r["source"] == name) / 12 for name in MEAN_SCORES
    }
    assert means["real"] > means["gan"]
    readers = json.loads((out / "readers.json").read_text("utf-8"))
    assert [reader["language"] for reader in readers] == ["en", "ru", "kk"]
    assert {reader["state"] for reader in readers} == {"done"}
    assert "a reader in kk: 12 images rated at http://127.0.0.1:" in capsys.readouterr().out


def test_a_folder_with_something_in_it_is_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["study", "demo", str(tmp_path)]) == 2
    assert f"--out {tmp_path}: is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# Diffusers' solver hands a tensor to numpy; uvicorn has parts of its own.
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.slow
def test_the_demo_goes_from_frames_to_the_report(tmp_path, fresh_accelerate, capsys):
    out = tmp_path / "demo"
    assert main(["study", "demo", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "passed: nothing but the content tells the source" in printed
    assert f"made-up ratings; open {(out / 'report' / 'report.html').resolve()}" in printed
    assert json.loads((out / "study" / "audit.json").read_text("utf-8"))["passed"]
    analysis = json.loads((out / "report" / "analysis.json").read_text("utf-8"))
    assert analysis["verdict"]
