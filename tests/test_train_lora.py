"""The real script at toy size: its files, its numbers, its resume, its refusals."""

import errno
import importlib.util
import json
import logging
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from echodiff.diffusion import base, dataset
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.runs import Run
from echodiff.settings.command_line import parse, run_main, save
from echodiff.training import loop

# diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of `copy=`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

WEIGHTS = "pytorch_lora_weights.safetensors"

HAS_8BIT = importlib.util.find_spec("bitsandbytes") is not None

TrainLora = Callable[..., None]

EVERYTHING = [
    *("--max-steps", 10, "--checkpoint-every", 3, "--log-every", 2, "--held-out-every", 4),
    *("--ema-decay", 0.9, "--caption-dropout", 0.2, "--gradient-accumulation", 2),
    *("--noise-offset", 0.1, "--min-snr-gamma", 5, "--lr-scheduler", "cosine", "--lr-warmup", 2),
]


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return Run.load(run_dir).read_metrics()


def read_curves(run_dir: Path) -> tuple[list[str], set[str]]:
    """Titles of the panels of `samples/losses.svg`, and every other text in it."""
    root = ET.parse(run_dir / "samples" / "losses.svg").getroot()
    texts = [str(element.text) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    titles = {name for row in metrics(run_dir) for name in row} - {"step"}
    return [text for text in texts if text in titles], {*texts} - titles


def test_run_folder_has_exactly_these_files(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train_lora(
        *("--data", toy_frames, "--out", out, "--max-steps", 4, "--checkpoint-every", 2),
        *("--sample-every", 2, "--sample-steps", 2, "--log-every", 2, "--tracker", "tensorboard"),
    )
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    events = {name for name in found if name.startswith("logs/")}
    assert events
    assert found - events == {
        "config.yaml",
        "run.json",
        "report.html",
        "metrics.jsonl",
        WEIGHTS,
        "pytorch_lora_weights_kohya.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
        "samples/step-000002.png",
        "samples/step-000004.png",
        "samples/losses.svg",
        "checkpoints/step-000002/tensors.safetensors",
        "checkpoints/step-000002/state.json",
        "checkpoints/step-000004/tensors.safetensors",
        "checkpoints/step-000004/state.json",
    }
    said = capsys.readouterr().out
    assert f"LoRA in {out / WEIGHTS}, report in {out / 'report.html'}" in said
    record = Run.load(out).record
    assert record["status"] == "finished"
    assert record["resolution"] == 32
    assert (record["num_captioned"], record["num_null_text"]) == (5, 5)
    assert len(record["held_out"]) == 2
    assert Path(record["data_dir"]) == toy_frames
    assert [row["step"] for row in metrics(out) if "loss" in row] == [2, 4]
    assert [row["step"] for row in metrics(out) if "held_out_loss" in row] == [0, 4]
    panels, values = read_curves(out)
    assert panels == ["loss", "gradient_norm", "held_out_loss"]
    assert values >= {"2", "4"}  # the steps logged
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('class="card"') == 4
    for text in ("The held-out loss", "Step 2", "Step 4", "checkpoint_every", "held-out loss</",
                 record["weights_sha256"], record["base_sha256"], "not for diagnosis"):  # fmt: skip
        assert text in page, text
    assert page.count("data:image/png;base64,") == 2
    # What a tracker publishes holds no path.
    published = "".join(p.read_text(errors="ignore") for p in out.glob("logs/**/*hparams*"))
    assert str(tmp_path) not in published
    assert "rank" in published


def test_loss_curves_are_drawn_at_the_end_and_again_when_a_run_is_continued(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = ["--data", toy_frames, "--out", out, "--log-every", 1]
    flags += ["--epochs", 9]
    train_lora(*flags, "--max-steps", 2)
    panels, values = read_curves(out)
    assert panels == ["loss", "gradient_norm", "held_out_loss"]
    assert "3" not in values
    train_lora(*flags, "--max-steps", 3, "--continue")
    assert "3" in read_curves(out)[1]


def test_samples_take_up_to_as_many_steps_as_the_noise_schedule_has(
    train_lora: TrainLora,
    toy_frames: Path,
    tiny_random_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short, out = tmp_path / "short", tmp_path / "run"
    shutil.copytree(tiny_random_base, short)
    config = short / "scheduler" / "scheduler_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(settings | {"num_train_timesteps": 50}), encoding="utf-8")
    flags = ["--data", toy_frames, "--base", short, "--out", out, "--max-steps", 1]
    line = refusal(train_lora, capsys, *flags, "--sample-steps", 51)
    assert "--sample-steps 51: the noise schedule of the base has 50" in line
    assert not out.exists()
    train_lora(*flags, "--sample-every", 1, "--num-samples", 1, "--sample-steps", 50)
    assert (out / "samples" / "step-000001.png").is_file()


def test_without_data_phantoms_are_written_into_the_run(
    train_lora: TrainLora, tmp_path: Path
) -> None:
    flags = ["--out", tmp_path / "run", "--max-steps", 1, "--sample-every", 0]
    train_lora(*flags, "--phantom-frames", 12)
    frames = load_frames(tmp_path / "run" / "frames")
    assert len(frames) == 12
    assert {frame.vendor for frame in frames} == {"cedar"}
    assert Run.load(tmp_path / "run").record["data_dir"] == "frames"
    train_lora(*flags, "--phantom-frames", 8, "--phantom-style", "aspen", "--overwrite")
    frames = load_frames(tmp_path / "run" / "frames")
    assert len(frames) == 8
    assert {frame.vendor for frame in frames} == {"aspen"}


def test_config_in_the_run_folder_gives_the_same_run(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path
) -> None:
    train_lora("--data", toy_frames, "--out", tmp_path / "a", "--max-steps", 2, "--rank", 2)
    again = ["--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b"]
    train_lora(*again)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


def test_repeating_an_overwriting_run_overwrites_nothing(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train_lora("--data", toy_frames, "--out", out, "--max-steps", 1, "--overwrite")
    before = (out / WEIGHTS).stat().st_mtime_ns
    capsys.readouterr()
    assert "is a finished run" in refusal(train_lora, capsys, "--config", out / "config.yaml")
    assert (out / WEIGHTS).stat().st_mtime_ns == before


class KilledError(Exception):
    pass


def train_until_killed(
    train_lora: TrainLora, monkeypatch: pytest.MonkeyPatch, at_step: int, *flags: object
) -> None:
    """Run, and die once a row of `metrics.jsonl` is written for `at_step`."""
    real_log = Run.log

    def log_and_die(self: Run, step: int, **values: float) -> None:
        real_log(self, step, **values)
        if step == at_step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", log_and_die)
        with pytest.raises(KilledError):
            train_lora(*flags)


def test_killed_and_resumed_is_not_killed(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    straight = tmp_path / "straight"
    train_lora("--data", toy_frames, "--out", straight, *EVERYTHING)
    assert "resuming" not in capsys.readouterr().out
    # With a checkpoint at 6, and twice before there is any.
    for killed_at, said in ((8, "resuming from step 6"), (2, ""), (0, "")):
        resumed = tmp_path / f"killed-at-{killed_at}"
        flags = ["--data", toy_frames, "--out", resumed, *EVERYTHING]
        train_until_killed(train_lora, monkeypatch, killed_at, *flags)
        assert (resumed / "scratch" / "latents.npy").is_file()
        assert Run.load(resumed).record["status"] == "running"
        assert metrics(resumed)[-1]["step"] == killed_at
        capsys.readouterr()
        torch.manual_seed(99)  # the process's own generator must not matter
        train_lora(*flags)
        captured = capsys.readouterr()
        out = captured.out
        assert said in out
        assert ("resuming" in out) == bool(said)
        assert "encoding" not in captured.err  # what was encoded was kept
        assert not (resumed / "scratch").exists()
        for name in (WEIGHTS, "metrics.jsonl"):
            assert (straight / name).read_bytes() == (resumed / name).read_bytes()


def test_the_adapter_learns_frames_it_has_not_seen(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = ["--epochs", 20, "--log-every", 50, "--learning-rate", 0.02, "--batch-size", 4]
    train_lora("--data", toy_frames, "--out", out, "--checkpoint-every", 0, *flags)
    losses = [row["held_out_loss"] for row in metrics(out) if "held_out_loss" in row]
    assert losses[-1] < 0.9 * losses[0]


def test_gradients_are_clipped_before_adam_sees_them(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real_step = torch.optim.Adam.step

    def spying_step(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        seen.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return real_step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spying_step)
    out = tmp_path / "run"
    flags = ["--max-grad-norm", 1e-4, "--max-steps", 3, "--log-every", 1]
    train_lora("--data", toy_frames, "--out", out, *flags)
    before = [row["gradient_norm"] for row in metrics(out) if "loss" in row]
    assert min(before) > 1e-3
    assert seen == pytest.approx([1e-4] * 3, rel=0.02)


def test_adams_state_and_the_adapter_are_float32_in_bf16(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `accelerate launch --mixed_precision bf16 train_lora.py` does: no flag of the script's.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    out = tmp_path / "run"
    train_lora("--data", toy_frames, "--out", out, "--max-steps", 2, "--checkpoint-every", 2)
    assert Run.load(out).record["mixed_precision"] == "bf16"
    assert 'mixed_precision: "auto"  # resolved: bf16\n' in (out / "config.yaml").read_text()
    tensors = load_file(out / "checkpoints" / "step-000002" / "tensors.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert any("exp_avg_sq" in name for name in tensors)
    assert {tensor.dtype for tensor in load_file(out / WEIGHTS).values()} == {torch.float32}


def test_begun_in_another_precision_is_refused(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--data", toy_frames, "--out", tmp_path / "run", "--max-steps", 4]
    with monkeypatch.context() as launched:
        launched.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        train_until_killed(train_lora, monkeypatch, 0, *flags)
    capsys.readouterr()
    line = refusal(train_lora, capsys, *flags)
    assert "begun with mixed precision bf16, this is no" in line
    assert Run.load(tmp_path / "run").record["mixed_precision"] == "bf16"


def test_begun_with_other_draws_is_refused(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run of an earlier version would go on with other noise than it began with."""
    out = tmp_path / "run"
    flags = ["--data", toy_frames, "--out", out, "--max-steps", 4]
    flags += ["--checkpoint-every", 1, "--log-every", 1]
    train_until_killed(train_lora, monkeypatch, 2, *flags)
    record = json.loads((out / "run.json").read_text())
    assert record["draws"] == "philox"
    assert record["float32"] == "ieee"
    del record["draws"]
    (out / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert "run: was begun by a version that drew other noise" in refusal(
        train_lora, capsys, *flags
    )


def test_loss_that_is_no_number_names_step_and_frames(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_encode = dataset.encode_set

    def encode_with_a_hole(*args: Any, **kwargs: Any) -> Any:
        encoded, held_out = real_encode(*args, **kwargs)
        encoded.latent_mean[3] = torch.nan
        bad.append(encoded.file_names[3])
        return encoded, held_out

    bad: list[str] = []
    monkeypatch.setattr(dataset, "encode_set", encode_with_a_hole)
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"step (\d+): loss is nan on frames") as caught:
        train_lora("--data", toy_frames, "--out", out, "--checkpoint-every", 1, "--log-every", 50)
    assert bad[0] in str(caught.value)
    step = int(str(caught.value).split(":")[0].removeprefix("step "))
    assert Run.load(out).record["status"] == "running"
    saved = [p for p in (out / "checkpoints").glob("step-*") if int(p.name[5:]) >= step]
    assert not saved


def test_loss_is_read_only_when_logged(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    real_read = loop.read_values

    def counting_read(progress: Any, *rest: Any) -> None:
        reads.append(len(progress.unread))
        real_read(progress, *rest)

    monkeypatch.setattr(loop, "read_values", counting_read)
    flags = ["--max-steps", 8, "--log-every", 4, "--checkpoint-every", 0]
    train_lora("--data", toy_frames, "--out", tmp_path / "run", *flags)
    assert reads == [4, 4]


def test_16_bit_frames_train(train_lora: TrainLora, toy_frames: Path, tmp_path: Path) -> None:
    for path in (toy_frames / "images").glob("*.png"):
        grey = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(grey * 16).save(path)
    train_lora("--data", toy_frames, "--out", tmp_path / "run", "--max-steps", 1)
    assert Run.load(tmp_path / "run").is_finished


def test_gradient_checkpointing_gives_the_same_adapter(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path
) -> None:
    flags = ["--data", toy_frames, "--max-steps", 2]
    train_lora(*flags, "--out", tmp_path / "plain")
    train_lora(*flags, "--out", tmp_path / "frugal", "--gradient-checkpointing")
    plain, frugal = (load_file(tmp_path / name / WEIGHTS) for name in ("plain", "frugal"))
    for name, tensor in plain.items():
        torch.testing.assert_close(frugal[name], tensor)


def test_without_out_the_next_free_folder_is_taken(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_lora("--data", toy_frames, "--max-steps", 1)
    train_lora("--data", toy_frames, "--max-steps", 1)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["lora-1", "lora-2"]
    Run.load(tmp_path / "runs" / "lora-1").update(status="running")
    train_lora("--data", toy_frames, "--max-steps", 1)  # goes on with lora-1
    assert Run.load(tmp_path / "runs" / "lora-1").is_finished
    assert not (tmp_path / "runs" / "lora-3").exists()


def test_memory_is_stated_and_nothing_is_written(
    train_lora: TrainLora,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    train_lora("--memory", "--sample-every", 5, "--batch-size", 4, "--gradient-checkpointing")
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("peak memory")
    peaks = [line.rsplit(maxsplit=2) for line in lines]
    assert [what.strip() for what, _, _ in peaks] == [
        "encoding a frame",
        "a training step",
        "drawing samples",
    ]
    assert all(0.001 < float(peak) < 64 and unit == "GiB" for _, peak, unit in peaks)
    assert not list(tmp_path.iterdir())


# --- bad input: one line, status 2, nothing half-written


def refusal(train_lora: TrainLora, capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    status = run_main(lambda: train_lora(*flags), "train_lora.py")
    printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
    lines = [
        line
        for line in printed
        if line.strip() and not line.endswith("/s)") and not line.startswith("note: ")
    ]
    assert status == 2
    assert len(lines) == 1, lines
    assert "error: " in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--rank", "0"], "--rank 0"),
        (["--learning-rate", "-1e-4"], "--learning-rate"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--caption-dropout", "1.5"], "--caption-dropout 1.5"),
        (["--ema-decay", "1"], "--ema-decay 1"),
        (["--rank", "many"], "--rank"),
        (["--flip", "true"], "--flip"),
        (["--lr-scheduler", "magic"], "--lr-scheduler"),
        (["--tracker", "nobody"], "--tracker nobody"),
        (["--compile", "most"], "--compile"),
        (["--optimizer", "sgd"], "--optimizer"),
        pytest.param(
            ["--optimizer", "adam8bit"],
            "--optimizer adam8bit: needs the package bitsandbytes: pip install 'echodiff[gpu]'",
            marks=pytest.mark.skipif(HAS_8BIT, reason="bitsandbytes is installed here"),
        ),
        (["--resolution", "33"], "--resolution 33"),
        (["--sample-steps", "1001"], "--sample-steps 1001: must be 1000 or less"),
        (["--base", "nowhere/at/all"], "--base nowhere/at/all"),
        (["--base", "model.ckpt"], "--base model.ckpt"),
        (["--phantom-style", "oak"], "--phantom-style oak: not one of aspen, birch"),
        (["--data", "nowhere"], "nowhere"),
        (["--config", "nothing"], "nothing"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    named: str,
) -> None:
    out = tmp_path / "run"
    assert named in refusal(train_lora, capsys, "--data", toy_frames, "--out", out, *flags)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learning_rate: .nan\n", "learning_rate"),
        ("rank: 0\n", "rank"),
        ("rnak: 8\n", "rnak"),
        ("- 1\n", "key: value"),
    ],
)
def test_bad_yaml_is_one_line(
    train_lora: TrainLora, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    line = refusal(train_lora, capsys, "--config", path, "--out", tmp_path / "run")
    assert named in line
    assert not (tmp_path / "run").exists()


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_a_picture(frames: Path) -> None:
    tear(frames / "images" / "0002.png")


def cut_a_jpeg(frames: Path) -> None:
    picture = frames / "images" / "0002.png"
    Image.open(picture).save(picture.with_suffix(".jpg"))
    tear(picture.with_suffix(".jpg"))
    picture.unlink()
    edit_rows(frames, '"images/0002.png"', '"images/0002.jpg"')


def lose_a_picture(frames: Path) -> None:
    (frames / "images" / "0002.png").unlink()


def add_a_picture(frames: Path) -> None:
    (frames / "images" / "0099.png").write_bytes((frames / "images" / "0002.png").read_bytes())


def forget_null_text(frames: Path) -> None:
    edit_rows(frames, '"text": "", ', "")


def edit_rows(frames: Path, old: str, new: str) -> None:
    rows = (frames / "metadata.jsonl").read_text(encoding="utf-8")
    assert old in rows
    (frames / "metadata.jsonl").write_text(rows.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (cut_a_picture, "0002.png"),
        (cut_a_jpeg, "0002.jpg"),
        (lose_a_picture, "images/0002.png: has a row but no image"),
        (add_a_picture, "0099.png: image without a row"),
        (
            forget_null_text,
            'metadata.jsonl, line 7: key "text" is missing (the empty prompt is "")',
        ),
    ],
)
def test_broken_data_is_one_line_and_leaves_nothing(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    named: str,
) -> None:
    spoil(toy_frames)
    out = tmp_path / "run"
    assert named in refusal(train_lora, capsys, "--data", toy_frames, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_a_base_cut_short_is_one_line_and_leaves_nothing(
    train_lora: TrainLora,
    toy_frames: Path,
    tiny_random_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(tiny_random_base, torn)
    (weights,) = (torn / part).glob("*.safetensors")
    tear(weights)
    flags = ["--data", toy_frames, "--out", tmp_path / "run", "--base", torn]
    line = refusal(train_lora, capsys, *flags)
    assert f"--base {weights}: not a safetensors file" in line
    assert not (tmp_path / "run").exists()


def test_a_pickle_called_safetensors_is_one_line_and_is_not_opened(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disguised = tmp_path / "model.safetensors"
    torch.save({"weight": torch.zeros(2)}, disguised)
    flags = ["--data", toy_frames, "--out", tmp_path / "run", "--base", disguised]
    assert f"--base {disguised}: not a safetensors" in refusal(train_lora, capsys, *flags)
    assert not (tmp_path / "run").exists()


def test_frames_that_overwrite_would_clear_are_refused(
    train_lora: TrainLora, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train_lora("--out", out, "--max-steps", 1, "--phantom-frames", 12)
    capsys.readouterr()
    flags = ["--data", out / "frames", "--out", out, "--overwrite"]
    assert "lies inside --out, which --overwrite clears" in refusal(train_lora, capsys, *flags)
    assert len(load_frames(out / "frames")) == 12
    assert Run.load(out).is_finished


def test_a_place_that_may_not_be_written_is_one_line(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_mkdir = Path.mkdir

    def forbid(self: Path, *args: Any, **kwargs: Any) -> None:
        if self == tmp_path / "run":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        real_mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", forbid)  # a superuser may write anywhere
    line = refusal(train_lora, capsys, "--data", toy_frames, "--out", tmp_path / "run")
    assert "Permission denied" in line
    assert str(tmp_path / "run") in line
    assert not (tmp_path / "run").exists()


def test_out_that_is_full_or_unusable_is_refused(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", toy_frames, "--max-steps", 1]
    out = tmp_path / "run"
    train_lora(*flags, "--out", out)
    before = (out / WEIGHTS).read_bytes()
    capsys.readouterr()
    line = refusal(train_lora, capsys, *flags, "--out", out)
    assert "finished run" in line
    assert "--overwrite" in line
    line = refusal(train_lora, capsys, *flags, "--out", out, "--rank", 2)
    assert "another run" in line
    assert (out / WEIGHTS).read_bytes() == before
    assert "is not a run folder" in refusal(train_lora, capsys, *flags, "--out", toy_frames)
    line = refusal(train_lora, capsys, *flags, "--out", out / WEIGHTS / "below")
    assert WEIGHTS in line
    train_lora(*flags, "--out", out, "--rank", 2, "--overwrite")
    assert Run.load(out).is_finished


def test_a_disk_that_fills_up_is_one_line_naming_the_file(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full_disk(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    flags = ["--data", toy_frames, "--out", tmp_path / "run", "--checkpoint-every", 2]
    line = refusal(train_lora, capsys, *flags)
    assert "tensors.safetensors: No space left on device" in line
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


# --- presets


def test_cmc2024_holds_every_figure_of_the_paper() -> None:
    config = parse(TrainLoraConfig, ["--config", "cmc2024"], prog="train_lora.py")
    assert config.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert (config.rank, config.learning_rate, config.batch_size, config.epochs) == (8, 9e-4, 2, 4)
    assert (config.annotated, config.regularization) == (40, 400)


def test_every_line_of_cmc2024_says_whose_it_is() -> None:
    path = Path(__file__).parent.parent / "echodiff" / "presets" / "cmc2024.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    assert len(settings) == len(yaml.safe_load(path.read_text(encoding="utf-8")))
    for line in settings:
        assert line.split("#")[1].strip().startswith(("paper", "ours")), line


@pytest.mark.parametrize(
    ("given", "preset"),
    [
        ([], ["--config", "demo"]),
        (["--data", "frames"], []),
        (["--base=tiny"], []),
    ],
)
def test_no_argument_is_the_demo_preset_and_a_base_or_data_of_ones_own_the_defaults(
    given: list[str],
    preset: list[str],
    train_script: ModuleType,
    tiny_random_base: Path,
    toy_frames: Path,
    tmp_path: Path,
    fresh_accelerate: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "find_base", lambda name: tiny_random_base)
    few = ["--max-steps", "1", "--phantom-frames", "12", "--sample-every", "0", "--threads", "1"]
    few += ["--resolution", "32", "--out", "run"]
    train_script.main([*given, *few])
    save(parse(TrainLoraConfig, [*preset, *given, *few], prog="expected"), tmp_path / "expected")
    expected = yaml.safe_load((tmp_path / "expected").read_text(encoding="utf-8"))
    found = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert found | {"overwrite": False} == expected
    assert found["learning_rate"] == (2.2e-3 if preset == ["--config", "demo"] else 9e-4)


def test_help_says_what_no_argument_means(
    train_script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train_script.main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "Without --config, --base and --data, the preset demo" in printed
    assert "highest (above 0). (default: 0.0009)" in printed


def test_config_and_flags_carry_no_flip() -> None:
    """A mirrored heart is another diagnosis: there is no such option."""
    names = " ".join(vars(TrainLoraConfig()))
    assert "flip" not in names
    assert "mirror" not in names


def test_metrics_are_json_lines(train_lora: TrainLora, toy_frames: Path, tmp_path: Path) -> None:
    train_lora("--data", toy_frames, "--out", tmp_path / "run", "--max-steps", 3, "--log-every", 1)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [set(row) for row in rows[1:4]] == [
        {"step", "loss", "gradient_norm", "learning_rate"}
    ] * 3


def test_long_caption_warns_and_trains(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = toy_frames / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["text"] = "septum " * 500
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        train_lora("--data", toy_frames, "--out", tmp_path / "run", "--max-steps", 1)
    assert "1 of 6 captions are longer than the 77 tokens" in caplog.text
