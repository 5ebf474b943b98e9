"""The training loop of a LoRA: a function of (config, frames, seed), resumable to the last bit."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from tqdm import tqdm

from echodiff.config import InputError
from echodiff.diffusion.batch import EncodedFrames, SampleOrder, count_steps, sample_step
from echodiff.diffusion.lora import lora_parameters
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.loss import compute_losses, compute_snr_weights, draw_held_out
from echodiff.training.average import averaged, copy_values, update_average
from echodiff.training.checkpoints import (
    Checkpoint,
    load_newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
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
    # --- Order of the samples, optimizer, average
    is_captioned = [row > 0 for row in encoded.caption_index.tolist()]
    order = SampleOrder(is_captioned, repeats=config.repeats, seed=config.seed)
    step_size = config.batch_size * config.gradient_accumulation
    num_steps = count_steps(
        len(order), epochs=config.epochs, step_size=step_size, max_steps=config.max_steps
    )
    passes = split_step(config.batch_size, config.gradient_accumulation, accelerator)
    null_weight = config.regularization_weight
    frame_weights = torch.tensor([1.0 if known else null_weight for known in is_captioned])
    # Min-SNR weights say how often a time step is drawn, not how much it counts: the same gradient
    # on average, with less noise, and no pass is spent on steps that hardly count.
    timestep_weights = torch.ones(int(schedule.config.num_train_timesteps))
    if config.min_snr_gamma is not None:
        every = torch.arange(len(timestep_weights))
        timestep_weights = compute_snr_weights(schedule, every, config.min_snr_gamma)
    unet.train()
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    parameters = lora_parameters(unet)
    model, optimizer = accelerator.prepare(
        unet, torch.optim.Adam(list(parameters.values()), weight_decay=config.weight_decay)
    )
    has_average = config.ema_decay is not None
    average = {name: p.detach().clone() for name, p in parameters.items() if has_average}
    curves = Curves(run, accelerator, project="echodiff", hyperparameters=recipe(config))

    def look(watch: Watch, step: int) -> None:
        if accelerator.is_main_process:
            with averaged(parameters, average):
                values = watch(accelerator.unwrap_model(model), step)
            if values:
                curves.log(step, **values)
        accelerator.wait_for_everyone()

    # --- Go on from the newest checkpoint
    progress = Progress()
    checkpoint = load_newest_checkpoint(run.checkpoints)
    if checkpoint is not None:
        restore(checkpoint, progress, parameters, average, optimizer, accelerator)
        accelerator.print(f"going on from step {progress.step}")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        # Without a checkpoint the row of step 0, too, will be written again.
        run.rewind(progress.step if checkpoint is not None else -1)
    if held_out is not None and progress.step == 0:
        loss = compute_held_out_loss(config, accelerator, model, schedule, held_out)
        curves.log(0, held_out_loss=loss)
    for watch in watches:
        if watch.has_start and progress.step == 0:
            look(watch, 0)

    with tqdm(
        total=num_steps,
        initial=progress.step,
        desc="training",
        unit="step",
        disable=not accelerator.is_main_process,
    ) as bar:
        while progress.step < num_steps:
            # --- One optimizer step: everything random first, then the passes, then the update
            draw = sample_step(
                order,
                step=progress.step,
                count=step_size,
                latent_shape=encoded.latent_mean.shape[1:],
                timestep_weights=timestep_weights,
                caption_dropout=config.caption_dropout,
                noise_offset=config.noise_offset,
            )
            weights = frame_weights[draw.indices] * timestep_weights.mean()
            step_loss = torch.zeros((), device=accelerator.device)
            for rows in passes:
                is_last = rows is passes[-1]
                with nullcontext() if is_last else accelerator.no_sync(model):
                    losses = compute_losses(model, schedule, encoded, draw, rows)
                    # Gradients are averaged over processes: each counts its share so many times.
                    share = weights[rows].to(losses.device) * accelerator.num_processes / step_size
                    loss = (losses * share).sum()
                    accelerator.backward(loss)
                step_loss += loss.detach()
            norm = accelerator.clip_grad_norm_(list(parameters.values()), config.max_grad_norm)
            rate = learning_rate_at(progress.step, num_steps, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            progress.step += 1
            progress.unread.append(torch.stack([step_loss, norm.detach().to(step_loss)]))
            if config.ema_decay is not None:
                update_average(average, parameters, config.ema_decay, progress.step)
            bar.update()

            # --- Once in a while: read the loss, look at held-out frames, save
            step, is_end = progress.step, progress.step == num_steps
            is_log = is_end or is_due(step, config.log_every)
            is_save = is_due(step, config.checkpoint_every)
            if is_log or is_save:
                read_losses(progress, accelerator, order, encoded, step_size)
            if is_log:
                loss_mean, norm_mean = (sum(v) / len(v) for v in zip(*progress.read, strict=True))
                curves.log(step, loss=loss_mean, gradient_norm=norm_mean, learning_rate=rate)
                bar.set_postfix(loss=f"{loss_mean:.4f}")
                progress.read = []
            if held_out is not None and (is_end or is_due(step, config.held_out_every)):
                with averaged(parameters, average):
                    loss = compute_held_out_loss(config, accelerator, model, schedule, held_out)
                curves.log(step, held_out_loss=loss)
            for watch in watches:
                if is_end or is_due(step, watch.every):
                    look(watch, step)
            if is_save and accelerator.is_main_process:
                save(run, config.keep, progress, parameters, average, optimizer, accelerator)

    curves.close()
    copy_values(average, parameters)


def split_step(batch_size: int, num_passes: int, accelerator: "Accelerator") -> list[torch.Tensor]:
    """Rows of a step's draw for each forward pass of this process."""
    rank, num_processes = accelerator.process_index, accelerator.num_processes
    if batch_size < num_processes:
        raise InputError(
            f"--batch-size {batch_size}: too small to share between {num_processes} processes"
        )
    return [
        torch.arange(start + rank, start + batch_size, num_processes)
        for start in range(0, batch_size * num_passes, batch_size)
    ]


def learning_rate_at(step: int, num_steps: int, config: TrainLoraConfig) -> float:
    """Rate of step number `step` (0 is the first): a function of the step, nothing to save."""
    if step < config.lr_warmup:
        return config.learning_rate * (step + 1) / config.lr_warmup
    share = (step - config.lr_warmup) / max(1, num_steps - config.lr_warmup)
    match config.lr_scheduler:
        case "constant":
            factor = 1.0
        case "linear":
            factor = 1.0 - share
        case "cosine":
            factor = 0.5 * (1.0 + math.cos(math.pi * share))
    return config.learning_rate * factor


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def read_losses(
    progress: Progress,
    accelerator: "Accelerator",
    order: SampleOrder,
    encoded: EncodedFrames,
    step_size: int,
) -> None:
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
        rows = order.take((step - 1) * step_size, step_size).tolist()
        names = ", ".join(dict.fromkeys(encoded.file_names[row] for row in rows))
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
    accelerator: "Accelerator",
    model: Any,
    schedule: "DDPMScheduler",
    held_out: EncodedFrames,
) -> float:
    """Mean loss on held-out frames, with the same noise and time steps every time."""
    unet = accelerator.unwrap_model(model)
    draw = draw_held_out(
        held_out,
        num_frames=config.held_out_frames,
        num_timesteps=int(schedule.config.num_train_timesteps),
        seed=config.seed,
    )
    rows = torch.arange(len(draw.indices)).split(config.batch_size)
    losses = [compute_losses(unet, schedule, held_out, draw, part) for part in rows]
    return float(torch.cat(losses).mean())


def save(
    run: "Run",
    keep: int,
    progress: Progress,
    parameters: Mapping[str, torch.nn.Parameter],
    average: Mapping[str, torch.Tensor],
    optimizer: Any,
    accelerator: "Accelerator",
) -> None:
    """Write a checkpoint of everything that the next step depends on."""
    tensors: dict[str, torch.Tensor] = {
        f"lora.{name}": parameter for name, parameter in parameters.items()
    }
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    tensors |= optimizer_tensors(optimizer.optimizer, parameters)
    scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
    save_checkpoint(
        run.checkpoints,
        step=progress.step,
        tensors=tensors,
        state={"read": progress.read, "scaler": scaler},
        keep=keep,
    )


def restore(
    checkpoint: Checkpoint,
    progress: Progress,
    parameters: Mapping[str, torch.nn.Parameter],
    average: Mapping[str, torch.Tensor],
    optimizer: Any,
    accelerator: "Accelerator",
) -> None:
    """Put back what `save` wrote."""
    tensors = checkpoint.tensors
    copy_values({name: tensors[f"lora.{name}"] for name in parameters}, parameters)
    copy_values({name: tensors[f"average.{name}"] for name in average}, average)
    restore_optimizer(optimizer.optimizer, parameters, tensors)
    if accelerator.scaler is not None and checkpoint.state["scaler"] is not None:
        accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    progress.step = checkpoint.step
    progress.read = [(loss, norm) for loss, norm in checkpoint.state["read"]]


def recipe(config: TrainLoraConfig) -> dict[str, float | int | str | bool]:
    """The numbers of the recipe, without paths: what a tracker may publish."""
    hidden = {"base", "data", "out", "tracker"}
    return {
        name: value
        for name, value in vars(config).items()
        if name not in hidden and isinstance(value, bool | int | float | str)
    }
