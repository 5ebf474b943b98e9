"""Pushed, fetched, and drawn with again: the same bytes, the same images."""

import json
import re
import shlex
from pathlib import Path

import pytest

from echodiff.__main__ import main
from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.hub.pull import PullConfig
from echodiff.hub.push import PushConfig
from echodiff.images import read_image_u8
from echodiff.runs import Run, sha256_file
from echodiff.settings.command_line import parse, run_main

pytestmark = [
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    # huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def draw(fresh_accelerate, finished, load_script):
    """`draw(out, *flags)` -> hash of every image drawn with these flags of generate.py."""
    script = load_script("generate.py")

    def run(out, *flags):
        fresh_accelerate()
        argv = ["--prompt-file", str(finished / "two.txt"), "--num-images", "3", "--steps", "2",
                "--features", "texture", "--seed", "7", "--base", str(finished / "base"),
                "--reference", "runs/ours", "--out", out, *flags]  # fmt: skip
        assert run_main(lambda: script.main(argv), "generate.py") == 0
        return [sha256_file(path) for path in sorted(Path(out, "images").iterdir())]

    return run


def test_what_was_pushed_draws_the_same_images(push, hub, place, scored, draw, capsys):
    here = draw("here", "--weights", "runs/ours")
    assert push(*scored, "--yes")[0] == 0
    head = hub.repos["model", "jane/hearts"].head
    assert draw("of-hub", "--weights", "hub:jane/hearts@main") == here
    job = json.loads((place / "of-hub/generate.json").read_text())
    assert job["weights"] == f"hub:jane/hearts@{head}"

    assert main(["pull", "jane/hearts"]) == 0
    assert "hub:jane/hearts at " in capsys.readouterr().out
    pulled = place / "runs/hearts"
    up = place / "push/hearts"
    assert {p.name: p.read_bytes() for p in pulled.iterdir()} == {
        p.name: p.read_bytes() for p in up.iterdir()
    }
    assert not any(path.is_symlink() for path in pulled.iterdir())
    run = Run.load(pulled)
    assert run.record["weights_sha256"] == Run.load(place / "runs/ours").record["weights_sha256"]

    assert main(["pull", "jane/hearts"]) == 2
    assert "exists already; --overwrite replaces an earlier pull" in capsys.readouterr().err
    assert main(["pull", f"hub:jane/hearts@{head}", "--overwrite"]) == 0


def test_a_set_comes_back_as_a_frames_folder(push, hub, place, capsys):
    assert push("--dataset", "generated/asd-1", "--yes", repo="jane/drawn")[0] == 0
    assert main(["pull", "jane/drawn", "--dataset"]) == 0
    ours, theirs = place / "generated/asd-1/images", place / "frames/drawn/images"
    assert {p.name: p.read_bytes() for p in ours.iterdir()} == {
        p.name: p.read_bytes() for p in theirs.iterdir()
    }
    capsys.readouterr()
    assert main(["check", "frames/drawn", "--no-text", "--workers", "1"]) in {0, 1}
    assert "identifier" not in capsys.readouterr().out
    assert main(["pull", "jane/drawn", "--out", "x"]) == 2  # a data set is no model
    assert not (place / "x").exists()


def test_a_data_set_of_a_hub_becomes_a_frames_folder(push, hub, place, capsys, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", place / "datasets-cache")
    assert push("--dataset", "generated/asd-1", "--yes", repo="jane/drawn")[0] == 0
    argv = ["prepare", "dataset", "hub:jane/drawn@main", "--out", "again", "--workers", "1"]
    with pytest.warns(UserWarning, match="no column patient_id"):
        assert main([*argv, "--text", "keep", "--keep-doppler"]) == 0
    ours, again = load_frames(place / "generated/asd-1"), load_frames(place / "again")
    assert [frame.text for frame in again] == [frame.text for frame in ours]
    assert {frame.source for frame in again} == {"drawn"}
    for before, after in zip(ours, again, strict=True):
        one = read_image_u8(place / "generated/asd-1" / before.file_name)
        assert (read_image_u8(place / "again" / after.file_name) == one).all()
    capsys.readouterr()
    assert main([*argv[:2], "hub:jane/other", "--out", "none"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("echodiff prepare dataset: error: hub:jane/other: no such repository")
    assert err.count("\n") == 1
    assert not (place / "none").exists()


def test_the_first_commands_of_the_page_work_word_for_word(
    hub, place, finished, load_script, fresh_accelerate
):
    page = (README.parent / "docs/hub.md").read_text("utf-8").split("\n## ")[0]
    (block,) = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines() if line]
    assert [words[:2] for words in lines] == [
        ["echodiff", "push"], ["echodiff", "push"], ["echodiff", "pull"],
        ["python", "generate.py"], ["echodiff", "push"],
    ]  # fmt: skip
    (place / "prompts").symlink_to(shipped("prompts"))
    for words in lines:
        if words[0] == "echodiff":
            assert main(words[1:]) == 0, words
        else:
            fresh_accelerate()
            small = ["--num-images", "2", "--steps", "1", "--features", "texture",
                     "--base", str(finished / "base"), "--reference", "runs/ours",
                     "--out", "drawn"]  # fmt: skip
            script = load_script("generate.py")
            assert run_main(lambda: script.main([*words[2:], *small]), "generate.py") == 0  # noqa: B023
    assert {kind for kind, _ in hub.repos} == {"model", "dataset"}
    assert (place / "runs/hearts/pytorch_lora_weights.safetensors").is_file()
    assert all(repo.is_private for repo in hub.repos.values())


def test_the_commands_of_the_page_are_real():
    page = (README.parent / "docs/hub.md").read_text("utf-8")
    lines = re.findall(r"^(?:`)?(echodiff (?:push|pull) [^`\n]+)", page, re.MULTILINE)
    kinds = {"push": PushConfig, "pull": PullConfig}
    parsed = [shlex.split(line, comments=True) for line in lines]
    assert len(parsed) >= 4
    for words in parsed:
        if "--help" not in words:
            assert parse(kinds[words[1]], words[2:], prog="docs")
