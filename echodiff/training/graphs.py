"""Run a training step with few launches: compiled, and replayed as one CUDA graph.

At a batch of two a GPU waits for Python to launch some thousand kernels one by one. A CUDA graph
launches them all at once; `torch.compile` makes them fewer. Neither is ever needed: what fails
falls back to plain steps, with one warning.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

Compile = Literal["none", "regional", "full"]

NO_GRAPH = "no CUDA graph, kernels are launched one by one"

NUM_WARM_UP = 3
"""Plain steps before a capture: libraries choose their kernels in them, Adam makes its state."""


@dataclass(frozen=True)
class Cost:
    """What a run costs on one H200: SD 1.5 at 512, rank 8, bf16, the whole step one CUDA graph."""

    ready_s: float
    """Until the first fast step, the middle of what was measured."""
    step_s: float
    """Of a step of any batch."""
    sample_s: float
    """Of a sample."""


COSTS: dict[Compile, Cost] = {
    # The last two from samples a second at batch 2 and 16: 68 and 107, 78 and 123, 95 and 164.
    "none": Cost(ready_s=6.0, step_s=0.01225, sample_s=0.00858),
    "regional": Cost(ready_s=15.0, step_s=0.01072, sample_s=0.00746),
    "full": Cost(ready_s=100.0, step_s=0.01013, sample_s=0.00546),
}


def choose_compile(
    requested: Literal["auto", "none", "regional", "full"],
    device: torch.device,
    *,
    num_steps: int,
    batch_size: int,
    latent_side: int,
) -> Compile:
    """What `auto` means for a run of `num_steps`: the way that is over first by `COSTS`.

    `latent_side` in latent pixels, 64 for an image of 512. On anything but CUDA it means none.
    """
    if requested != "auto":
        return requested
    if device.type != "cuda":
        return "none"
    num_samples = batch_size * (latent_side / 64) ** 2
    return min(
        COSTS,
        key=lambda how: (
            COSTS[how].ready_s + num_steps * (COSTS[how].step_s + num_samples * COSTS[how].sample_s)
        ),
    )


def compile_network(network: Any, how: Compile) -> None:
    """Have a diffusers `network` compiled at its first call: its repeated blocks, or all of it.

    Sizes are taken as they are, for a training step has only one.
    """
    if how == "regional":
        network.compile_repeated_blocks(dynamic=False)
    elif how == "full":
        network.compile(dynamic=False)


def uncompiled(how: Compile) -> AbstractContextManager[Any]:
    """Within it, what `compile_network` compiled runs as it was written: other sizes, no wait."""
    # Asked for only where there is something compiled: the compiler takes seconds to import.
    return nullcontext() if how == "none" else torch.compiler.set_stance("force_eager")


def can_capture(accelerator: "Accelerator", *, obstacle: str | None = None) -> bool:
    """Whether a step can be one CUDA graph; where a GPU cannot, one warning gives the reason.

    obstacle: what in the step itself prevents it.
    """
    if accelerator.device.type != "cuda":
        return False
    if accelerator.scaler is not None:
        reason = "fp16's gradient scaler decides on the CPU whether a step counts"
    elif accelerator.num_processes > 1:
        reason = "gradients are averaged over several processes"
    elif obstacle is not None:
        reason = obstacle
    else:
        return True
    logger.warning("%s: %s", NO_GRAPH, reason)
    return False


def put(value: float, place: Any) -> Any:
    """`value`, written into `place` where that is a tensor, which a graph keeps reading."""
    return place.fill_(value) if isinstance(place, torch.Tensor) else value


class CudaGraph:
    """Records a function's kernels on a stream of its own, to launch them all at once."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        """`function()`, on the stream of the recording: what libraries keep is kept by stream."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # Adam takes its first steps outside of the graph that it was made for.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            result = function()
        current.wait_stream(self._stream)
        return result

    def record(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Record `function()` without running it; return the place of its result after a replay."""
        # The outer context puts the stream back where a broken capture leaves its own. Other
        # threads of this process may use the device meanwhile.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            return function()

    def replay(self) -> None:
        """Run what was recorded, on the tensors it was recorded with."""
        self._graph.replay()


class StepRunner:
    """Calls `step(*inputs)` over and over: plainly, or recorded as a graph after a warm-up.

    step: takes tensors on `device` and returns one; what it keeps is in tensors that it changes
    in place, it never looks at a value, and it can be begun again after it broke off.
    """

    def __init__(
        self,
        step: Callable[..., torch.Tensor],
        device: torch.device,
        *,
        compiled: Compile,
        graph: CudaGraph | None,
    ) -> None:
        self._step = step
        self._device = device
        self._compiled = compiled
        self._graph = graph
        self._num_calls = 0
        self._inputs: list[torch.Tensor] = []
        self._result: torch.Tensor | None = None

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The step's result, which on a GPU is not ready yet: no call here waits for it.

        inputs: on the CPU, of the same shapes at every call.
        """
        self._load(inputs)
        self._num_calls += 1
        if self._graph is None:
            return self._run()
        if self._num_calls <= NUM_WARM_UP:
            return self._graph.warm_up(self._run)
        if self._result is None:
            try:
                self._result = self._graph.record(self._run)
            except Exception as error:
                # Nothing of a recording runs: a failure leaves everything as it was.
                logger.warning("%s: the capture failed: %s", NO_GRAPH, _line(error))
                self._graph = None
                return self._run()
        self._graph.replay()
        return self._result.clone()  # the next replay writes into the same place

    def _load(self, inputs: Sequence[torch.Tensor]) -> None:
        """Copy `inputs` to where the step reads them, always the same place."""
        if not self._inputs:
            self._inputs = [torch.empty_like(given, device=self._device) for given in inputs]
        for place, given in zip(self._inputs, inputs, strict=True):
            # Pinned, the copy waits in the GPU's queue and Python continues with the next draw.
            pinned = given.pin_memory() if self._device.type == "cuda" else given
            place.copy_(pinned, non_blocking=True)

    def _run(self) -> torch.Tensor:
        if self._compiled == "none" or self._num_calls > 1:
            return self._step(*self._inputs)
        try:
            return self._step(*self._inputs)
        except Exception as error:
            # A compiler fails in many ways: no C compiler, no Triton, an operator it cannot take.
            logger.warning(
                "--compile %s failed, going on without: %s", self._compiled, _line(error)
            )
            self._step = _always_uncompiled(self._step)
            return self._step(*self._inputs)


def _always_uncompiled(step: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(*inputs: torch.Tensor) -> torch.Tensor:
        with torch.compiler.set_stance("force_eager"):
            return step(*inputs)

    return run


def _line(error: BaseException) -> str:
    """Return the message of `error` on one line; the compiler's are a name, then the text."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
