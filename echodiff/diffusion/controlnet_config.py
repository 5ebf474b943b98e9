"""Settings of `echodiff train-controlnet`. No torch here: `--help` stays quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echodiff.anatomy import Label
from echodiff.data.labels import parse_table
from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.settings.checks import Count, Positive, Share, Steps, at_least

RATES = {
    "controlnet": (5e-4, 1e-5),
    "control-lora": (1e-3, 1e-4),
    "t2i-adapter": (1e-3, 1e-5),
    "concat": (1e-3, 1e-4),
}
"""Rate of each kind without --learning-rate: for the embedded base, and for another one."""


@dataclass(frozen=True, kw_only=True)
class TrainControlNetConfig(DenoisingConfig):
    """Train a network next to Stable Diffusion that makes its images obey a label mask.

    Every frame of --data needs a mask of its own size. Without --data, phantom frames with their
    masks. Image and mask are padded, resized and moved together, and never flipped. Then:
    `python generate.py --masks DIR --weights RUN`.
    """

    kind: Literal["controlnet", "control-lora", "t2i-adapter", "concat"] = "controlnet"
    """controlnet: a copy of the UNet's encoder, trained whole. control-lora: the same with low-rank
    matrices, a tenth of the weights. t2i-adapter: features that are computed once an image.
    concat: the mask as further input channels of the UNet, and low-rank matrices."""
    lora: Path | None = None
    """Run folder of train_lora.py, or LoRA file, under which this is trained. A copy is kept in the
    run, and generate.py loads both."""
    lora_scale: Positive = 1.0
    """Strength of that LoRA during the training (above 0)."""
    rank: Count = 8
    """Rank of the low-rank matrices of control-lora and concat (1 or more)."""
    alpha: Positive = 8.0
    """They are scaled by alpha / rank (above 0)."""
    labels: tuple[str, ...] = ()
    """Labels to train on, such as LV,LV_MYOCARDIUM,LA; all others become background. Default: those
    that occur in the masks."""
    mask_labels: str | None = None
    """Meaning of the masks' numbers or colours: camus, acdc, mnms, hvsmr, a list like 1=LV,2=RV, or
    a YAML file of such lines. Default: the numbers are those of docs/frames.md."""
    mask_dropout: Share = 0.1
    """Probability that a sample is shown an empty mask, for guidance (0 to 1)."""
    label_dropout: Share = 0.25
    """Probability that a sample is shown a random part of its labels, so that images can be drawn
    from masks with fewer labels (0 to 1)."""
    augment: Count = 1
    """Copies of each training frame (count): the first as it is, in the others image and mask are
    shifted (at most 5 % of the side), turned (5 degrees) and scaled (8 %) together. An epoch shows
    all of them. Nothing is flipped."""
    obedience_every: Steps = 0
    """Steps between comparisons of asked-for masks with those read from drawn images (count); 0: at
    the start and the end."""
    obedience_images: Annotated[int, at_least(0)] = 8
    """Images drawn for each comparison (count); 0: no comparison."""
    segmenter: Path | None = None
    """Folder of a segmenter of your own (model.safetensors, config.json) that reads the drawn
    images. Default: the shipped one, trained on phantom frames."""
    caption_dropout: Share = 0.1
    """Probability that a caption is replaced by the empty prompt (0 to 1)."""
    learning_rate: Positive = math.inf
    """Adam's step size at its highest (above 0). Default: 5e-4 for controlnet and 1e-3 for the
    other kinds with --base tiny; else 1e-5 for controlnet and t2i-adapter, 1e-4 for the others."""

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        if math.isinf(self.learning_rate):  # not given: the parser refuses infinity
            rate = RATES[self.kind][int(self.base != "tiny")]
            object.__setattr__(self, "learning_rate", rate)
        super().__post_init__()
        if self.init_from is not None:
            raise ValueError("--init-from: a training with masks starts from the base; see --lora")
        if unknown := [name for name in self.labels if name.upper() not in Label.__members__]:
            known = ", ".join(Label.__members__)
            raise ValueError(f"--labels {unknown[0]}: not one of {known}")
        if self.lora is None and self.lora_scale != 1:
            raise ValueError(f"--lora-scale {self.lora_scale}: there is no --lora")
        parse_table(self.mask_labels)

    @property
    def needs_masks(self) -> bool:
        return True

    @property
    def parents(self) -> tuple[Path, ...]:
        return () if self.lora is None else (self.lora,)

    @property
    def asked_labels(self) -> frozenset[Label]:
        """Labels of --labels; empty: all."""
        return frozenset(Label[name.upper()] for name in self.labels)
