"""One training loop for every trainer, resumable to the last bit."""

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from echodiff.errors import InputError
from echodiff.progress import ProgressBar
from echodiff.training.checkpoints import (
    Checkpoint,
    check_finite,
    load_newest_checkpoint,
    save_checkpoint,
)
from echodiff.training.trackers import Curves

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.runs import Run

GRADIENT_NORM = "gradient_norm"
"""Name of a value that may be infinite with a gradient scaler, which then skips the step."""


class Trainer(Protocol):
    """Takes the steps of one training. A step is a function of (seed, step) and of `tensors`."""

    num_steps: int
    """Optimizer steps of the whole training."""
    names: tuple[str, ...]
    """Names of the values that a step returns, in their order."""

    def run(self, step: int) -> torch.Tensor:
        """Take step number `step` (0 is the first); its values (len(names),), on the device."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of step number `step`."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, by name."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `tensors` returned."""

    def averaged(self) -> AbstractContextManager[Any]:
        """Yield what callbacks look at: the trained network or networks, averaged if they are."""

    def frames_of(self, step: int) -> str:
        """The frames that step number `step` is trained on, as an error message names them."""


class Callback(Protocol):
    """Looks at what is trained, on the main process; what it returns is logged.

    It must leave the network as it was. It cannot change the random numbers of the training. One
    with an attribute `is_over` that is true after a call ends the training after that step.
    """

    every: int
    """Steps between calls (0: none in between); it is always called after the last step."""
    has_start: bool
    """Whether it is called before the first step, too."""

    def __call__(self, trained: Any, step: int, /) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Intervals:
    """How often the loop reads the losses and writes checkpoints."""

    log: int
    """Steps between rows of losses: reading them makes a GPU wait."""
    checkpoint: tuple[int, ...]
    """A checkpoint is written after every step that is a multiple of one of these (0: of none)."""
    keep: int | Literal["all"]
    """How many of the newest checkpoints are kept."""


@dataclass
class Progress:
    """Where the loop is; with the trainer's tensors this is all a checkpoint holds."""

    step: int = 0
    """Steps done."""
    unread: list[torch.Tensor] = field(default_factory=list)
    """Values of the last steps, still on the device."""
    read: list[list[float]] = field(default_factory=list)
    """Values of steps that were read back, but not logged yet."""
    rates: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    """Hash of the learning rates of the steps done, by `count`."""

    def count(self, rate: float) -> None:
        """Count one more step, taken at the learning rate `rate`."""
        # To six digits: the last bits of a cosine differ between machines.
        self.rates.update(f"{rate:.6g} ".encode())
        self.step += 1


def train(
    trainer: Trainer,
    run: "Run",
    accelerator: "Accelerator",
    *,
    intervals: Intervals,
    curves: Curves,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Take the steps of `trainer` that `run` still lacks; log, call back and save in between."""
    checkpoint = load_newest_checkpoint(run.checkpoints)
    progress = resume(run, trainer, checkpoint)
    loop = _Loop(trainer, run, accelerator, intervals, curves, callbacks, progress)
    loop.begin(checkpoint)
    with ProgressBar(
        total=trainer.num_steps, initial=progress.step, desc="training", unit="step",
        disable=not accelerator.is_main_process,
    ) as bar:  # fmt: skip
        while progress.step < trainer.num_steps and not loop.is_stopped:
            loop.take_step(bar)
        loop.end(bar)
    curves.close()


@dataclass
class _Loop:
    """A training on its way."""

    trainer: Trainer
    run: "Run"
    accelerator: "Accelerator"
    intervals: Intervals
    curves: Curves
    callbacks: Sequence[Callback]
    progress: Progress
    is_stopped: bool = False
    """Whether a callback has ended the training."""

    def begin(self, checkpoint: Checkpoint | None) -> None:
        """Go on from `checkpoint`, or call back before the first step."""
        run, step = self.run, self.progress.step
        if checkpoint is not None:
            self.accelerator.print(f"resuming from step {step}")
        self.accelerator.wait_for_everyone()
        self.curves.start()
        if self.accelerator.is_main_process:
            # Without a checkpoint the rows of step 0, too, will be written again.
            num_rows = checkpoint.state.get("num_rows") if checkpoint is not None else None
            run.rewind(step if checkpoint is not None else -1, num_rows=num_rows)
            run.extend()
            run.update(num_steps=self.trainer.num_steps)
        if step == 0:
            for callback in self.callbacks:
                if callback.has_start:
                    self.call(callback)

    def take_step(self, bar: ProgressBar) -> None:
        """Take an optimizer step; now and then read the losses, log them, call back and save."""
        progress, trainer = self.progress, self.trainer
        progress.unread.append(trainer.run(progress.step))
        progress.count(trainer.learning_rate(progress.step))
        bar.update()
        step = progress.step
        is_log = is_due(step, self.intervals.log)
        is_save = any(is_due(step, every) for every in self.intervals.checkpoint)
        due = [callback for callback in self.callbacks if is_due(step, callback.every)]
        if is_log or is_save or due or step == trainer.num_steps:
            read_values(progress, self.accelerator, trainer)
        if is_log:
            self.log(bar)
        for callback in due:
            self.call(callback)
        self.is_stopped = bool(due) and ask_to_stop(due)
        # No checkpoint of the last step: resumed from it, a run would take one more.
        if is_save and self.accelerator.is_main_process and not self.is_stopped:
            self.save()

    def end(self, bar: ProgressBar) -> None:
        """Log and call back after the last step, where it was not their turn.

        This comes after the checkpoint: a run continued from there has the rows of one that long
        from the start.
        """
        step = self.progress.step
        if self.is_stopped and self.accelerator.is_main_process:
            self.accelerator.print(f"stopped after step {step} of {self.trainer.num_steps}")
            self.run.update(num_steps=step)
        if self.progress.read:
            self.log(bar)
        for callback in self.callbacks:
            if not is_due(step, callback.every):
                self.call(callback)

    def log(self, bar: ProgressBar) -> None:
        """Log the means of the values that were read since the last time."""
        progress, trainer = self.progress, self.trainer
        means = (sum(values) / len(values) for values in zip(*progress.read, strict=True))
        named = dict(zip(trainer.names, means, strict=True))
        rate = trainer.learning_rate(progress.step - 1)
        self.curves.log(progress.step, **named, learning_rate=rate)
        bar.set_postfix({name: f"{value:.4g}" for name, value in named.items()})
        progress.read = []

    def call(self, callback: Callback) -> None:
        """Call back on the main process, and log what it returns."""
        if self.accelerator.is_main_process:
            with self.trainer.averaged() as trained:
                values = callback(trained, self.progress.step)
            if values:
                self.curves.log(self.progress.step, **values)
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write a checkpoint."""
        run, progress, tensors = self.run, self.progress, self.trainer.tensors()
        # Finite losses may leave weights that are not: a resumed run would start from them.
        check_finite(tensors.items(), f"{run.run_dir}, step {progress.step}")
        state = {"read": progress.read, "num_rows": len(run.read_metrics()),
                 "rates": progress.rates.hexdigest()}  # fmt: skip
        save_checkpoint(run.checkpoints, step=progress.step, tensors=tensors, state=state,
                        keep=self.intervals.keep)  # fmt: skip


def ask_to_stop(callbacks: Sequence[Callback]) -> bool:
    """Whether one of `callbacks` that were called last ends the training, on every process."""
    from accelerate.utils import broadcast_object_list

    if not any(hasattr(callback, "is_over") for callback in callbacks):
        return False
    answer = [any(getattr(callback, "is_over", False) for callback in callbacks)]
    broadcast_object_list(answer)  # callbacks are called on the main process alone
    return answer[0]


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def resume(run: "Run", trainer: Trainer, checkpoint: Checkpoint | None) -> Progress:
    """Put `trainer` where `checkpoint` was written.

    InputError where another version wrote it, where --continue does not ask for more steps than the
    run has, and where the steps done would have had other learning rates in the extended run.
    """
    progress, reason, num_steps = Progress(), "", trainer.num_steps
    before = int(run.record.get("num_steps", 0))
    if run.is_finished and num_steps <= before:
        reason = f"--continue: {run.run_dir} has {before} steps, {num_steps} are requested"
    elif checkpoint is not None:
        for step in range(checkpoint.step):
            progress.count(trainer.learning_rate(step))
        if "rates" not in checkpoint.state:
            reason = f"{run.run_dir}: a checkpoint of another version; --overwrite starts again"
        elif checkpoint.state["rates"] != progress.rates.hexdigest():
            reason = (
                f"--continue: in a run of {num_steps} steps, the first {checkpoint.step}, which "
                f"{run.run_dir} has done, have other learning rates than they had in one of "
                f"{before}; --init-from starts a new run from its weights"
            )
    if reason:
        if run.is_finished:
            shutil.rmtree(run.scratch, ignore_errors=True)
        raise InputError(reason)
    if checkpoint is not None:
        trainer.restore(checkpoint)
        progress.read = [list(values) for values in checkpoint.state["read"]]
    return progress


def read_values(progress: Progress, accelerator: "Accelerator", trainer: Trainer) -> None:
    """Read the unread values, the means of all processes; stop at the first that is not finite.

    What a step was trained on can be drawn again: no look at every step is needed.
    """
    if not progress.unread:
        return
    values = accelerator.reduce(torch.stack(progress.unread), reduction="mean").tolist()
    first = progress.step - len(values) + 1
    progress.unread = []
    for step, row in enumerate(values, start=first):
        for name, value in zip(trainer.names, row, strict=True):
            is_skipped = name == GRADIENT_NORM and accelerator.scaler is not None
            if not (math.isfinite(value) or is_skipped):
                raise InputError(
                    f"step {step}: {name} is {value} on {trainer.frames_of(step - 1)}: look at "
                    "these, or lower --learning-rate"
                )
    progress.read += values
