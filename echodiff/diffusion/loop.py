"""The training loop of a LoRA: a function of (config, frames, seed), resumable to the last bit."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from echodiff.diffusion.batch import Samples, gather_samples
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.loss import compute_losses, draw_held_out
from echodiff.diffusion.step import StepSamples, TrainingStep, learning_rate_at
from echodiff.errors import InputError
from echodiff.progress import ProgressBar
from echodiff.training.checkpoints import Checkpoint, load_newest_checkpoint, save_checkpoint
from echodiff.training.trackers import Curves

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DConditionModel

    from echodiff.runs import Run


class Watch(Protocol):
    """Looks at the UNet as it stands, on the main process; what it returns joins the curves.

    It must leave the UNet as it was. The loop's random numbers are out of its reach: every draw is
    a function of (seed, step).
    """

    every: int
    """Steps from look to look; the last step is always looked at."""
    has_start: bool
    """Whether step 0, the base itself, is looked at too."""

    def __call__(self, unet: "UNet2DConditionModel", step: int) -> Mapping[str, float]: ...


@dataclass
class Progress:
    """Where the loop is; with the weights and Adam's state this is all a checkpoint holds."""

    step: int = 0
    """Optimizer steps done."""
    unread: list[torch.Tensor] = field(default_factory=list)
    """(loss, gradient norm) of the last steps, still on the device: reading would make it wait."""
    read: list[tuple[float, float]] = field(default_factory=list)
    """(loss, gradient norm) of steps read back but not logged yet."""


def train(
    config: TrainLoraConfig,
    run: "Run",
    accelerator: "Accelerator",
    *,
    unet: "UNet2DConditionModel",
    schedule: "DDPMScheduler",
    encoded: EncodedFrames,
    held_out: EncodedFrames | None,
    watches: Sequence[Watch] = (),
) -> None:
    """Train the adapter in `unet`, leaving its final weights (the average, with EMA) in it."""
    samples = StepSamples(config, encoded, schedule, accelerator)
    num_steps = samples.num_steps
    training = TrainingStep(config, accelerator, unet, schedule, samples)
    curves = Curves(run, accelerator, project="echodiff", config=config)

    def look_held_out(step: int) -> None:
        if held_out is not None:
            with training.averaged() as seen:
                loss = compute_held_out_loss(config, seen, schedule, held_out)
            curves.log(step, held_out_loss=loss)

    def log(step: int) -> None:
        loss, norm = (sum(values) / len(values) for values in zip(*progress.read, strict=True))
        rate = learning_rate_at(step - 1, num_steps, config)
        curves.log(step, loss=loss, gradient_norm=norm, learning_rate=rate)
        bar.set_postfix(loss=f"{loss:.4f}")
        progress.read = []

    def look(watch: Watch, step: int) -> None:
        if accelerator.is_main_process:
            with training.averaged() as seen:
                values = watch(seen, step)
            if values:
                curves.log(step, **values)
        accelerator.wait_for_everyone()

    # --- Go on from the newest checkpoint
    progress = Progress()
    checkpoint = load_newest_checkpoint(run.checkpoints)
    refuse_extension(run, config, num_steps, checkpoint)
    if checkpoint is not None:
        training.restore(checkpoint)
        progress = Progress(checkpoint.step, read=[(a, b) for a, b in checkpoint.state["read"]])
        accelerator.print(f"going on from step {progress.step}")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        # Without a checkpoint the row of step 0, too, will be written again.
        num_rows = checkpoint.state.get("num_rows") if checkpoint is not None else None
        run.rewind(progress.step if checkpoint is not None else -1, num_rows=num_rows)
        run.extend()
        run.update(num_steps=num_steps)
    if progress.step == 0:
        look_held_out(0)
        for watch in watches:
            if watch.has_start:
                look(watch, 0)

    with ProgressBar(
        total=num_steps,
        initial=progress.step,
        desc="training",
        unit="step",
        disable=not accelerator.is_main_process,
    ) as bar:
        while progress.step < num_steps:
            # --- One optimizer step
            progress.unread.append(training.run(progress.step))
            progress.step += 1
            bar.update()

            # --- Once in a while: read the loss, look at held-out frames, save
            step, is_end = progress.step, progress.step == num_steps
            is_log, is_save = is_due(step, config.log_every), is_due(step, config.checkpoint_every)
            if is_log or is_save or is_end:
                read_losses(progress, accelerator, samples)
            if is_log:
                log(step)
            if is_due(step, config.held_out_every):
                look_held_out(step)
            for watch in watches:
                if is_due(step, watch.every):
                    look(watch, step)
            if is_save and accelerator.is_main_process:
                state = {"read": progress.read, "scaler": training.scaler_state()}
                save_checkpoint(
                    run.checkpoints,
                    step=step,
                    tensors=training.tensors(),
                    state=state | {"num_rows": len(run.read_metrics())},
                    keep=config.keep,
                )

    # --- A last look, where that was not the turn. After the checkpoint: a run that is trained on
    # from there has the rows of one that was asked for at once.
    if not is_due(num_steps, config.log_every) and progress.read:
        log(num_steps)
    if not is_due(num_steps, config.held_out_every):
        look_held_out(num_steps)
    for watch in watches:
        if not is_due(num_steps, watch.every):
            look(watch, num_steps)
    curves.close()
    training.finish()


def refuse_extension(
    run: "Run", config: TrainLoraConfig, num_steps: int, checkpoint: Checkpoint | None
) -> None:
    """InputError where --continue asks for no more steps than the run has, or where those done
    would have had other rates in a run of `num_steps`."""
    before = int(run.record.get("num_steps", num_steps))
    done = 0 if checkpoint is None else checkpoint.step
    reason = ""
    if run.is_finished and num_steps <= before:
        reason = f"{run.run_dir} has {before} steps, {num_steps} are asked for"
    elif before != num_steps and any(
        learning_rate_at(step, before, config) != learning_rate_at(step, num_steps, config)
        for step in range(done)
    ):
        reason = (
            f"--lr-scheduler {config.lr_scheduler} falls to zero at the last of {before} steps: in "
            f"a run of {num_steps} those done had other rates; --init-from starts anew from it"
        )
    if reason:
        if run.is_finished:
            shutil.rmtree(run.scratch, ignore_errors=True)
        raise InputError(f"--continue: {reason}")


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def read_losses(progress: Progress, accelerator: "Accelerator", samples: StepSamples) -> None:
    """Bring the unread losses to the CPU; stop at the first that is not a number.

    No process-wide look at every step is needed: what a step trained on can be drawn again.
    """
    if not progress.unread:
        return
    values = accelerator.reduce(torch.stack(progress.unread), reduction="mean").tolist()
    first = progress.step - len(values) + 1
    progress.unread = []
    for step, (loss, norm) in enumerate(values, start=first):
        # With a gradient scaler an infinite norm is a step it skips, and part of its search.
        if math.isfinite(loss) and (math.isfinite(norm) or accelerator.scaler is not None):
            continue
        names = ", ".join(samples.file_names(step - 1))
        what = "loss" if not math.isfinite(loss) else "gradient"
        value = loss if what == "loss" else norm
        raise InputError(
            f"step {step}: the {what} is {value} on frames {names}: "
            "look at these, or lower --learning-rate"
        )
    progress.read += [(loss, norm) for loss, norm in values]


@torch.no_grad()
def compute_held_out_loss(
    config: TrainLoraConfig,
    unet: "UNet2DConditionModel",
    schedule: "DDPMScheduler",
    held_out: EncodedFrames,
) -> float:
    """Mean loss on held-out frames, with the same noise and time steps every time."""
    draw = draw_held_out(
        held_out,
        num_frames=config.held_out_frames,
        num_timesteps=int(schedule.config.num_train_timesteps),
        seed=config.seed,
    )
    losses = []
    for rows in torch.arange(len(draw.indices)).split(config.batch_size):
        samples = gather_samples(held_out, draw, rows)
        there = Samples(*(tensor.to(unet.device) for tensor in samples))
        losses.append(compute_losses(unet, schedule, there))
    return float(torch.cat(losses).mean())
