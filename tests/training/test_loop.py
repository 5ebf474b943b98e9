"""The loop by itself, with a trainer of one number: what it logs, saves, resumes and refuses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from echodiff.errors import InputError
from echodiff.runs import Run
from echodiff.training.checkpoints import Checkpoint, load_newest_checkpoint
from echodiff.training.loop import Intervals, train
from echodiff.training.trackers import Curves


class Counter:
    """Adds the learning rate at every step; its two values are the sum and the step."""

    names = ("sum", "gradient_norm")

    def __init__(self, num_steps: int, rate: Callable[[int], float] = lambda step: 1.0) -> None:
        self.num_steps, self.learning_rate = num_steps, rate
        self.value = torch.zeros(1)
        self.values: dict[int, float] = {}

    def run(self, step: int) -> torch.Tensor:
        self.value += self.learning_rate(step)
        return torch.tensor([self.values.get(step, float(self.value)), float(step)])

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}

    def restore(self, checkpoint: Checkpoint) -> None:
        self.value = checkpoint.tensors["value"]

    @contextmanager
    def averaged(self) -> Iterator[float]:
        yield float(self.value)

    def frames_of(self, step: int) -> str:
        return f"frame {step}"


class Look:
    """Logs what it sees."""

    def __init__(self, every: int, *, has_start: bool = False) -> None:
        self.every, self.has_start = every, has_start

    def __call__(self, trained: float, step: int) -> dict[str, float]:
        return {"seen": trained}


def take(
    folder: Path, trainer: Counter, *callbacks: Look, checkpoint: tuple[int, ...] = (2,)
) -> list[dict[str, Any]]:
    """Train in `folder`; the rows of its curves."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    config = {"num_steps": trainer.num_steps}
    options: dict[str, Any] = {"command": "toy", "config": config, "extended": ("num_steps",)}
    run = Run.create(folder, **options)
    curves = Curves(run, accelerator, project="toy", config=trainer)
    intervals = Intervals(3, checkpoint, "all")
    train(trainer, run, accelerator, intervals=intervals, curves=curves, callbacks=callbacks)
    run.finish()
    return run.read_metrics()


pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_rows_are_means_since_the_last_row_and_callbacks_follow(tmp_path: Path) -> None:
    rows = take(tmp_path / "run", Counter(5), Look(2, has_start=True), Look(0))
    assert rows == [
        {"step": 0, "seen": 0.0},
        {"step": 2, "seen": 2.0},
        {"step": 3, "sum": 2.0, "gradient_norm": 1.0, "learning_rate": 1.0},
        {"step": 4, "seen": 4.0},
        {"step": 5, "sum": 4.5, "gradient_norm": 3.5, "learning_rate": 1.0},
        {"step": 5, "seen": 5.0},
        {"step": 5, "seen": 5.0},
    ]


@pytest.mark.parametrize("first", range(1, 7))
def test_a_run_that_is_continued_is_one_that_was_asked_for_at_once(
    tmp_path: Path, first: int
) -> None:
    looks = (Look(2, has_start=True), Look(0))
    once = take(tmp_path / "once", Counter(7), *looks)
    take(tmp_path / "on", Counter(first), *looks)
    assert take(tmp_path / "on", Counter(7), *looks) == once


def test_checkpoints_stand_where_any_interval_is_due(tmp_path: Path) -> None:
    take(tmp_path / "run", Counter(9), checkpoint=(4, 3, 0))
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == [f"step-00000{step}" for step in (3, 4, 6, 8, 9)]


def test_rates_of_the_steps_done_must_be_the_same(tmp_path: Path) -> None:
    def falling(num_steps: int) -> Counter:
        return Counter(num_steps, lambda step: 1.0 if step < 2 else 1 - step / num_steps)

    take(tmp_path / "run", falling(5), checkpoint=(2,))
    with pytest.raises(InputError, match=r"in a run of 9 steps, the first 4, which .* has done"):
        take(tmp_path / "run", falling(9))
    assert Run.load(tmp_path / "run").is_finished
    take(tmp_path / "early", falling(3), checkpoint=(2,))
    assert take(tmp_path / "early", falling(9))[-1]["step"] == 9  # step 2 alone is not done


def test_a_checkpoint_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    take(tmp_path / "run", Counter(4))
    state = tmp_path / "run" / "checkpoints" / "step-000004" / "state.json"
    state.write_text(state.read_text().replace('"rates"', '"names"'))
    with pytest.raises(InputError, match="run: another version wrote its checkpoint; --overwrite"):
        take(tmp_path / "run", Counter(6))


@pytest.mark.parametrize("name", ["sum", "gradient_norm"])
def test_a_value_that_is_not_finite_names_step_and_frames(tmp_path: Path, name: str) -> None:
    class Broken(Counter):
        def run(self, step: int) -> torch.Tensor:
            values = super().run(step)
            if step == 2:
                values[self.names.index(name)] = torch.inf
            return values

    with pytest.raises(InputError, match=f"step 3: {name} is inf on frame 2: look at these"):
        take(tmp_path / "run", Broken(8), checkpoint=(1,))
    newest = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert newest.step == 2


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The values of a step are those before its update, which may still spoil the weights."""

    class Spoilt(Counter):
        def run(self, step: int) -> torch.Tensor:
            values = super().run(step)
            if step == 3:
                self.value[0] = torch.nan
            return values

    with pytest.raises(InputError, match="run, step 4: value holds NaN or infinity"):
        take(tmp_path / "run", Spoilt(4))
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step-000002"]
