"""The training loop of a translation: a function of (settings, frames, seed), resumable to the
last bit.
"""

import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from echodiff.errors import InputError
from echodiff.gan.curves import draw_losses
from echodiff.gan.dataset import TranslationSet
from echodiff.gan.draws import Order
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.grids import SampleGrids
from echodiff.gan.recipes import Method
from echodiff.gan.step import TranslationStep, choose_compile
from echodiff.progress import ProgressBar
from echodiff.training.checkpoints import (
    Checkpoint,
    check_finite,
    load_newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from echodiff.training.trackers import Curves

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.runs import Run


@dataclass
class Progress:
    """Where the loop is; with networks, optimizers and pools this is all a checkpoint holds."""

    step: int = 0
    """Steps done."""
    unread: list[torch.Tensor] = field(default_factory=list)
    """Losses of the last steps, still on the device: reading would make it wait."""
    read: list[list[float]] = field(default_factory=list)
    """Losses of steps read back but not logged yet."""
    names: list[str] = field(default_factory=list)
    """What they are called, in their order."""


def train(
    config: TrainGanConfig,
    run: "Run",
    accelerator: "Accelerator",
    *,
    method: Method,
    dataset: TranslationSet,
    has_graph: bool = False,
) -> None:
    """Train the networks of `method` in place; has_graph: each step as one CUDA graph."""
    # --- Order of the pictures, how often what happens
    device = accelerator.device
    order = build_order(config, dataset)
    num_steps = count_steps(config, len(order))
    epoch_steps = max(1, round(len(order) / config.batch_size))
    grids = SampleGrids(dataset, run.samples, config.resolution)
    curves = Curves(run, accelerator, project="echodiff-gan", config=config)
    taken = TranslationStep(
        config,
        method,
        dataset,
        order,
        device,
        compiled=choose_compile(config.compile, device, num_steps),
        has_graph=has_graph,
    )

    # --- Go on from the newest checkpoint
    progress = Progress()
    checkpoint = load_newest_checkpoint(run.checkpoints)
    if checkpoint is not None:
        restore(checkpoint, progress, method)
        accelerator.print(f"going on from step {progress.step}")
    run.rewind(progress.step if checkpoint is not None else -1)

    with ProgressBar(total=num_steps, initial=progress.step, desc="training", unit="step") as bar:
        while progress.step < num_steps:
            # --- One step
            factor = rate_factor(rate_epoch(progress.step, num_steps, len(order), config), config)
            progress.unread.append(taken.run(progress.step, factor))
            progress.step += 1
            progress.names = taken.names
            bar.update()

            # --- Once in a while: read the losses, look, save
            step, is_end = progress.step, progress.step == num_steps
            is_log = is_end or is_due(step, config.log_every)
            is_save = is_due(step, config.checkpoint_every) or is_due(
                step, epoch_steps * config.checkpoint_epochs
            )
            if is_log or is_save or is_due(step, config.sample_every):
                read_losses(progress, taken)
            if is_log:
                means = [sum(values) / len(values) for values in zip(*progress.read, strict=True)]
                named = dict(zip(progress.names, means, strict=True))
                curves.log(step, **named, learning_rate=config.learning_rate * factor)
                bar.set_postfix({name: f"{value:.3f}" for name, value in named.items()})
                progress.read = []
            if is_end or is_due(step, config.sample_every):
                with taken.as_written():
                    grids.write(method.nets, step)
                draw_losses(run)
            if is_save:
                save(run, config, progress, method)

    curves.close()


def build_order(config: TrainGanConfig, dataset: TranslationSet) -> Order:
    """The order in which the pictures of `dataset` are shown."""
    return Order(
        len(dataset.source.frames),
        len(dataset.target.frames),
        is_paired=dataset.is_paired,
        has_replacement=config.replacement,
        slack=(config.load_size or config.resolution) - config.resolution,
        seed=config.seed,
    )


def count_steps(config: TrainGanConfig, epoch: int) -> int:
    """Steps of the whole training for epochs of `epoch` pictures."""
    if config.steps is not None:
        return config.steps
    return math.ceil((config.epochs + config.decay_epochs) * epoch / config.batch_size)


def rate_epoch(step: int, num_steps: int, epoch: int, config: TrainGanConfig) -> int:
    """Number of the epoch, of `epoch` pictures, whose rate step number `step` has (0 is the first).

    Where `steps` are asked for, they are shared out over the epochs as if these ended with them.
    """
    if config.steps is None:
        return step * config.batch_size // epoch
    return step * (config.epochs + config.decay_epochs) // num_steps


def rate_factor(epoch: int, config: TrainGanConfig) -> float:
    """Share of the rate in epoch number `epoch` (0 is the first).

    The last epoch of the decay still learns, with 1 / (decay_epochs + 1): in the published code
    of 2020 the rate reached 0 before it.
    """
    done = max(0, epoch + 1 - config.epochs)
    return 1.0 - min(done, config.decay_epochs) / (config.decay_epochs + 1)


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def read_losses(progress: Progress, taken: TranslationStep) -> None:
    """Bring the unread losses to the CPU; stop at the first that is not a number."""
    if not progress.unread:
        return
    values = torch.stack(progress.unread).tolist()
    first = progress.step - len(values) + 1
    progress.unread = []
    for step, losses in enumerate(values, start=first):
        for name, loss in zip(progress.names, losses, strict=True):
            if not math.isfinite(loss):
                raise InputError(
                    f"step {step}: the loss {name} is {loss} on {taken.name_pictures(step - 1)}: "
                    "look at these, or lower --learning-rate"
                )
        progress.read.append(losses)


def save(run: "Run", config: TrainGanConfig, progress: Progress, method: Method) -> None:
    """Write a checkpoint of everything that the next step depends on."""
    tensors = {f"net.{n}.{k}": v for n, net in method.nets.items()
               for k, v in net.state_dict().items()}  # fmt: skip
    # Losses that are finite may leave weights that are not: every later run would start from them.
    check_finite(tensors.items(), f"{run.run_dir}, step {progress.step}")
    tensors |= {f"pool.{name}": pool.images for name, pool in method.pools.items()}
    for name, optimizer in method.optimizers.items():
        tensors |= optimizer_tensors(optimizer, parameter_names(name, optimizer))
    save_checkpoint(
        run.checkpoints,
        step=progress.step,
        tensors=tensors,
        state={"read": progress.read, "names": progress.names},
        keep=sys.maxsize if config.keep == "all" else config.keep,
    )


def restore(checkpoint: Checkpoint, progress: Progress, method: Method) -> None:
    """Put back what `save` wrote."""
    tensors = checkpoint.tensors
    for name, net in method.nets.items():
        prefix = f"net.{name}."
        net.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    for name, pool in method.pools.items():
        pool.images.copy_(tensors[f"pool.{name}"])
    for name, optimizer in method.optimizers.items():
        restore_optimizer(optimizer, parameter_names(name, optimizer), tensors)
    progress.step = checkpoint.step
    progress.read, progress.names = checkpoint.state["read"], checkpoint.state["names"]


def parameter_names(name: str, optimizer: torch.optim.Optimizer) -> list[str]:
    """A name for every parameter of an optimizer: its own name and the parameter's place."""
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    return [f"{name}.{place}" for place in range(count)]
