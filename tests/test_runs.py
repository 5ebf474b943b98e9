import errno
import json
import os
from pathlib import Path

import pytest
import yaml

from echodiff.errors import InputError
from echodiff.runs import (
    Run,
    compute_fingerprint,
    newest_finished_run,
    next_free,
    sha256_file,
    sha256_tree,
    versions,
)

CONFIG = {"rank": 8, "learning_rate": 9e-4, "out": "runs/a", "overwrite": False}


def create(out, **options):
    return Run.create(out, **({"command": "train_lora", "config": CONFIG} | options))


def test_a_new_run_holds_its_config_and_record(tmp_path):
    run = create(tmp_path / "a")
    assert sorted(p.name for p in run.run_dir.iterdir()) == ["config.yaml", "run.json"]
    assert yaml.safe_load((run.run_dir / "config.yaml").read_text())["rank"] == 8
    record = json.loads((run.run_dir / "run.json").read_text())
    assert record["status"] == "running"
    assert record["versions"]["numpy"]
    assert not run.is_resumable


def test_a_run_that_overwrote_does_not_ask_who_repeats_it_to(tmp_path):
    create(tmp_path / "a", config=CONFIG | {"overwrite": True}, overwrite=True)
    settings = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert set(settings) == set(CONFIG) - {"overwrite"}


def test_the_same_run_is_gone_on_with(tmp_path):
    create(tmp_path / "a").update(step=5)
    run = create(tmp_path / "a")
    assert run.is_resumable
    assert run.record["step"] == 5


def test_where_it_lies_does_not_tell_runs_apart(tmp_path):
    create(tmp_path / "a")
    assert create(tmp_path / "a", config=CONFIG | {"out": "elsewhere"}).is_resumable


@pytest.mark.parametrize(
    "options", [{"config": CONFIG | {"rank": 4}}, {"data": "other"}, {"command": "train_gan"}]
)
def test_another_run_is_refused(tmp_path, options):
    create(tmp_path / "a")
    with pytest.raises(InputError, match=r"a: is another run; --overwrite starts anew"):
        create(tmp_path / "a", **options)


def test_a_finished_run_is_refused_and_overwritten_when_told(tmp_path):
    run = create(tmp_path / "a")
    run.log(1, loss=0.5)
    (run.checkpoints / "step-000001").mkdir(parents=True)
    (run.checkpoints / "step-000001" / "state.json").write_text("{}")
    run.finish(weights_sha256="abc")
    with pytest.raises(InputError, match=r"a: is a finished run; --overwrite starts anew"):
        create(tmp_path / "a")
    assert not create(tmp_path / "a", overwrite=True).is_finished
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["config.yaml", "run.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_refused(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty and is no run folder"):
        create(tmp_path, overwrite=overwrite)
    with pytest.raises(InputError, match="is a file, not a folder"):
        create(tmp_path / "thesis.tex")


def test_a_folder_without_or_with_a_broken_record_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"is no run folder \(no run\.json\)"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: "):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match=r"run\.json: expected a JSON object"):
        Run.load(tmp_path)


def test_metrics_are_appended_and_rewound(tmp_path):
    run = create(tmp_path / "a")
    assert run.read_metrics() == []
    for step in (1, 2, 3):
        run.log(step, loss=1 / step)
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]
    run.rewind(2)
    run.log(3, loss=0.25)
    assert run.read_metrics()[-1] == {"step": 3, "loss": 0.25}
    assert len(run.metrics.read_text().splitlines()) == 3


def test_a_full_disk_keeps_the_old_record(tmp_path, monkeypatch):
    run = create(tmp_path / "a")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.json"):
        run.update(step=9)
    monkeypatch.undo()
    assert "step" not in run.record
    assert Run.load(tmp_path / "a").record == run.record
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_a_disk_full_at_the_first_file_leaves_no_run_behind(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        create(tmp_path / "a")
    monkeypatch.undo()
    assert not create(tmp_path / "a").is_resumable


def test_the_newest_finished_run(tmp_path):
    assert newest_finished_run(tmp_path / "runs") is None
    for name, finished in (("a", "2026-01-02"), ("b", "2026-01-03"), ("c", "2026-01-01")):
        run = create(tmp_path / "runs" / name)
        run.finish()
        run.update(finished=finished)
    create(tmp_path / "runs" / "unfinished")
    assert newest_finished_run(tmp_path / "runs") == tmp_path / "runs" / "b"
    assert newest_finished_run(tmp_path / "runs", "train_gan") is None


def test_next_free_counts_up(tmp_path):
    assert next_free(tmp_path, "asd") == tmp_path / "asd-1"
    (tmp_path / "asd-1").mkdir()
    assert next_free(tmp_path, "asd") == tmp_path / "asd-2"


def test_hashes_see_names_and_bytes_and_no_order(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("1")
    assert sha256_file(tmp_path / "a/x.txt") == (
        "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    )
    before = sha256_tree(tmp_path)
    (tmp_path / "a/.hidden").write_text("2")
    assert sha256_tree(tmp_path) == before
    (tmp_path / "a/x.txt").rename(tmp_path / "a/y.txt")
    assert sha256_tree(tmp_path) != before
    assert compute_fingerprint({"a": 1, "b": 2}) == compute_fingerprint({"b": 2, "a": 1})


def test_versions_name_what_decides_a_result():
    assert {"python", "torch", "diffusers", "peft", "echodiff"} <= set(versions())


def test_a_run_folder_may_be_given_as_text(tmp_path):
    create(tmp_path / "a")
    assert Run.load(Path(str(tmp_path / "a"))).record["command"] == "train_lora"
