"""Settings of `train_lora.py`. No torch here: `--help` stays quick."""

from dataclasses import dataclass
from pathlib import Path

from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.diffusion.privacy_config import MembershipConfig, PrivacyConfig, check_privacy
from echodiff.settings.checks import Count, Positive


@dataclass(frozen=True, kw_only=True)
class TrainLoraConfig(MembershipConfig, PrivacyConfig, DenoisingConfig):
    """Fine-tune the cross-attention of Stable Diffusion with a low-rank adapter on a frames folder.

    Frames are never flipped or rotated: a mirrored heart is another diagnosis. Without
    --config, --base and --data, the preset demo replaces the defaults below.
    """

    init_from: Path | None = None
    """Run folder or LoRA file whose adapter to start from; its rank must be that of --rank. Adam
    and the order of the frames start again. Default: a random adapter."""
    rank: Count = 8
    """Rank of the adapter matrices (1 or more)."""
    alpha: Positive = 8.0
    """The adapter's output is scaled by alpha / rank (above 0)."""

    @property
    def watched_frames(self) -> int:
        """Held-out frames that are encoded: those of the held-out loss begin the list."""
        return max(self.held_out_frames, self.membership_frames if self.membership_every else 0)

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        super().__post_init__()
        check_privacy(self)
