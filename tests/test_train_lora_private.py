"""`train_lora.py --dp-epsilon`: what it prints, records and refuses, and what resuming it gives."""

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echodiff.diffusion import private_gradient
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.objective import build_noise_schedule, epsilon
from echodiff.diffusion.privacy_budget import Budget
from echodiff.diffusion.private_samples import PatientSamples
from echodiff.settings.command_line import parse
from echodiff.training.checkpoints import load_newest_checkpoint
from echodiff.training.keyed_stream import KEY_NAME, keyed_normal, keyed_uniform, open_key

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

WEIGHTS = "pytorch_lora_weights.safetensors"
PRIVATE = [
    *("--dp-epsilon", 8, "--dp-accountant", "rdp", "--max-steps", 6, "--log-every", 2),
    *("--checkpoint-every", 2, "--held-out-frames", 0),
]

TrainLora = Callable[..., None]
Refusal = Callable[..., str]


class StoppedError(Exception):
    """In the place of a kill."""


def test_a_private_run_says_what_it_spends_and_that_there_are_too_few_patients(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train_lora("--data", toy_frames, *PRIVATE, "--out", out, "--dp-draws", 2, "--ema-decay", 0.5)
    printed = capsys.readouterr().out
    record = json.loads((out / "run.json").read_text())
    spent = record["differential_privacy"]
    assert (spent["unit"], spent["num_patients"], spent["patients_per_step"]) == ("patient", 5, 2)
    assert (spent["accountant"], spent["noise"], spent["delta"]) == ("rdp", "secret", 1e-5)
    assert 7.8 < spent["epsilon"] <= 8
    ratio = spent["noise_multiplier"] * math.sqrt(spent["num_parameters"]) / 2
    assert spent["noise_to_signal"] == pytest.approx(ratio)
    assert f"the noise is {ratio:.3g} times the clip" in printed
    assert "5 patients are too few: the adapter will be noise" in printed
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    epsilons = {row["step"]: row["epsilon"] for row in rows if "epsilon" in row}
    assert list(epsilons) == [2, 4, 6]
    assert epsilons[2] < epsilons[4] < epsilons[6] == spent["epsilon"]
    # The norm is that of the noise: a patient's clipped gradient is a fiftieth of it.
    norms = [row["gradient_norm"] for row in rows if "gradient_norm" in row]
    assert norms == pytest.approx([ratio * 1e-4] * 3, rel=0.1)
    moved = load_file(out / WEIGHTS)
    assert all(bool(tensor.any()) for tensor in moved.values())
    assert not (out / "scratch").exists()  # and with it the key


def test_a_stopped_private_run_ends_with_the_same_bytes(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the key of the run, which stays in its scratch folder until it is finished."""
    flags = ["--data", toy_frames, *PRIVATE, "--ema-decay", 0.9, "--caption-dropout", 0.2]
    key = bytes(range(32))
    monkeypatch.setattr("secrets.token_bytes", lambda count: key[:count])
    train_lora(*flags, "--out", tmp_path / "straight")
    take, seen = private_gradient.PrivateGradient.take, []

    def stop_at(step: int) -> None:
        def stopping(self: Any, number: int, *given: Any) -> torch.Tensor:
            if number == step:
                raise StoppedError
            seen.append(number)
            return take(self, number, *given)

        monkeypatch.setattr(private_gradient.PrivateGradient, "take", stopping)

    for step in (1, 5):
        stop_at(step)
        with pytest.raises(StoppedError):
            train_lora(*flags, "--out", tmp_path / "stopped")
        # Whoever draws a new key now would draw another: the one that is there is kept.
        monkeypatch.setattr("secrets.token_bytes", lambda count: bytes(count))
    kept = np.load(tmp_path / "stopped" / "scratch" / KEY_NAME)
    assert kept.tobytes() == key
    assert (tmp_path / "stopped" / "scratch" / KEY_NAME).stat().st_mode & 0o077 == 0
    stop_at(-1)
    train_lora(*flags, "--out", tmp_path / "stopped")
    assert seen == [0, 0, 1, 2, 3, 4, 4, 5]
    for name in (WEIGHTS, "metrics.jsonl"):
        straight, stopped = (tmp_path / run / name for run in ("straight", "stopped"))
        assert straight.read_bytes() == stopped.read_bytes(), name


def test_a_run_is_not_gone_on_with_under_another_key(
    train_lora: TrainLora, refusal: Refusal, toy_frames: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, take = tmp_path / "run", private_gradient.PrivateGradient.take
    flags = ["--data", toy_frames, *PRIVATE, "--out", out]

    def stopping(self: Any, number: int, *given: Any) -> torch.Tensor:
        if number == 3:
            raise StoppedError
        return take(self, number, *given)

    monkeypatch.setattr(private_gradient.PrivateGradient, "take", stopping)
    with pytest.raises(StoppedError):
        train_lora(*flags)
    checkpoint = load_newest_checkpoint(out / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.tensors["privacy.sample_rate"] == 2 / 5
    (out / "scratch" / KEY_NAME).unlink()
    assert "begun with another key of its noise" in refusal(*flags)


def test_seeded_noise_is_repeated_by_everyone_who_knows_the_seed(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = set()
    for number in (1, 2):
        out = tmp_path / str(number)
        flags = ["--max-steps", 1, "--dp-noise", "seeded", "--out", out]
        train_lora("--data", toy_frames, *PRIVATE, *flags)
        weights.add((out / WEIGHTS).read_bytes())
    assert len(weights) == 1
    assert "who knows the seed can take the noise off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--gradient-checkpointing"], "--gradient-checkpointing: not together with --dp-epsilon"),
        (["--compile", "full"], "--compile: not together with --dp-epsilon"),
        (["--mixed-precision", "fp16"], "use bf16"),
        (["--init-from", "runs/lora-1"], "--init-from: not together with --dp-epsilon"),
        (["--membership-every", 2, "--membership-stop", 0.1], "--membership-stop: not together"),
        (["--dp-delta", 0.2], "--dp-delta 0.2: must be below 1 / 5"),
        (["--batch-size", 6], "there are 5"),
        (["--dp-epsilon", 0], "--dp-epsilon 0.0: must be above 0"),
        (["--dp-epsilon", 0.05], "too small for --dp-accountant rdp: take prv"),
    ],
)
def test_what_breaks_the_guarantee_is_refused_before_anything_is_written(
    refusal: Refusal, toy_frames: Path, tmp_path: Path, flags: list[object], reason: str
) -> None:
    out = tmp_path / "run"
    assert reason in refusal("--data", toy_frames, *PRIVATE, "--out", out, *flags)
    assert not out.exists()


def test_frames_whose_patient_is_not_known_are_refused(
    refusal: Refusal, toy_frames: Path, tmp_path: Path
) -> None:
    rows = [json.loads(row) for row in (toy_frames / "metadata.jsonl").read_text().splitlines()]
    for row in rows[:3]:
        del row["patient_id"]
    (toy_frames / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = refusal("--data", toy_frames, *PRIVATE, "--out", tmp_path / "run")
    assert "2 of 11 training frames have no patient_id, and the guarantee is for patients" in line
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_does_not_move_and_a_base_that_does_are_errors(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opacus issue 820: adapters that were silently not trained, or were corrupt."""
    flags = ["--data", toy_frames, *PRIVATE, "--max-steps", 1]
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.Adam, "step", lambda self: None)
        with pytest.raises(RuntimeError, match="the adapter has not moved"):
            train_lora(*flags, "--out", tmp_path / "still")
    take = private_gradient.PrivateGradient.take

    def disturb(self: Any, step: int, *given: Any) -> torch.Tensor:
        with torch.no_grad():
            self.network.conv_in.weight[0] += 1e-3
        return take(self, step, *given)

    monkeypatch.setattr(private_gradient.PrivateGradient, "take", disturb)
    with pytest.raises(RuntimeError, match="the base without its adapter has changed"):
        train_lora(*flags, "--out", tmp_path / "corrupt")
    assert not (tmp_path / "corrupt" / WEIGHTS).exists()


# --- draws


def make_draws(num_patients: int, *, rate: float, draws: int) -> PatientSamples:
    """Patient i has i + 1 frames, the first of each with a caption."""
    patients = tuple(f"p{i}" for i in range(num_patients) for _ in range(i + 1))
    count = len(patients)
    first = {patients.index(name) for name in patients}
    encoded = EncodedFrames(
        file_names=tuple(f"{row}.png" for row in range(count)),
        latent_mean=torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2),
        latent_std=torch.zeros(count, 1, 2, 2),
        caption_index=torch.tensor([int(row in first) for row in range(count)]),
        embeddings=torch.zeros(2, 3, 4),
        patients=patients,
    )
    budget = Budget(
        epsilon_asked=8.0, delta=1e-5, clip=1.0, noise_multiplier=1.0, num_patients=num_patients,
        patients_per_step=round(rate * num_patients), num_steps=10, num_parameters=1,
        accountant="rdp", noise="seeded",
    )  # fmt: skip
    objective = epsilon(build_noise_schedule({"num_train_timesteps": 1000}))
    config = TrainLoraConfig(dp_epsilon=8.0, dp_draws=draws, repeats=3)
    return PatientSamples(config, encoded, objective, budget, b"k" * 32)


def test_every_patient_is_drawn_at_the_same_rate_and_alone() -> None:
    """Poisson: counts of a step vary as they should, some steps are empty, no two patients meet
    more often than by chance, and a patient with many frames comes no more often."""
    samples, num_steps = make_draws(10, rate=0.2, draws=2), 4000
    seen = np.zeros((num_steps, 10))
    for step in range(num_steps):
        given, weights = samples.draw(step)
        assert len(weights) == len(given.times) == len(given.latents)
        rows = given.latents[:, 0, 0, 0].long().tolist()
        owners = [int((math.sqrt(8 * row + 1) - 1) / 2) for row in rows]
        assert owners[::2] == owners[1::2]  # both draws of one patient, side by side
        assert len(set(owners)) * 2 == len(owners)
        seen[step, owners] = 1
    error = math.sqrt(0.2 * 0.8 / num_steps)
    assert np.abs(seen.mean(axis=0) - 0.2).max() < 4 * error
    counts = seen.sum(axis=1)
    assert counts.var() == pytest.approx(10 * 0.2 * 0.8, rel=0.1)
    assert (counts == 0).mean() == pytest.approx(0.8**10, abs=0.02)
    assert np.abs(np.corrcoef(seen.T) - np.eye(10)).max() < 0.08


def test_a_patients_frames_are_drawn_by_their_repeats_and_times_are_spread() -> None:
    samples = make_draws(2, rate=1.0, draws=4)
    rows, times = [], []
    for step in range(1500):
        given, _ = samples.draw(step)
        rows += given.latents[4:, 0, 0, 0].tolist()
        times.append(sorted(given.times[4:].tolist()))
    # The second patient has a captioned frame, shown three times for one without a caption.
    assert np.mean(np.array(rows) == 1) == pytest.approx(3 / 4, abs=0.03)
    assert set(rows) == {1.0, 2.0}
    spread = np.array(times) // 250
    assert (spread == [0, 1, 2, 3]).all()


def test_an_empty_step_has_samples_of_the_right_shape() -> None:
    samples = make_draws(2, rate=0.5, draws=1)
    empty = next(step for step in range(100) if not len(samples.draw(step)[1]))
    given, weights = samples.draw(empty)
    assert given.latents.shape == given.noise.shape == (0, 1, 2, 2)
    assert given.embeddings.shape == (0, 3, 4)
    assert weights.shape == (0,)
    assert samples.file_names(empty) == []


# --- numbers of a key


def test_numbers_of_a_key_are_normal_and_another_key_purpose_or_step_gives_others(
    tmp_path: Path,
) -> None:
    from scipy.stats import kstest

    numbers = keyed_normal(b"a" * 32, "noise", 0, 20_000).numpy()
    assert kstest(numbers, "norm").pvalue > 0.01
    assert np.array_equal(numbers[:10], keyed_normal(b"a" * 32, "noise", 0, 20_000)[:10])
    for key, purpose, step in ((b"b", "noise", 0), (b"a", "other", 0), (b"a", "noise", 1)):
        others = keyed_normal(key * 32, purpose, step, 20_000).numpy()
        assert abs(np.corrcoef(numbers, others)[0, 1]) < 0.04
    uniform = keyed_uniform(b"a" * 32, "patients", 5, 20_000)
    assert kstest(uniform, "uniform").pvalue > 0.01
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert open_key(tmp_path) == open_key(tmp_path)
    assert open_key(tmp_path) != open_key(tmp_path / "other")


def test_the_commands_of_the_page_are_real() -> None:
    page = Path(__file__).parents[1] / "docs" / "differential_privacy.md"
    lines = re.findall(r"^python train_lora\.py ([^#\n]*)", page.read_text("utf-8"), re.MULTILINE)
    configs = [parse(TrainLoraConfig, shlex.split(line), prog="docs") for line in lines]
    assert [config.dp_epsilon for config in configs] == [8, None, None]
    assert configs[2].membership_stop == 0.05


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--dp-clip", "1"], "--dp-clip has no effect without --dp-epsilon"),
        (["--membership-pairs", "2"], "--membership-pairs has no effect without --membership-ever"),
        (["--dp-epsilon", "8", "--max-grad-norm", "2"],
         "--max-grad-norm has no effect with --dp-epsilon: --dp-clip bounds the gradient of each"),
    ],
)  # fmt: skip
def test_flags_without_effect_are_named(
    flags: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parse(TrainLoraConfig, flags, prog="train_lora.py")
    assert f"note: {line}" in capsys.readouterr().err
