"""What only a GPU can show: every translation's step is one graph and does what plain steps do."""

import pytest
import torch
from safetensors.torch import load_file

from echodiff.runs import Run
from echodiff.training import graphs
from echodiff.training.graphs import NUM_WARM_UP, CudaGraph

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

METHODS = ("cyclegan", "cut", "patch_cgan", "regression", "srgan")
NUM_STEPS = 10


@pytest.fixture
def replays(monkeypatch):
    """The graph of every replay, in order."""
    seen = []
    real_replay = CudaGraph.replay

    def replay(self):
        seen.append(self)
        real_replay(self)

    monkeypatch.setattr(CudaGraph, "replay", replay)
    return seen


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("name", METHODS)
def test_the_whole_step_is_one_graph_and_does_what_plain_steps_do(
    echodiff, toy_flags, domains, tmp_path, replays, monkeypatch, name, precision
):
    folders = domains[:2] if name in {"patch_cgan", "srgan"} else domains
    flags = [*folders, *toy_flags[name], "--method", name, "--steps", NUM_STEPS, "--log-every", 1,
             "--mixed-precision", precision]  # fmt: skip
    assert echodiff("train-gan", *flags, "--out", tmp_path / "recorded") == 0
    assert len(replays) == NUM_STEPS - NUM_WARM_UP
    assert len(set(replays)) == 1
    monkeypatch.setattr(graphs, "can_capture", lambda *args, **kwargs: False)
    assert echodiff("train-gan", *flags, "--out", tmp_path / "plain") == 0
    rows = [Run.load(tmp_path / folder).read_metrics() for folder in ("recorded", "plain")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=5e-2 if precision == "bf16" else 5e-3, abs=1e-3)


def test_a_recorded_run_resumes_from_its_checkpoint(
    echodiff, toy_flags, domains, tmp_path, replays
):
    out = tmp_path / "run"
    flags = [*domains, *toy_flags["cyclegan"], "--out", out, "--steps", NUM_STEPS,
             "--checkpoint-every", 5]  # fmt: skip
    assert echodiff("train-gan", *flags) == 0
    before = load_file(out / "G_A.safetensors")
    assert len(replays) == NUM_STEPS - NUM_WARM_UP
    Run.load(out).update(status="running")
    (out / "checkpoints" / f"step-{NUM_STEPS:06d}").rename(out / "gone")
    (out / "G_A.safetensors").unlink()
    assert echodiff("train-gan", *flags) == 0  # from step 5
    assert len(replays) == NUM_STEPS - NUM_WARM_UP + 5 - NUM_WARM_UP
    for name, tensor in load_file(out / "G_A.safetensors").items():
        if tensor.ndim > 1:
            torch.testing.assert_close(tensor, before[name], rtol=1e-2, atol=1e-3)


def test_a_replayed_step_waits_for_nothing(echodiff, toy_flags, domains, tmp_path, monkeypatch):
    """Reading a value inside a step would break the recording: none of the methods does."""
    warnings = []
    monkeypatch.setattr(graphs.logger, "warning", lambda *args: warnings.append(args))
    flags = [*domains, *toy_flags["cut"], "--method", "cut", "--steps", NUM_STEPS]
    assert echodiff("train-gan", *flags, "--out", tmp_path / "run") == 0
    assert not warnings
