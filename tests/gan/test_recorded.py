"""A recorded step is the step: the graph's place is taken by a tape, the GPU's by the CPU."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file

from echodiff.gan import trainer
from echodiff.gan.methods import build
from echodiff.gan.networks.generators import PatchProjection
from echodiff.gan.trainer import COMPILE_FROM_STEPS, choose_compile
from echodiff.runs import Run
from echodiff.training import graphs
from echodiff.training.graphs import NO_GRAPH, NUM_WARM_UP

METHODS = ("cyclegan", "cyclegan_batch", "cut", "patch_cgan", "regression", "srgan")
NUM_STEPS = 7


@pytest.fixture
def on_tape(monkeypatch, tape):
    """Training records its steps, with Adam as it is on CUDA but for the device."""

    def build_fused(config, parameters, rate, device, *, is_captured):
        place = torch.tensor(rate)
        return torch.optim.Adam(parameters, lr=place, betas=(config.beta1, 0.999), fused=True)

    monkeypatch.setattr(build, "build_adam", build_fused)
    monkeypatch.setattr(graphs, "can_capture", lambda *args, **kwargs: True)
    monkeypatch.setattr(trainer, "CudaGraph", tape)
    return tape.made


def folders_of(name, domains):
    return domains[:2] if name in {"patch_cgan", "srgan"} else domains


@pytest.mark.parametrize("name", METHODS)
def test_a_recorded_step_is_the_step(
    echodiff, toy_flags, domains, tmp_path, on_tape, monkeypatch, name
):  # fmt: skip
    method = name.removesuffix("_batch")
    flags = [*folders_of(name, domains), *toy_flags[name], "--method", method, "--epochs", 1,
             "--decay-epochs", 1, "--steps", NUM_STEPS, "--log-every", 1]  # fmt: skip
    assert echodiff("train-gan", *flags, "--out", tmp_path / "recorded") == 0
    assert [one.num_replays for one in on_tape] == [NUM_STEPS - NUM_WARM_UP]
    monkeypatch.setattr(graphs, "can_capture", lambda *args, **kwargs: False)
    assert echodiff("train-gan", *flags, "--out", tmp_path / "plain") == 0
    assert len(on_tape) == 1
    rows = [Run.load(tmp_path / folder).read_metrics() for folder in ("recorded", "plain")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    for file in (tmp_path / "plain").glob("*.safetensors"):
        recorded = load_file(tmp_path / "recorded" / file.name)
        for key, tensor in load_file(file).items():
            # Biases before a norm have no gradient but rounding, which Adam takes for a direction.
            if tensor.ndim > 1 or not tensor.is_floating_point():
                torch.testing.assert_close(recorded[key], tensor, rtol=1e-3, atol=1e-5)


def test_a_recorded_run_resumes_from_its_checkpoint(
    echodiff, toy_flags, domains, tmp_path, on_tape
):
    out = tmp_path / "run"
    flags = [*domains, *toy_flags["cyclegan"], "--out", out, "--steps", NUM_STEPS,
             "--checkpoint-every", 4]  # fmt: skip
    assert echodiff("train-gan", *flags) == 0
    before = (out / "G_A.safetensors").read_bytes()
    Run.load(out).update(status="running")
    assert echodiff("train-gan", *flags) == 0  # from step 4: plain steps where it replayed before
    assert [one.num_replays for one in on_tape] == [NUM_STEPS - NUM_WARM_UP, 0]
    assert (out / "G_A.safetensors").read_bytes() == before


def test_mirrored_steps_are_not_recorded(
    echodiff, toy_flags, domains, tmp_path, monkeypatch, caplog
):
    """The warning of a GPU; on a CPU there is nothing to record, and nothing to say."""
    said = {}

    def can_capture(accelerator, *, obstacle=None):
        said["obstacle"] = obstacle
        return False

    monkeypatch.setattr(graphs, "can_capture", can_capture)
    flags = [*toy_flags["cut"], "--method", "cut", "--steps", 1]
    echodiff("train-gan", *domains, *flags, "--out", tmp_path / "a", "--flip-equivariance")
    assert "--flip-equivariance" in said["obstacle"]
    echodiff("train-gan", *domains, *flags, "--out", tmp_path / "b")
    assert said["obstacle"] is None


def test_what_cannot_be_captured_goes_on_with_one_warning(
    echodiff, toy_flags, domains, tmp_path, tape, monkeypatch, caplog
):
    """Adam as it is on a CPU looks at its step's number: the recording breaks in the middle."""
    flags = [*domains, *toy_flags["cyclegan"], "--steps", 5]
    assert echodiff("train-gan", *flags, "--out", tmp_path / "plain") == 0
    monkeypatch.setattr(graphs, "can_capture", lambda *args, **kwargs: True)
    monkeypatch.setattr(trainer, "CudaGraph", tape)
    with caplog.at_level(logging.WARNING):
        assert echodiff("train-gan", *flags, "--out", tmp_path / "broken") == 0
    assert [record.message for record in caplog.records if NO_GRAPH in record.message] == [
        f"{NO_GRAPH}: the capture failed: operation not permitted when stream is capturing"
    ]
    weights = [(tmp_path / name / "G_A.safetensors").read_bytes() for name in ("plain", "broken")]
    assert weights[0] == weights[1]


def test_only_a_long_run_on_cuda_is_compiled():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_compile("auto", cuda, COMPILE_FROM_STEPS) == "regional"
    assert choose_compile("auto", cuda, COMPILE_FROM_STEPS - 1) == "none"
    assert choose_compile("auto", cpu, COMPILE_FROM_STEPS) == "none"
    assert choose_compile("regional", cpu, 1) == "regional"


def test_a_compiler_that_fails_within_a_step_leaves_no_trace(
    echodiff, toy_flags, domains, tmp_path, monkeypatch, caplog
):
    """The discriminator has had its update by then; the step is begun anew without it."""
    flags = [*domains, *toy_flags["cut"], "--method", "cut", "--steps", 2]
    assert echodiff("train-gan", *flags, "--out", tmp_path / "plain") == 0
    monkeypatch.setattr(trainer, "compile_network", lambda net, how: None)
    forward, calls = PatchProjection.forward, []

    def fail_once(self, *args):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no compiler here")
        return forward(self, *args)

    monkeypatch.setattr(PatchProjection, "forward", fail_once)
    with caplog.at_level(logging.WARNING):
        assert echodiff("train-gan", *flags, "--out", tmp_path / "b", "--compile", "regional") == 0
    assert "--compile regional failed, going on without: no compiler here" in caplog.text
    for name in "GDF":
        weights = [(tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("plain", "b")]
        assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cyclegan", "cut"])
def test_compiled_training_ends_where_plain_training_does(
    echodiff, toy_flags, domains, tmp_path, name
):
    flags = [*domains, *toy_flags[name], "--method", name, "--steps", 2, "--log-every", 1]
    for compiled in ("none", "regional"):
        out = tmp_path / compiled
        assert echodiff("train-gan", *flags, "--out", out, "--compile", compiled) == 0
    plain, ours = (
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("none", "regional")
    )
    for row, compiled in zip(plain, ours, strict=True):
        assert compiled == pytest.approx(row, rel=1e-3)
