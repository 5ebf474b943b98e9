"""Settings of `train_lora.py`. No torch here: `--help` stays quick."""

from dataclasses import dataclass
from pathlib import Path

from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.settings.checks import Count, Positive


@dataclass(frozen=True, kw_only=True)
class TrainLoraConfig(DenoisingConfig):
    """Fine-tune the cross-attention of Stable Diffusion with a low-rank adapter on a frames folder.

    Frames are never flipped or rotated: a mirrored heart is another diagnosis. Where neither
    --config nor --base nor --data is given, the preset demo stands for the defaults below.
    """

    init_from: Path | None = None
    """Run folder or LoRA file whose adapter is started from, instead of a random one; its rank must
    be the one given here. Adam and the order of the frames start anew."""
    rank: Count = 8
    """Rank of the adapter matrices (1 or more)."""
    alpha: Positive = 8.0
    """The adapter's output is scaled by alpha / rank (above 0)."""
