"""Settings that every training has, in groups. A command inherits them and adds its own.

Of several bases the fields of the last come first: `class Mine(SampleConfig, RunConfig)`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from echodiff.settings.checks import Count, Positive, Seed, Steps
from echodiff.settings.fields import flag_of


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run is written, and what it starts from."""

    out: Path | None = None
    """Run folder. Default: the unfinished run of the same settings in runs/, or the next free
    folder there."""
    overwrite: bool = False
    """Start again in a folder that holds a finished or a different run."""
    continue_: bool = False
    """Train the run in --out to more steps, with the same result as a run of that length from
    the start. All settings but those of the length stay as they were."""
    init_from: Path | None = None
    """Run folder or weights file to start from instead of random weights."""
    seed: Seed = 0
    """Every random draw is a function of it and of the step (0 or more)."""

    def check_run_folder(self, **read: Path | None) -> None:
        """ValueError where these flags do not go together, or where --overwrite would clear a
        folder that is read; `read` maps settings to folders."""
        if self.continue_ and (self.overwrite or self.out is None):
            raise ValueError(
                "--continue: takes the run of --out, and not together with --overwrite"
            )
        if not (self.overwrite and self.out):
            return
        for name, folder in read.items():
            if folder and folder.resolve().is_relative_to(self.out.resolve()):
                raise ValueError(
                    f"{flag_of(name)} {folder}: lies inside --out, which --overwrite clears"
                )


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Length and rate of the training, and its batch size."""

    epochs: Count = 1
    """Times the whole set is shown (count)."""
    batch_size: Count = 1
    """Frames in one forward pass (count)."""
    learning_rate: Positive = 1e-4
    """Adam's step size (above 0)."""


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """In which number format, and how compiled, a step is computed."""

    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Number format. auto: 16 bit for a full-size network where the hardware has it."""
    compile: Literal["auto", "none", "regional", "full"] = "auto"
    """What is compiled: none, the repeated blocks, or everything. auto: on NVIDIA if the run
    amortises the compilation, else none."""
    threads: Count | None = None
    """CPU threads of one process (count). Default: torch's choice."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """How often the state is saved."""

    checkpoint_every: Steps = 100
    """Steps between checkpoints (count); 0: none, a killed run starts again."""
    keep: Count | Literal["all"] = 2
    """Checkpoints kept (1 or more, or all)."""


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How often the losses are logged, and where."""

    log_every: Count = 10
    """Steps between rows of losses (count): reading them makes a GPU wait."""
    tracker: str = "none"
    """Where the curves also go: none, tensorboard, or any tracker that accelerate knows."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How often sample grids are drawn."""

    sample_every: Steps = 0
    """Steps between sample grids (count); 0: none. Loss curves come as often and at the end."""
    num_samples: Count = 4
    """Generated images in a grid (count)."""
