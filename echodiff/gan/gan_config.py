"""Settings of `echodiff train-gan`. No torch here: `--help` stays quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from echodiff.anatomy import Label
from echodiff.gan.names import ANTIALIASED, Adversarial, GeneratorName, Norm


@dataclass(frozen=True, kw_only=True)
class TrainGanConfig:
    """Train a translation of pictures: one frames folder is the source, another the target.

    Where both are in the same folder, as masks and their echoes are (--method patch_cgan),
    --source alone is given. Pictures are never mirrored: a mirrored heart is another diagnosis.
    """

    source: Path
    """Frames folder to translate from."""
    target: Path | None = None
    """Frames folder whose look is learnt (required but by patch_cgan and srgan)."""
    out: Path | None = None
    """Run folder; none: runs/gan-K, the unfinished one of the same settings or the next free."""
    overwrite: bool = False
    """Start anew in a folder that holds a finished or a different run."""
    seed: int = 0
    """Decides weights, held-out patients, order, crops and pool (0 or more)."""

    method: Literal["cyclegan", "cut", "patch_cgan", "regression", "srgan"] = "cyclegan"
    """cyclegan and cut need no pairs; patch_cgan draws the picture of a mask; regression has no
    adversary; srgan enlarges, and learns it on pictures at half their size."""
    generator: GeneratorName = "resnet_9"
    """Network. cut takes the anti-aliased ones, patch_cgan and srgan their own."""
    norm: Norm = "instance"
    """Norm layers of all networks; patch_cgan and srgan always have
    batch norms."""
    width: int = 64
    """Channels after the first layer of every network (count)."""
    channels: Literal[1, 3] = 1
    """Of the pictures: 1 keeps grey grey (colour becomes its luma), 3 is RGB."""

    source_kind: Literal["image", "mask"] = "image"
    """What of the source is translated: its pictures, or its masks. As pictures masks get the grey
    levels of Gilbert et al.; patch_cgan reads the label numbers themselves."""
    labels: tuple[int, ...] = ()
    """Label numbers of masks that are kept, the others are background; none: all."""
    pairing: Literal["random", "paired"] = "random"
    """How source and target meet: at random, or each with its partner (the same pair_id, else
    file name)."""
    held_out_share: float = 0.0
    """Share of the patients kept apart, by seed (0 to 1); a split column goes before it."""
    load_size: int | None = None
    """Side to which pictures are padded and resized (pixels); none: --resolution."""
    resolution: int = 256
    """Side of the random crop of it that is trained on (pixels)."""

    adversarial: Adversarial = "squares"
    """Adversarial loss: least squares, or the log form of 2014."""
    cycle_weight: float = 10.0
    """Weight of the cycle terms (0 or more)."""
    identity_weight: float = 5.0
    """Weight of the identity terms (0 or more; 0 saves their passes). The published lambda_identity
    of 0.5 is a share of the cycle weight: 5."""
    pool_size: int = 50
    """Old fakes the discriminator is shown in turn (count); 0: none."""
    nce_weight: float = 1.0
    """Weight of PatchNCE (0 or more)."""
    identity_nce: bool = True
    """PatchNCE on targets too, which the generator shall leave alone."""
    flip_equivariance: bool = False
    """Mirror half of the steps, as FastCUT does. It mirrors hearts, so it is off."""
    num_patches: int = 256
    """Places compared in each layer (2 or more)."""
    temperature: float = 0.07
    """Of PatchNCE (above 0)."""
    reconstruction_weight: float = 100.0
    """Weight of the error to the target: absolute of patch_cgan, squared of srgan (0 or more)."""

    epochs: int = 100
    """Epochs at the full rate (count); one shows the larger domain once."""
    decay_epochs: int = 100
    """Epochs after these, in which the rate falls linearly (count). The last one still learns."""
    steps: int | None = None
    """Optimizer steps in all, of which --epochs and --decay-epochs are then the shares at the full
    and at the falling rate (count); none: what the epochs make."""
    batch_size: int = 1
    """Pictures of each domain in a step (count)."""
    replacement: bool = False
    """Draw every batch anew instead of going through the set in epochs."""
    learning_rate: float = 2e-4
    """Adam's step size (above 0)."""
    learning_rate_d: float | None = None
    """The same for discriminators (above 0); none: --learning-rate."""
    beta1: float = 0.5
    """Adam's decay of the mean gradient (0 to 1, not 1)."""
    epsilon: float = 1e-8
    """Adam's smallest divisor (above 0)."""
    mixed_precision: Literal["auto", "no", "bf16"] = "no"
    """bf16: statistics of norms, last layers, losses and weights stay float32."""
    float32: Literal["ieee", "tf32"] = "tf32"
    """Convolutions in float32 on an NVIDIA card: tf32 rounds their inputs to 10 bits, as in the
    published trainings and much quicker; ieee does not."""
    compile: Literal["auto", "none", "regional", "full"] = "auto"
    """What is compiled: nothing, the blocks that repeat, all networks. auto: on NVIDIA the blocks
    in a run of 100,000 steps or more, else nothing. Steps are one CUDA graph there either way."""
    threads: int | None = None
    """CPU threads (count); none: torch's choice."""

    checkpoint_epochs: int = 5
    """Epochs between checkpoints (count); 0: none by epochs."""
    checkpoint_every: int = 0
    """Steps between checkpoints beside those (count); 0: none by steps."""
    keep: int | Literal["all"] = 2
    """Checkpoints kept (1 or more, or all). One of the U-Net CycleGAN takes 1.4 GB."""
    log_every: int = 10
    """Steps between readings of the losses (count): reading makes a GPU wait."""
    sample_every: int = 0
    """Steps between sample grids (count); 0: one at the end."""
    num_samples: int = 4
    """Columns of a grid (count)."""
    tracker: str = "none"
    """Where the curves also go: none, tensorboard, or any tracker that accelerate knows."""

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        for name in ("width", "resolution", "load_size", "steps", "batch_size", "epochs", "threads",
                     "keep", "log_every", "num_samples"):  # fmt: skip
            _at_least(1, name, getattr(self, name))
        _at_least(2, "num_patches", self.num_patches)
        for name in ("seed", "cycle_weight", "identity_weight", "pool_size", "nce_weight",
                     "reconstruction_weight", "decay_epochs", "checkpoint_epochs",
                     "checkpoint_every", "sample_every"):  # fmt: skip
            _at_least(0, name, getattr(self, name))
        if self.seed >= 2**64:
            raise ValueError(f"--seed {self.seed}: must be below 2^64")
        for name in ("temperature", "learning_rate", "learning_rate_d", "epsilon"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{_flag(name)} {value}: must be above 0")
        for name in ("held_out_share", "beta1"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{_flag(name)} {getattr(self, name)}: must be 0 to below 1")
        if self.load_size is not None and self.load_size < self.resolution:
            raise ValueError(
                f"--load-size {self.load_size}: is below --resolution {self.resolution}"
            )
        if unknown := set(self.labels) - set(map(int, Label)):
            raise ValueError(f"--labels: {', '.join(map(str, sorted(unknown)))} is no label")
        self._check_folders()
        self._check_networks()

    def _check_folders(self) -> None:
        if self.method in {"patch_cgan", "srgan"}:
            if self.target is not None:
                raise ValueError(
                    f"--target: --method {self.method} takes --source alone: its frames have "
                    "their masks, or their smaller selves, beside them"
                )
        elif self.target is None:
            raise ValueError("--target is missing: a frames folder of its own, not mixed with "
                             "--source")  # fmt: skip
        elif self.target.resolve() == self.source.resolve() and self.source_kind == "image":
            raise ValueError(
                f"--target {self.target}: is --source too; each domain needs a folder of its own"
            )
        for name, folder in (("source", self.source), ("target", self.target)):
            inside = self.out and folder and folder.resolve().is_relative_to(self.out.resolve())
            if self.overwrite and inside:
                raise ValueError(f"--{name} {folder}: lies inside --out, which --overwrite clears")

    def _check_networks(self) -> None:
        is_antialiased = self.generator.endswith(ANTIALIASED)
        if self.method == "cut" and not (is_antialiased and self.norm == "instance"):
            raise ValueError(
                f"--generator {self.generator} with --norm {self.norm}: cut takes resnet_9_"
                "antialiased or resnet_6_antialiased with instance norm, whose layers it compares"
            )
        for method, own in (("patch_cgan", "patch_cgan"), ("srgan", "srgan_x2")):
            if (self.method == method) != (self.generator == own):
                raise ValueError(
                    f"--generator {self.generator}: --method {method} and --generator {own} go "
                    "together"
                )
        if self.method == "srgan" and (self.resolution % 2 or (self.load_size or 0) % 2):
            raise ValueError("--resolution and --load-size of srgan are even: half is its source")
        if self.method == "srgan" and self.source_kind == "mask":
            raise ValueError("--source-kind mask: srgan enlarges pictures")
        if self.method == "patch_cgan" and self.source_kind != "mask":
            raise ValueError(f"--source-kind {self.source_kind}: patch_cgan translates masks")
        if self.method == "patch_cgan" and self.batch_size == 1 and self.resolution == 128:
            raise ValueError(
                "--batch-size 1: at --resolution 128 the batch norm in the middle of patch_cgan "
                "would see one value a channel; take 2 or more"
            )
        if self.resolution < 32:
            raise ValueError(f"--resolution {self.resolution}: the discriminator needs 32 pixels")


def _at_least(lowest: int, name: str, value: float | str | None) -> None:
    if isinstance(value, int | float) and not (math.isfinite(value) and value >= lowest):
        raise ValueError(f"{_flag(name)} {value}: must be {lowest} or more")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
