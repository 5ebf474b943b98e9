"""Settings of `generate.py`. No torch here: `--help` stays quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from echodiff.settings.command_line import flag_only, network_names

NO_WEIGHTS = "none"
"""Value of --weights that asks for the bare base."""
Scheduler = Literal["ddim", "dpmpp", "dpmpp-karras", "euler", "unipc", "pndm"]


class Solver(NamedTuple):
    """A way from noise to image."""

    scheduler: Scheduler
    steps: int


USUAL = Solver("dpmpp", 25)
FAST = Solver("dpmpp-karras", 12)
"""What --fast stands for; docs/generation.md holds it against 50 steps."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Draw images for the prompts of a file into a frames folder, and score them.

    Image i takes prompt i mod their number and depends on (seed, i) alone.
    """

    prompt_file: Path
    """Prompts, one a line; `#` starts a comment, `| guidance=4 weight=2` are options of a line."""
    num_images: int = 64
    """Images to draw (1 or more)."""
    steps: int | None = None
    """Steps of the sampler (1 to 1000); none: 25, or those of --fast."""
    guidance: float = 5.0
    """Classifier-free guidance: how strongly the prompt is followed (1: off)."""
    scheduler: Scheduler | None = None
    """Solver, all of them deterministic given the first noise; none: dpmpp, or that of --fast."""
    fast: bool = False
    """Half the steps by a better solver: `--scheduler dpmpp-karras --steps 12`."""
    batch_size: int = 8
    """Images drawn at once (1 or more)."""
    seed: int = 0
    """With the index of an image decides its noise (0 or more)."""
    resolution: int | None = None
    """Side of the images (pixels); none: that of the run, else the base's own."""

    base: str | None = None
    """`tiny`, a hub id, a local folder, or one .safetensors file; none: the run's, else `tiny`."""
    weights: str | None = None
    """Run folder, LoRA file, hub:USER/NAME@REV (what `echodiff push` pushed), or `none` for the
    bare base; none given: the newest finished run."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Format of the networks. auto: 16 bit for a full-size base where hardware has it."""
    compile: Literal["auto", "none", "regional", "full"] = "auto"
    """Compiled code for the denoising network: ready in about 20 s (regional) or 100 s (full).
    auto: on a GPU, what the time that the images will take earns back."""
    exact: bool = False
    """Draw in fixed, padded blocks: the bits of an image depend on nothing else, at some cost."""

    reference: Path | None = None
    """Frames folder or run folder to score against; none: the run's held-out frames, else
    phantoms."""
    split: str | None = None
    """Splits of the reference, comma between; none: all but train of a folder with a split column,
    test of a run, and val where it has fewer than four test frames."""
    features: tuple[str, ...] = network_names(("inception", "tiny", "texture"))
    """Feature networks of the scores, comma between, as in `echodiff evaluate --features`."""
    features_path: Path | None = flag_only(default=None)
    """Folder in which module:function is looked for besides the installed packages, such as `.`;
    none: never in the working folder."""
    trust: bool = flag_only(default=False)
    """Run the TorchScript files in --features: they are programs, and can read and write files."""
    out: Path | None = None
    """Folder to write; none: generated/PROMPTS-K, the unfinished one of the same settings or the
    next free."""
    overwrite: bool = False
    """Start anew in a folder that holds a finished or a different set."""

    @property
    def solver(self) -> Solver:
        """Scheduler and steps as they were given, or else those of --fast, or the usual ones."""
        if self.fast:
            return FAST
        return Solver(self.scheduler or USUAL.scheduler, self.steps or USUAL.steps)

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        for name, given in (("steps", self.steps), ("scheduler", self.scheduler)):
            if self.fast and given is not None:
                raise ValueError(f"--fast: chooses --{name} itself, leave one of the two out")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"--steps {self.steps}: must be 1 to 1000, the noise schedule's")
        if self.exact and self.compile not in ("auto", "none"):
            raise ValueError(f"--compile {self.compile}: its bits differ, leave it or --exact out")
        for name, lowest in (("num_images", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < lowest:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} {getattr(self, name)}: must be {lowest} or more")
        if self.seed >= 2**64:
            raise ValueError(f"--seed {self.seed}: must be below 2^64")
        if not math.isfinite(self.guidance) or self.guidance < 1:
            raise ValueError(f"--guidance {self.guidance}: must be 1 or more")
        if not self.features:
            raise ValueError("--features: name at least one network")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"--resolution {self.resolution}: must be 1 or more")
        out, real = self.out, self.reference
        if self.overwrite and out and real and real.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"--reference {real}: lies inside --out, which --overwrite clears")
