"""Settings of `echodiff train-gan`. No torch here: `--help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echodiff.anatomy import Label
from echodiff.gan.names import ANTIALIASED, Adversarial, GeneratorName, Norm
from echodiff.settings.checks import (
    Count,
    NotNegative,
    Positive,
    ShareBelowOne,
    Steps,
    at_least,
    check_ranges,
)
from echodiff.settings.training import (
    BatchConfig,
    CheckpointConfig,
    LogConfig,
    PrecisionConfig,
    RunConfig,
    SampleConfig,
)


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """What is translated into what."""

    source: Path
    """Frames folder to translate from."""
    target: Path | None = None
    """Frames folder to translate into. Required, except for patch_cgan and srgan, which have
    none."""
    source_kind: Literal["image", "mask"] = "image"
    """What of the source is translated: its images, or its masks. As images masks get the grey
    levels of Gilbert et al.; patch_cgan reads the label numbers themselves."""
    labels: tuple[int, ...] = ()
    """Label numbers of masks that are kept, the others are background. Default: all."""
    pairing: Literal["random", "paired"] = "random"
    """How source and target meet: at random, or each with its partner (the same pair_id, else
    file name)."""
    held_out_share: ShareBelowOne = 0.0
    """Share of the patients held out, by seed (0 to 1); a split column takes precedence."""
    load_size: Count | None = None
    """Side to which images are padded and resized (pixels). Default: --resolution."""
    resolution: Count = 256
    """Side of the random crop of it that is trained on (pixels)."""
    channels: Literal[1, 3] = 1
    """Of the images: 1 keeps grey grey (colour becomes its luma), 3 is RGB."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The method, and the size of its networks."""

    method: Literal["cyclegan", "cut", "patch_cgan", "regression", "srgan"] = "cyclegan"
    """cyclegan and cut need no pairs; patch_cgan draws the image of a mask; regression has no
    discriminator; srgan enlarges, and learns it on images at half their size."""
    generator: GeneratorName = "resnet_9"
    """Network. cut takes the anti-aliased ones, patch_cgan and srgan their own."""
    norm: Norm = "instance"
    """Norm layers of all networks; patch_cgan and srgan always have batch norms and ignore this
    setting."""
    width: Count = 64
    """Channels after the first layer of every network (count)."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The terms of the loss and their weights."""

    adversarial: Adversarial = "squares"
    """Adversarial loss: least squares, or the log form of 2014."""
    cycle_weight: NotNegative = 10.0
    """Weight of the cycle terms (0 or more)."""
    identity_weight: NotNegative = 5.0
    """Weight of the identity terms (0 or more; 0 saves their passes). The published lambda_identity
    of 0.5 is a share of the cycle weight: 5."""
    pool_size: Annotated[int, at_least(0)] = 50
    """Earlier fakes that the discriminator is shown in turn (count); 0: none."""
    nce_weight: NotNegative = 1.0
    """Weight of PatchNCE (0 or more)."""
    identity_nce: bool = True
    """Identity loss on target images: PatchNCE between a target and its translation."""
    flip_equivariance: bool = False
    """Mirror half of the steps, as FastCUT does. It mirrors hearts, so it is off."""
    num_patches: Annotated[int, at_least(2)] = 256
    """Places compared in each layer (2 or more)."""
    temperature: Positive = 0.07
    """Of PatchNCE (above 0)."""
    reconstruction_weight: NotNegative = 100.0
    """Weight of the error to the target: absolute for patch_cgan, squared for srgan (0 or more)."""


@dataclass(frozen=True, kw_only=True)
class TrainGanConfig(
    SampleConfig, LogConfig, CheckpointConfig, PrecisionConfig, BatchConfig, LossConfig,
    NetworkConfig, RunConfig, DomainConfig,
):  # fmt: skip
    """Train a translation of images: one frames folder is the source, another the target.

    If both are in the same folder, as masks and their echoes are (--method patch_cgan), give
    --source alone. Images are never mirrored: a mirrored heart is another diagnosis.
    """

    continue_: bool = False
    """Train the run in --out to more --steps or --epochs, with the same result as a run of that
    length from the start. Refused once the rate has begun to fall. All other settings stay as
    they were."""
    init_from: Path | None = None
    """Finished run whose networks, discriminators too, to start from; or a generator file,
    .safetensors or a published .pth, from which only the generator from source to target
    starts. Adam, the order of the images and the pool start again. Default: random weights."""
    epochs: Count = 100
    """Epochs at the full rate (count); one shows the larger domain once."""
    batch_size: Count = 1
    """Images of each domain in a step (count)."""
    learning_rate: Positive = 2e-4
    """Adam's step size (above 0)."""
    mixed_precision: Literal["auto", "no", "bf16"] = "no"
    """bf16: statistics of norms, last layers, losses and weights stay float32."""
    compile: Literal["auto", "none", "regional", "full"] = "auto"
    """What is compiled: none, the repeated blocks, or all networks. auto: on NVIDIA the blocks in a
    run of 100,000 steps or more, else none. Steps are one CUDA graph there either way."""
    checkpoint_every: Steps = 0
    """Steps between checkpoints in addition to those by epochs (count); 0: none by steps."""
    keep: Count | Literal["all"] = 2
    """Checkpoints kept (1 or more, or all). One of the U-Net CycleGAN takes 1.4 GB."""
    sample_every: Steps = 0
    """Steps between sample grids, drawn with the loss curves (count); 0: once, at the end."""
    num_samples: Count = 4
    """Columns of a grid (count)."""
    decay_epochs: Annotated[int, at_least(0)] = 100
    """Epochs after these, in which the rate falls linearly (count). The last one still learns."""
    steps: Count | None = None
    """Optimizer steps in total; --epochs and --decay-epochs are then the shares at the full and at
    the falling rate (count). Default: those of the epochs."""
    replacement: bool = False
    """Draw every batch at random instead of going through the set in epochs."""
    learning_rate_d: Positive | None = None
    """Adam's step size for discriminators (above 0). Default: --learning-rate."""
    beta1: ShareBelowOne = 0.5
    """Adam's decay of the mean gradient (0 to 1, not 1)."""
    epsilon: Positive = 1e-8
    """Adam's smallest divisor (above 0)."""
    float32: Literal["ieee", "tf32"] = "tf32"
    """Convolutions in float32 on an NVIDIA card: tf32 rounds their inputs to 10 bits, as in the
    published trainings and much quicker; ieee does not."""
    checkpoint_epochs: Annotated[int, at_least(0)] = 5
    """Epochs between checkpoints (count); 0: none by epochs."""

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        check_ranges(self)
        self.check_run_folder(source=self.source, target=self.target)
        if self.load_size is not None and self.load_size < self.resolution:
            raise ValueError(
                f"--load-size {self.load_size}: is below --resolution {self.resolution}"
            )
        if unknown := set(self.labels) - set(map(int, Label)):
            raise ValueError(f"--labels: {', '.join(map(str, sorted(unknown)))} is not a label")
        self._check_folders()
        self._check_networks()

    def _check_folders(self) -> None:
        if self.method in {"patch_cgan", "srgan"}:
            if self.target is not None:
                raise ValueError(
                    f"--target: --method {self.method} takes --source alone: its frames have "
                    "their masks, or their copies at half the size, with them"
                )
        elif self.target is None:
            raise ValueError("--target is missing: its own frames folder, not mixed with "
                             "--source")  # fmt: skip
        elif self.target.resolve() == self.source.resolve() and self.source_kind == "image":
            raise ValueError(
                f"--target {self.target}: is --source too; each domain needs its own folder"
            )

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
            raise ValueError("--source-kind mask: srgan enlarges images")
        if self.method == "patch_cgan" and self.source_kind != "mask":
            raise ValueError(f"--source-kind {self.source_kind}: patch_cgan translates masks")
        if self.method == "patch_cgan" and self.batch_size == 1 and self.resolution == 128:
            raise ValueError(
                "--batch-size 1: at --resolution 128 the batch norm in the middle of patch_cgan "
                "would see one value per channel; take 2 or more"
            )
        if self.resolution < 32:
            raise ValueError(f"--resolution {self.resolution}: the discriminator needs 32 pixels")
