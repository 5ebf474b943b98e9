"""An exponential moving average of trained weights, kept by name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


@torch.no_grad()
def update_average(
    average: Mapping[str, torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    decay: float,
    step: int,
) -> None:
    """Move `average` towards `parameters` after step number `step` (1 is the first).

    The decay starts low and grows to `decay`: the random start would linger otherwise.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for name, tensor in average.items():
        tensor.lerp_(parameters[name].detach(), 1.0 - decay)


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
