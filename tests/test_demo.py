"""`echodiff demo`: the real commands, in order, gone on with where they stopped."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from echodiff import demo
from echodiff.demo import (
    DemoConfig,
    Stage,
    choose_prompts,
    generation_stages,
    main,
    run_stage,
    training_stage,
    write_prompts,
)
from echodiff.diffusion.sampling.prompts import load_prompts
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.report.demo_page import build_demo_cards, gain_lines, write_demo_verdict
from echodiff.runs import Run
from echodiff.settings.command_line import run_main


@pytest.fixture
def run(tmp_path: Path, toy_frames: Path) -> Run:
    """A finished run over six captioned and six null-text frames, all held out."""
    run = Run.create(tmp_path / "demo" / "run", command="train_lora", config={})
    hashes = hash_frames(toy_frames, load_frames(toy_frames))
    run.finish(data_dir=str(toy_frames), held_out=list(hashes), frames=hashes, num_captioned=3)
    return run


def gain(value: float, low: float | None, high: float | None) -> dict[str, object]:
    return {"value": value, "low": low, "high": high, "n": 128, "first": 0.2, "second": 0.65}


# --- Stages -------------------------------------------------------------------------------------


def test_commands_are_the_two_scripts_as_a_user_types_them(tmp_path: Path) -> None:
    config = DemoConfig(out=Path("demo"), seed=3)
    stages = [
        training_stage(config, Path("demo/run")),
        *generation_stages(config, Path("demo/run"), Path("demo/held-out.txt"), 128),
    ]
    typed = [stage.typed for stage in stages]
    assert typed[0].startswith("accelerate launch ")
    assert typed[0].endswith("train_lora.py --config demo --out demo/run --seed 3")
    assert all(command.startswith("python ") for command in typed[1:])
    assert "--weights none" in typed[1]
    assert "--weights demo/run" in typed[2]
    assert "prompts/asd.txt" in typed[3]
    assert "--lora-scale 1.0 " in typed[2]
    assert all("--retries 5 " in command for command in typed[1:])
    with_lora = typed[2].replace("--lora-scale 1.0 ", "")
    for first, second in zip(typed[1].split(), with_lora.split(), strict=True):
        assert first == second or {first, second} in (
            {"none", "demo/run"},
            {"demo/base", "demo/lora"},
        )
    for stage in stages:
        assert stage.typed.endswith(" ".join(stage.flags))


def test_finished_stage_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = tmp_path / "generate.json"
    runs: list[Sequence[str]] = []
    stage = Stage("draw", runs.append, ["--seed", "1"], "python draw.py --seed 1", done)
    done.write_text("{}")
    run_stage(stage, 2)
    assert runs == [["--seed", "1"]]
    done.write_text('{"finished": true}')
    run_stage(stage, 2)
    assert "done before" in capsys.readouterr().out
    assert len(runs) == 1


def test_what_stops_a_stage_is_said_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "IMPORTED_MEANWHILE", ())
    stage = training_stage(DemoConfig(out=tmp_path / "demo"), tmp_path / "demo" / "run")
    stage = replace(stage, flags=[*stage.flags, "--rank", "0"])  # refused before torch is imported
    with pytest.raises(InputError, match=r"accelerate launch train_lora.py: stopped with status 1"):
        run_stage(stage, 1)
    printed = capfd.readouterr().err
    assert "error: --rank 0" in printed
    assert "Traceback" not in printed


def test_a_demo_that_overwrites_goes_on_with_its_own_stages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, bool]] = []
    kill_at = ""

    def run(script: Path, flags: Sequence[str]) -> None:
        out = Path(flags[flags.index("--out") + 1])
        if out.name == kill_at:
            raise KeyboardInterrupt
        calls.append((out.name, "--overwrite" in flags))
        seed = flags[flags.index("--seed") + 1]
        record = {"status": "finished", "finished": "now", "seed": seed}
        name = "run.json" if out.name == "run" else "generate.json"
        write_json_atomic(out / name, record)

    out = tmp_path / "demo"
    monkeypatch.setattr(demo, "launch", run)
    monkeypatch.setattr(demo, "call", run)
    monkeypatch.setattr(demo, "write_prompts", lambda *_: (out / "held-out.txt", 8))
    monkeypatch.setattr(demo, "compare", lambda *_: {})
    monkeypatch.setattr(demo, "report_demo", lambda *_: out / "report.html")
    begin = ["--out", str(out), "--seed"]
    main([*begin, "1"])
    assert calls == [(name, False) for name in ("run", "base", "lora", "asd")]

    calls, kill_at = [], "base"
    (out / "report.html").write_text("of seed 1")
    assert run_main(lambda: main([*begin, "2", "--overwrite"]), "echodiff demo") == 130
    assert calls == [("run", True)]
    assert not (out / "report.html").exists()

    calls, kill_at = [], ""
    capsys.readouterr()
    main([*begin, "2"])
    assert capsys.readouterr().out.count("done before") == 1
    assert calls == [(name, True) for name in ("base", "lora", "asd")]
    records = [out / "run" / "run.json", *out.glob("*/generate.json")]
    assert [json.loads(path.read_text())["seed"] for path in records] == ["2"] * 4
    assert "overwrite: false" in (out / "demo.yaml").read_text()


# --- Prompts ------------------------------------------------------------------------------------


def test_prompts_are_the_captions_of_the_held_out_frames(run: Run) -> None:
    config = DemoConfig(out=run.run_dir.parent)
    with pytest.raises(InputError, match="6 captioned held-out frames are too few"):
        write_prompts(config, run)
    assert not (config.out / "held-out.txt").exists()
    folder = Path(run.record["data_dir"])
    rows = (folder / "metadata.jsonl").read_text().replace('"text": ""', '"text": "normal heart"')
    (folder / "metadata.jsonl").write_text(rows)
    path, num_images = write_prompts(config, run)
    assert num_images == 12
    captions = [frame.text for frame in load_frames(folder)]
    assert [prompt.text for prompt in load_prompts(path)] == captions


def test_prompts_ask_often_enough_for_each_finding_to_judge_it_the_defect_first() -> None:
    normal, lvh, asd = "normal heart", "LVH", "small secundum ASD"
    captions = [*[normal] * 60, *[lvh] * 20, *[asd] * 20]
    assert choose_prompts(captions, 80) == [normal] * 48 + [lvh] * 16 + [asd] * 16
    assert choose_prompts(captions, 10) == [normal] * 6 + [lvh] * 2 + [asd] * 2
    assert choose_prompts([*[lvh] * 20, asd], 20) == [lvh] * 19 + [asd]
    assert choose_prompts(captions, 200) == captions


def test_a_demo_that_was_begun_before_retries_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "demo.yaml").write_text(f'out: "{out}"\nlora_scale: 1.0\n')
    with pytest.raises(InputError, match=r"holds a demo with another --retries"):
        demo._open_folder(DemoConfig(out=out))


# --- What is said -------------------------------------------------------------------------------


def test_cards_give_shares_before_and_after_and_whether_the_target_was_reached() -> None:
    cards = build_demo_cards({
        "intact_gain": gain(-0.04, -0.1, 0.02) | {"first": 0.9, "second": 0.86},
        "mmd_ratio_tiny": gain(0.23, 0.2, 0.3),
        "mmd_ratio_texture": gain(0.7, 0.6, 0.8),
        "faithfulness_gain": gain(0.45, 0.35, 0.55),
        "faithfulness_gain_asd": gain(-0.04, -0.1, 0.02) | {"second": 0.16},
        "specificity_gain": gain(-0.03, -0.08, 0.02) | {"first": 0.91, "second": 0.88},
    })  # fmt: skip
    assert [card.value for card in cards] == [
        "90 % → 86 %", "77 % nearer", "20 % → 65 %", "91 % → 88 %",
    ]  # fmt: skip
    assert [card.is_good for card in cards] == [True, False, True, None]
    intact, distance, faithfulness, specificity = cards
    assert intact.interval == "−4 points, 95 % interval −10 to +2, n 128"
    assert distance.interval == "ratio of MMD², 95 % interval 0.20 to 0.30, n 128"
    assert distance.note.startswith("In texture features: 30 % nearer (95 % interval 0.60 to 0.80")
    assert "Septal defects (ASD): 20 % → 16 %." in faithfulness.note
    assert specificity.note == "No significant difference."


def test_anatomy_that_was_chosen_is_no_merit_of_the_weights() -> None:
    firsts = {"first": 1.0, "second": 0.9, "first_draws": [0.625, 0.4875]}
    gains = {"intact_gain": gain(-0.1, -0.2, -0.05) | firsts}
    (card,) = build_demo_cards(gains)
    assert card.is_good is None
    assert card.note.endswith("Kept of the first draws: 62 % of the base, 49 % of the LoRA.")
    assert "intact" not in write_demo_verdict(gains)
    assert gain_lines(gains)[0].endswith("n 128, chosen by their anatomy")


@pytest.mark.parametrize(
    ("low", "high", "is_good"), [(-0.1, 0.1, None), (-0.2, -0.01, False), (0.01, 0.2, True)]
)
def test_specificity_is_coloured_only_if_its_interval_excludes_0(
    low: float, high: float, is_good: bool | None
) -> None:
    (card,) = build_demo_cards({"specificity_gain": gain((low + high) / 2, low, high)})
    assert card.is_good is is_good


def test_broken_hearts_are_a_missed_target_and_stand_in_the_verdict() -> None:
    gains = {
        "intact_gain": gain(-0.42, -0.55, -0.28) | {"first": 0.85, "second": 0.43},
        "mmd_ratio_tiny": gain(0.08, 0.03, 0.13),
        "mmd_ratio_texture": gain(0.9, 0.7, 1.1),
        "faithfulness_gain": gain(0.45, 0.35, 0.55),
    }
    assert build_demo_cards(gains)[0].is_good is False
    assert write_demo_verdict(gains) == (
        "After fine-tuning, the images are nearer to the reference (by 92 % in tiny features) and "
        "prompted findings are found more often (65 % instead of 20 %), but hearts are intact less "
        "often (43 % instead of 85 %)."
    )
    further = {"mmd_ratio_tiny": gain(1.5, 1.2, 1.9)}
    assert "farther from the reference (by 50 % in tiny features)" in write_demo_verdict(further)
    unsure = {"specificity_gain": gain(-0.01, -0.1, 0.1), "mmd_ratio_tiny": gain(0.5, None, None)}
    assert write_demo_verdict(unsure) == "These numbers of images show no significant change."


def test_a_ratio_around_0_is_not_called_near() -> None:
    gains = {
        "mmd_ratio_tiny": gain(-0.3, -1.2, 0.6),
        "mmd_ratio_texture": gain(0.03, -0.05, 0.1),
    }
    (card,) = build_demo_cards(gains)
    assert (card.value, card.is_good) == ("At least 40 % nearer", None)
    (near,) = build_demo_cards({"mmd_ratio_texture": gains["mmd_ratio_texture"]})
    assert (near.value, near.is_good) == ("At least 90 % nearer", True)
    (alone,) = build_demo_cards({"mmd_ratio_tiny": gain(-0.01, None, None)})
    assert (alone.value, alone.is_good) == ("About as near", None)
    lines = gain_lines({**gains, "faithfulness_gain": gain(0.0, -0.1, 0.1)})
    assert [line.endswith(", not distinguishable from 0") for line in lines] == [True, True, False]
    assert lines[2].split("  ")[0] == "Faithfulness, LoRA minus base"
    assert gain_lines({"faithfulness_gain_asd": gain(0.3, 0.1, 0.5)}) == []


# --- The folder ---------------------------------------------------------------------------------


def refuse(flags: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run_main(lambda: main(flags), "echodiff demo") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *((flag, "0") for flag in ("--num-images", "--num-asd", "--steps", "--max-steps")),
        *(("--phantom-frames", "0"), ("--guidance", "0.5"), ("--guidance", ".inf")),
        *(("--steps", "1001"), ("--seed", "-1")),
    ],
)
def test_what_no_stage_would_take_is_refused_before_any(
    tmp_path: Path, flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{flag}" in refuse(["--out", str(tmp_path / "demo"), flag, value], capsys)
    assert not (tmp_path / "demo").exists()


def test_places_that_hold_something_else_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert "is not empty and does not hold a demo" in refuse(["--out", str(tmp_path)], capsys)
    file = str(tmp_path / "thesis.txt")
    assert "is a file, not a folder" in refuse(["--out", file], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_another_demo_is_refused_and_names_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(tmp_path / "demo")]
    with monkeypatch.context() as patched:
        patched.setattr("echodiff.demo.run_stage", _stop)
        assert run_main(lambda: main([*out, "--seed", "1"]), "echodiff demo") == 130
        assert run_main(lambda: main([*out, "--seed", "1"]), "echodiff demo") == 130
    assert "holds a demo with another --seed" in refuse([*out, "--seed", "2"], capsys)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


# --- All of it ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_toy_demo_ends_with_a_report_and_is_done_when_started_again(
    tmp_path: Path,
    tiny_random_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--out", "demo", "--base", str(tiny_random_base), "--phantom-frames", "64"]
    flags += ["--max-steps", "4", "--num-images", "16", "--num-asd", "4", "--steps", "2"]
    main(flags)
    assert "open " in capfd.readouterr().out.splitlines()[-1]
    out = tmp_path / "demo"
    assert {path.name for path in out.iterdir()} == {
        "asd", "base", "demo.yaml", "held-out.txt", "lora", "metrics.json", "report.html", "run",
    }  # fmt: skip
    gains = json.loads((out / "metrics.json").read_text())["scores"]
    assert {"mmd_ratio_tiny", "mmd_ratio_texture", "faithfulness_gain"} <= set(gains)
    base, lora = load_frames(out / "base"), load_frames(out / "lora")
    assert [frame.prompt for frame in base] == [frame.prompt for frame in lora]
    assert base[0].weights != lora[0].weights
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "not for diagnosis" in report
    assert 'class="verdict"' in report
    assert "Reference (simulated)" in report
    assert (out / "run" / "report.html").is_file()

    start = time.monotonic()
    main(flags)
    assert time.monotonic() - start < 60
    assert capfd.readouterr().out.count("done before") == 4
