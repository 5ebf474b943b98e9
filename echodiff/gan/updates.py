"""What the training steps share: one update, frozen networks, passes that share a batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

Autocast = Callable[[], AbstractContextManager]
"""Opens a block of forward passes in another precision. One block for each state of the weights:
within a block torch keeps weights as they were first cast."""


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One optimizer step down the gradient of `loss`; gradients stay to be looked at."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through `nets` and none are computed for their weights."""
    for net in nets:
        net.requires_grad_(False)
    try:
        yield
    finally:
        for net in nets:
            net.requires_grad_(True)


@contextmanager
def in_inference(*nets: nn.Module) -> Iterator[None]:
    """Inside, batch norms of `nets` use their running statistics and do not update them."""
    modes = [net.training for net in nets]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for net, mode in zip(nets, modes, strict=True):
            net.train(mode)


def run_together(
    net: nn.Module, parts: Sequence[torch.Tensor], *, together: bool
) -> Sequence[torch.Tensor]:
    """Outputs of `net` for each part; in one pass where no layer mixes the images of a batch.

    Batch norm mixes them: real and fake, or fake and identity, would share their statistics.
    """
    if together and len(parts) > 1:
        return net(torch.cat(list(parts))).split([len(part) for part in parts])
    return [net(part) for part in parts]


def detached(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same values without their graph."""
    return {name: loss.detach() for name, loss in losses.items()}
