"""A stand-in for a CUDA graph on the CPU, for tests of recorded steps."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Tape(TorchDispatchMode):
    """Does to tensors on the CPU what a CUDA graph does on a GPU.

    Recording leaves every tensor as it was; a replay repeats the operators on the very tensors of
    the recording. What was decided in Python, or read from a tensor that has been replaced since,
    stays as it was recorded; looking at a value breaks the recording.
    """

    made: ClassVar[list["Tape"]] = []

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []
        self.num_replays = 0
        Tape.made.append(self)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            # A batch norm does not say that it writes its running statistics.
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            if is_written or argument.name.startswith("running_"):
                given = args[place] if place < len(args) else kwargs.get(argument.name)
                for tensor in filter(torch.is_tensor, tree_flatten(given)[0]):
                    self.before.setdefault(tensor.data_ptr(), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, tree_flatten(result)[0]))
        return result

    def warm_up(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        return function()

    def record(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        try:
            with self:
                return function()
        finally:
            for tensor, value in self.before.values():
                tensor.data.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        self.num_replays += 1
        for func, args, kwargs, recorded in self.calls:
            for old, new in zip(recorded, tree_flatten(func(*args, **kwargs))[0], strict=True):
                if torch.is_tensor(old) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
