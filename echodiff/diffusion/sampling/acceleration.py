"""Speed up the denoising network by a CUDA graph or compilation, if the job amortises the cost.

A CUDA graph replays the launches of one call and is ready after a few calls; compiled code takes
longer to prepare and saves more. If this machine or version of torch cannot compile or capture the
network, one warning says so, and images are drawn without.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from echodiff.diffusion.sampling.mask_control import MaskedSteps
from echodiff.training.graphs import CudaGraph

logger = logging.getLogger(__name__)

Compile = Literal["auto", "none", "regional", "full"]
UNetCall = Callable[..., Tensor]
"""Latents (B, C, h, w), time step (), text (B, tokens, width), and what a mask was encoded to, if
there is one, to predicted noise (B, C, h, w)."""

# Seconds of drawing without compiled code from which each is ahead at the end. On an H200 regional
# code is ready in about 20 s and saves an eighth, full code in about 100 s and saves two fifths.
REGIONAL_FROM_S = 150.0
FULL_FROM_S = 300.0

WARM_UP_CALLS = 2
"""Before a capture: libraries choose their kernels and workspaces in the first calls."""


def choose_compile(seconds_left: float) -> Compile:
    """Choose the compilation that a job of `seconds_left` amortises."""
    if seconds_left >= FULL_FROM_S:
        return "full"
    return "regional" if seconds_left >= REGIONAL_FROM_S else "none"


def call_eagerly(unet: Any) -> UNetCall:
    """Call the network without acceleration."""
    if isinstance(unet, MaskedSteps):
        return unet
    return lambda rows, t, text: unet(rows, t, encoder_hidden_states=text, return_dict=False)[0]


class AcceleratedUNet:
    """Accelerate a known number of calls of a network, all with the same shapes.

    requested: `auto` times the first `calls_per_batch` calls and then chooses. On CUDA the
    launches are replayed as a graph in any case.
    """

    def __init__(
        self, unet: Any, requested: Compile, *, num_calls: int, calls_per_batch: int
    ) -> None:
        self.unet, self.compile = unet, requested
        self.num_calls, self.calls_per_batch = num_calls, calls_per_batch
        self.num_done = 0
        self.started = 0.0
        self._eager = call_eagerly(unet)
        self._call: UNetCall | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self._call is None:
            if self.compile == "auto" and self.num_done == self.calls_per_batch:
                # The images of the first batch have reached the host: the device is done with them.
                seconds_a_call = (time.monotonic() - self.started) / max(1, self.num_done - 1)
                self.compile = choose_compile(seconds_a_call * (self.num_calls - self.num_done))
            if self.compile == "auto":
                if self.num_done <= 1:  # the first call loads kernels
                    self.started = time.monotonic()
                self.num_done += 1
                return self._eager(*inputs)
            self._call = self._prepare(*inputs)
        return self._call(*inputs)

    def release(self) -> None:
        """Restore the network, and free the memory of the graph."""
        self._call = None
        for module in self.unet.modules():
            module._compiled_call_impl = None

    def _prepare(self, *inputs: Tensor) -> UNetCall:
        try:
            if self.compile == "full":
                self.unet.compile(dynamic=False)
            elif self.compile == "regional":
                self.unet.compile_repeated_blocks(dynamic=False)
            self._eager(*inputs)  # code is compiled at its first call, so this is where it fails
            return CapturedCall(self._eager, inputs) if inputs[0].is_cuda else self._eager
        except Exception as error:  # compilers and drivers raise anything
            self.release()
            reason = (str(error).strip().splitlines() or [""])[0]
            logger.warning(
                "--compile %s: no compiled or captured UNet here, drawn without (%s: %s)",
                *(self.compile, type(error).__name__, reason),
            )
            return self._eager


class CapturedCall:
    """Replay a call as one CUDA graph; inputs must have the shapes of `examples`.

    The GPU does not wait for launches by the host during a replay.
    """

    def __init__(self, call: Callable[..., Tensor], examples: tuple[Tensor, ...]) -> None:
        self.inputs = [example.clone() for example in examples]
        self.graph = CudaGraph(examples[0].device)
        for _ in range(WARM_UP_CALLS):
            self.graph.warm_up(lambda: call(*self.inputs))
        self.output = self.graph.record(lambda: call(*self.inputs))

    def __call__(self, *inputs: Tensor) -> Tensor:
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        # The next replay writes over it, and multistep solvers keep what they were given.
        return self.output.clone()
