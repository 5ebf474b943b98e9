"""Choose the number format and the threads of a training, and start accelerate with them."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import torch

from echodiff.errors import InputError
from echodiff.extras import EXTRA_OF, pip_command
from echodiff.system import num_cores

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

logger = logging.getLogger(__name__)

MixedPrecision = Literal["auto", "no", "fp16", "bf16"]
Float32 = Literal["ieee", "tf32"]
"""What float32 means on an NVIDIA card from Ampere on: itself, or convolutions whose inputs are
rounded to 10 bits (TF32, torch's own default)."""

FULL_SIZE_PARAMETERS = 100_000_000
"""From this many parameters on a network gains from 16 bit: SD 1.5's UNet (860M) runs three times
faster in bf16 on a CPU that has it, an 8M one not at all (casts cost what the products save)."""


_LAUNCHED = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"}
"""Set by accelerate launch, by torchrun."""


LONGEST_WAIT = timedelta(days=30)
"""Of one process for another: the first one may simulate frames or score for hours while the others
wait, and where one dies the launcher ends them all."""

_UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
_OVERRULED = (
    "ACCELERATE_DYNAMO_",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_GRADIENT_CLIPPING",
)


@dataclass(frozen=True)
class Precision:
    """A number format for the frozen network and autocast; trained weights are always float32."""

    mixed_precision: Literal["no", "fp16", "bf16"]
    """The value for accelerate."""
    weight_dtype: torch.dtype
    """The format in which frozen weights are kept."""
    reason: str
    """One clause for the run record."""
    float32: Float32 = "ieee"
    """How convolutions in float32 round their inputs on an NVIDIA card."""

    @property
    def summary(self) -> str:
        """One clause for the terminal."""
        name = {"no": "float32"}.get(self.mixed_precision, self.mixed_precision)
        return f"{name} ({self.reason})"

    def to_record(self) -> dict[str, str]:
        """The entry of `run.json`."""
        return {
            "mixed_precision": self.mixed_precision,
            "mixed_precision_reason": self.reason,
            "float32": self.float32,
        }


def set_float32(kind: Float32) -> None:
    """Settle what float32 means on an NVIDIA card, for this process; CPUs always compute in it.

    Matrix products stay IEEE, as is torch's default; convolutions (and recurrent layers, which
    torch needs the same) follow `kind`.
    """
    # The older switch first: compilers read it, and torch refuses an answer where the two differ.
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Within it float32 is float32; afterwards it is what it was."""
    products = torch.backends.cuda.matmul.fp32_precision
    convolutions = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    set_float32("ieee")
    try:
        yield
    finally:
        set_float32("tf32" if convolutions == "tf32" else "ieee")
        torch.backends.cuda.matmul.fp32_precision = products


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware, not by widening to float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(bool(capabilities.get(name)) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def choose_precision(
    requested: MixedPrecision, *, num_parameters: int, device: torch.device
) -> Precision:
    """Resolve `requested` for a network of `num_parameters` on `device`.

    An explicit request wins; then what `accelerate launch --mixed_precision` asked for (it
    arrives in the environment, a script's own flag never sees it); then size and hardware decide.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    name: str = requested
    if requested != "auto":
        reason = "set by --mixed-precision"
    elif launched in ("fp16", "bf16"):
        name, reason = launched, "set by accelerate launch"
    elif launched not in ("no", ""):
        raise InputError(f"--mixed_precision {launched} of accelerate launch: use no, fp16 or bf16")
    elif num_parameters < FULL_SIZE_PARAMETERS:
        name, reason = "no", "a network this small does not gain from 16 bit"
    elif has_fast_bf16(device):
        name, reason = "bf16", f"this {device.type} multiplies bf16 in hardware"
    elif device.type == "cuda":
        name, reason = "fp16", "this GPU has no bf16"
    else:
        name, reason = "no", f"this {device.type} has no fast bf16"

    if name == "fp16" and device.type == "cpu":
        # No gradient scaler exists on the CPU: fp16 gradients would underflow to zero silently.
        logger.warning("fp16 needs a GPU: training in float32 on this CPU")
        return Precision("no", torch.float32, "fp16 was requested, but the device is a CPU")
    if name == "fp16":
        return Precision("fp16", torch.float16, reason)
    if name == "bf16":
        return Precision("bf16", torch.bfloat16, reason)
    return Precision("no", torch.float32, reason)


def choose_threads(requested: int | None, num_processes: int) -> int:
    """Set and return the CPU threads of this process.

    `accelerate launch` pins OMP_NUM_THREADS to 1 unless given `--cpu`, and torchrun does always,
    which halves the speed of a two-core machine: under them, and only without a setting,
    the cores are shared out.
    """
    is_launched = not _LAUNCHED.isdisjoint(os.environ)
    if requested is not None:
        torch.set_num_threads(requested)
    elif is_launched and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(max(1, num_cores() // num_processes))
    return torch.get_num_threads()


def leave_out_settings_of_others() -> None:
    """Take away what `accelerate config`, or an environment, of another project would change.

    Accelerate reads it past our own settings: gradients would be a quarter, in silence. What is
    not supported here is an InputError.
    """
    for name, what in _UNSUPPORTED.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise InputError(
                f"{name}={os.environ[name]}: {what} is not supported here: unset it, or give "
                "accelerate launch a --config_file without it"
            )
    overruled = []
    for name in sorted(name for name in os.environ if name.startswith(_OVERRULED)):
        value = os.environ.pop(name)
        if value.lower() not in ("", "no", "0", "1", "false", "default"):
            overruled.append(f"{name}={value}")
    if overruled and os.environ.get("RANK", "0") == "0":
        logger.warning(
            "%s: set for another project and left out: --compile and --gradient-accumulation "
            "decide here",
            ", ".join(overruled),
        )


def start_processes(threads: int | None) -> "PartialState":
    """Join the processes that a launcher started, alone where there is none; `choose_threads`.

    By default accelerate does not look for the other processes of a CPU run: each of two
    processes would take itself for the only one, and write the same files.
    """
    from accelerate import PartialState

    leave_out_settings_of_others()
    asked_for = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    is_cpu = asked_for or not torch.accelerator.is_available()
    state = PartialState(cpu=is_cpu, timeout=LONGEST_WAIT)
    is_one_of_many = "MASTER_ADDR" in os.environ and "LOCAL_RANK" not in os.environ
    if state.num_processes == 1 and is_one_of_many and "ACCELERATE_USE_CPU" in os.environ:
        logger.warning(
            "accelerate launch starts one process on a CPU and ignores --num_processes: "
            "torchrun --nproc-per-node N starts N"
        )
    # A process that ends with the one line of an error while another still joins would leave
    # that one with a traceback.
    state.wait_for_everyone()
    choose_threads(threads, state.num_processes)
    set_float32("ieee")
    return state


def start_accelerator(
    requested: MixedPrecision,
    *,
    num_parameters: int,
    batch_size: int | None = None,
    tracker: str,
    threads: int | None,
    float32: Float32 = "ieee",
) -> tuple["Accelerator", Precision]:
    """Build the `Accelerator` of a run; `tracker` is a name accelerate knows, or "none".

    `batch_size` is shared between all processes; None: that is up to the caller.
    """
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers

    installed = sorted(str(getattr(name, "value", name)) for name in get_available_trackers())
    if tracker not in ("none", *installed):
        if tracker in EXTRA_OF:
            raise InputError(f"--tracker {tracker}: needs its package: {pip_command(tracker)}")
        raise InputError(
            f"--tracker {tracker}: not installed here; there is {', '.join(['none', *installed])}"
        )
    state = start_processes(threads)
    if batch_size is not None and batch_size < state.num_processes:
        raise InputError(
            f"--batch-size {batch_size}: too small to share between {state.num_processes} processes"
        )
    precision = choose_precision(requested, num_parameters=num_parameters, device=state.device)
    accelerator = Accelerator(
        cpu=state.device.type == "cpu",
        # Named even if the launcher set the same: the two can then never differ.
        mixed_precision=precision.mixed_precision,
        log_with=None if tracker == "none" else tracker,
        # Where is known once there is a run folder: `Curves` sets it.
        project_dir="." if tracker != "none" else None,
    )
    set_float32(float32)  # after accelerate, which sets it too where a compiler is set
    precision = replace(precision, float32=float32)
    if not accelerator.is_main_process:
        logging.disable(logging.WARNING)  # every process would print the same
    return accelerator, precision
