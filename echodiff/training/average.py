"""An exponential moving average of trained weights, kept by name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


def average_pull(decay: float, step: int) -> float:
    """How far step number `step` (1 is the first) pulls the average: 1 - its decay.

    The decay starts low and grows to `decay`: the random start would linger otherwise.
    """
    return 1.0 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(
    average: Mapping[str, torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    pull: float | torch.Tensor,
) -> None:
    """Move `average` towards `parameters` by the share `pull`, a number or a scalar tensor."""
    for name, tensor in average.items():
        tensor.lerp_(parameters[name].detach(), pull)


@contextmanager
def averaged(
    parameters: Mapping[str, torch.Tensor], average: Mapping[str, torch.Tensor]
) -> Iterator[None]:
    """Put `average` in place of `parameters` for a while; an empty one leaves them alone."""
    kept = {name: parameters[name].detach().clone() for name in average}
    copy_values(average, parameters)
    try:
        yield
    finally:
        copy_values(kept, parameters)


@torch.no_grad()
def copy_values(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
    """Set the tensors of `target` named in `source`, in place."""
    for name, tensor in source.items():
        target[name].copy_(tensor)
