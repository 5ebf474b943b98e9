"""Trains the networks of a translation: what a step draws, the images it takes, how it is launched.

The images lie on the device; what a step is told is a few rows, corners and places. On a GPU the
whole step, from crops to the last Adam, is recorded as one CUDA graph.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from echodiff.gan.dataset import TranslationSet
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.methods.build import Method
from echodiff.gan.networks.generators import ResNetBlock
from echodiff.gan.networks.srgan import SrBlock
from echodiff.gan.order import Order, StepRows
from echodiff.gan.rates import count_steps, rate_epoch, rate_factor
from echodiff.training.checkpoints import Checkpoint, optimizer_tensors, restore_optimizer
from echodiff.training.graphs import Compile, CudaGraph, StepRunner, put, uncompiled
from echodiff.training.streams import Stream, build_stream

if TYPE_CHECKING:
    from torch import nn

REPEATED = (ResNetBlock, SrBlock)
"""Blocks that a network has many of: compiled once, used by all."""
COMPILE_FROM_STEPS = 100_000
"""Steps from which `auto` compiles on CUDA: an estimate, some 100 s against a millisecond each."""


class TranslationTrainer:
    """Trains `method` on the images of `dataset` (`training.loop.Trainer`).

    has_graph: whether the step is recorded, for which `method` has optimizers that allow it.
    """

    def __init__(
        self,
        config: TrainGanConfig,
        method: Method,
        dataset: TranslationSet,
        device: torch.device,
        *,
        has_graph: bool = False,
    ) -> None:
        self._config, self._method = config, method
        self.order = build_order(config, dataset)
        self._dataset = dataset.to_device(device)
        self.num_steps = count_steps(config, len(self.order))
        self.names = method.names
        self._rates = {
            name: float(optimizer.param_groups[0]["lr"])
            for name, optimizer in method.optimizers.items()
        }
        self._compiled = choose_compile(config.compile, device, self.num_steps)
        for net in method.nets.values():
            compile_network(net, self._compiled)
        self._has_run = False
        self._draw: Any = None
        graph = CudaGraph(device) if has_graph else None
        self._run = StepRunner(self._step, device, compiled=self._compiled, graph=graph)

    def run(self, step: int) -> torch.Tensor:
        """Take step number `step` (0 is the first); its losses (len(names),), on the device.

        Everything random is drawn before: the step is a function of (seed, step).
        """
        stream = build_stream(self._config.seed, Stream.STEP, step)
        rows = self.order.take(step, self._config.batch_size, stream)
        self._draw = self._method.sample(stream, step, self._config.batch_size)
        factor = self._factor(step)
        for name, optimizer in self._method.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = put(self._rates[name] * factor, group["lr"])
        return self._run(*rows, *tensors_of(self._draw))

    def _factor(self, step: int) -> float:
        """Share of the learning rates that step number `step` has."""
        epoch = rate_epoch(step, self.num_steps, len(self.order), self._config)
        return rate_factor(epoch, self._config)

    def _step(self, *inputs: torch.Tensor) -> torch.Tensor:
        """One step; where a compiler fails in the first, everything is as it was before."""
        if self._compiled == "none" or self._has_run:
            return self._take(*inputs)
        parts: list[Any] = [*self._method.nets.values(), *self._method.optimizers.values()]
        states = [copy.deepcopy(part.state_dict()) for part in parts]
        pools = {name: pool.images.clone() for name, pool in self._method.pools.items()}
        try:
            return self._take(*inputs)
        except Exception:
            # The discriminator may have had its update already: the step is begun again.
            for part, state in zip(parts, states, strict=True):
                part.load_state_dict(state)
            for name, images in pools.items():
                self._method.pools[name].images.copy_(images)
            raise

    def _take(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Crops, passes, updates: what a CUDA graph holds."""
        count = len(StepRows._fields)
        source, target = self._dataset.take(StepRows(*inputs[:count]), self._config.resolution)
        draw = with_tensors(self._draw, iter(inputs[count:]))
        losses = self._method.step(source, target, draw)
        self._has_run = True
        return torch.stack([losses[name] for name in self.names])

    def learning_rate(self, step: int) -> float:
        """Learning rate of the generator in step number `step`."""
        return self._config.learning_rate * self._factor(step)

    @contextmanager
    def averaged(self) -> "Iterator[Mapping[str, nn.Module]]":
        """Yield the networks; compiled ones run as they were written: other sizes, no wait."""
        with uncompiled(self._compiled):
            yield self._method.nets

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on: networks, pools and optimizers."""
        tensors = {f"net.{n}.{k}": v for n, net in self._method.nets.items()
                   for k, v in net.state_dict().items()}  # fmt: skip
        tensors |= {f"pool.{name}": pool.images for name, pool in self._method.pools.items()}
        for name, optimizer in self._method.optimizers.items():
            tensors |= optimizer_tensors(optimizer, parameter_names(name, optimizer))
        return tensors

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `tensors` returned."""
        tensors = checkpoint.tensors
        for name, net in self._method.nets.items():
            prefix = f"net.{name}."
            net.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for name, pool in self._method.pools.items():
            pool.images.copy_(tensors[f"pool.{name}"])
        for name, optimizer in self._method.optimizers.items():
            restore_optimizer(optimizer, parameter_names(name, optimizer), tensors)

    def frames_of(self, step: int) -> str:
        """Files that step number `step` showed: what was drawn can be drawn again."""
        stream = build_stream(self._config.seed, Stream.STEP, step)
        return self._dataset.name_rows(self.order.take(step, self._config.batch_size, stream))


def build_order(config: TrainGanConfig, dataset: TranslationSet) -> Order:
    """The order in which the images of `dataset` are shown."""
    return Order(
        len(dataset.source.frames),
        len(dataset.target.frames),
        is_paired=dataset.is_paired,
        has_replacement=config.replacement,
        slack=(config.load_size or config.resolution) - config.resolution,
        seed=config.seed,
    )


def parameter_names(name: str, optimizer: torch.optim.Optimizer) -> list[str]:
    """A name for every parameter of an optimizer: its own name and the parameter's place."""
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    return [f"{name}.{place}" for place in range(count)]


def choose_compile(
    requested: Literal["auto", "none", "regional", "full"], device: torch.device, num_steps: int
) -> Compile:
    """What `auto` means: the blocks that repeat in a long run on CUDA, else nothing."""
    if requested != "auto":
        return requested
    return "regional" if device.type == "cuda" and num_steps >= COMPILE_FROM_STEPS else "none"


def compile_network(net: "nn.Module", how: Compile) -> None:
    """Have `net` compiled at its first call: its repeated blocks (all where it has none), or all.

    Sizes are taken as they are, for a training has only a few.
    """
    if how == "none":
        return
    blocks = [module for module in net.modules() if isinstance(module, REPEATED)]
    for module in blocks if how == "regional" and blocks else [net]:
        module.compile(dynamic=False)


def tensors_of(draw: Any) -> list[torch.Tensor]:
    """The tensors of a draw, however they are nested, in order."""
    if torch.is_tensor(draw):
        return [draw]
    return [one for part in draw for one in tensors_of(part)] if isinstance(draw, tuple) else []


def with_tensors(draw: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """`draw` with `tensors` in place of its own."""
    if torch.is_tensor(draw):
        return next(tensors)
    if isinstance(draw, tuple):
        parts = [with_tensors(part, tensors) for part in draw]
        return type(draw)(*parts) if hasattr(draw, "_fields") else tuple(parts)
    return draw
