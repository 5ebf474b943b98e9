"""Settings of every training of a denoising network. No torch here: `--help` stays quick."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echodiff.anatomy import Finding
from echodiff.extras import pip_command
from echodiff.phantom.styles import STYLE_NAMES
from echodiff.settings.checks import (
    Count,
    NotNegative,
    Positive,
    Share,
    Steps,
    at_least,
    at_most,
    between,
    check_ranges,
)
from echodiff.settings.command_line import flag_only, network_names
from echodiff.settings.training import (
    BatchConfig,
    CheckpointConfig,
    LogConfig,
    PrecisionConfig,
    RunConfig,
    SampleConfig,
)


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """What is fine-tuned, and on which frames."""

    base: str = "tiny"
    """Base model: `tiny` (embedded), a hub id, a local folder, or one .safetensors file."""
    data: Path | None = None
    """Frames folder to train on. Default: phantom frames, written into the run folder."""
    phantom_frames: Count = 480
    """Phantom frames to write without --data (count)."""
    phantom_style: str = "cedar"
    """Their scanner style: aspen and birch are known to the embedded base, cedar is not."""
    phantom_findings: str = ",".join(Finding)
    """Their findings, separated by commas. Default: all."""
    phantom_finding_rate: Share = 0.5
    """Share of their patients with a finding (0 to 1)."""
    annotated: Count | None = None
    """Captioned frames to train on, drawn by seed (count). Default: all."""
    regularization: Annotated[int, at_least(0)] | None = None
    """Frames with an empty prompt to train on next to them (count). If too few have no caption,
    unused captioned frames are taken without their text. Default: all without a caption."""
    regularization_weight: NotNegative = 1.0
    """Weight of a frame with an empty prompt in the loss, relative to a captioned one (0 or
    more)."""
    repeats: Count = 1
    """Times each captioned frame is shown per epoch; frames with an empty prompt are shown once
    (count)."""
    resolution: Count | None = None
    """Side to which frames are padded and resized (pixels). Default: that of the base."""


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How the loss is weighted and minimised."""

    max_steps: Count | None = None
    """Optimizer steps, more or fewer than the epochs give (count). Default: those of --epochs."""
    gradient_accumulation: Count = 1
    """Forward passes per optimizer step (count)."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate falls after the warm-up: not at all, or to zero at the last step."""
    lr_warmup: Annotated[int, at_least(0)] = 0
    """Steps in which the rate rises linearly from zero (count)."""
    weight_decay: NotNegative = 0.0
    """Adam's L2 penalty (0 or more)."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this global norm (above 0)."""
    caption_dropout: Share = 0.0
    """Probability that a caption is replaced by the empty prompt, for guidance (0 to 1)."""
    min_snr_gamma: Positive | None = None
    """Clip of the signal-to-noise weights of Hang et al. 2023, by which time steps are drawn (above
    0, usually 5). Default: all time steps equally often."""
    noise_offset: NotNegative = 0.0
    """Size of a noise constant over the image, which frees overall brightness (0 or more)."""
    ema_decay: Annotated[float, between(0, 1)] | None = None
    """Decay of a running mean of the weights, which is saved instead (0 to 1). Default: off."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: less memory, about a third slower."""
    optimizer: Literal["adam", "adam8bit"] = "adam"
    """adam8bit keeps Adam's state in a quarter of the memory (NVIDIA, package bitsandbytes)."""
    memory: bool = False
    """Take a few steps at the real size on a blank frame, print their peak memory, and stop."""


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """What is computed on held-out frames while training."""

    held_out_every: Steps = 0
    """Steps between losses on held-out frames, with fixed noise (count); 0: only at the end."""
    held_out_frames: Annotated[int, at_least(0)] = 16
    """Held-out frames in that loss (count); 0: no such loss."""
    sample_steps: Annotated[int, at_least(1), at_most(1000)] = 25
    """Sampler steps for the grids and the scored images (1 to 1000)."""
    sample_guidance: Positive = 5.0
    """Classifier-free guidance for the grids and the scored images (1: off)."""
    evaluate_every: Steps = 0
    """Steps between scores of generated images against held-out frames (count); 0: none. MMD^2 and
    KID (times a thousand) are logged with intervals and baselines, from step 0, the base, to the
    end. Captions and noise are the same each time, and the training does not change."""
    evaluate_images: Annotated[int, at_least(4)] = 64
    """Images generated for each scoring, their captions taken in turn from held-out frames (4 or
    more). Each costs what a generated image costs."""
    evaluate_features: tuple[str, ...] = network_names(("tiny", "texture"))
    """Feature networks of the scores, separated by commas, as in `echodiff evaluate --features`."""
    features_path: Path | None = flag_only(default=None)
    """Folder that is searched for the module of module:function besides the installed packages,
    such as `.`. Default: installed packages only."""
    trust: bool = flag_only(default=False)
    """Run the TorchScript files of --evaluate-features. They are programs, and can read and write
    files."""


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(
    HeldOutConfig, SampleConfig, LogConfig, CheckpointConfig, PrecisionConfig, OptimizationConfig,
    BatchConfig, RunConfig, FramesConfig,
):  # fmt: skip
    """Settings of every training of a denoising network, in full or in part."""

    epochs: Count = 4
    batch_size: Count = 2
    """Frames in one forward pass, over all processes together (count)."""
    learning_rate: Positive = 9e-4
    """Adam's step size at its highest (above 0)."""
    num_samples: Count = 4
    """Generated images in a grid, each under a held-out real frame (count)."""

    @property
    def needs_masks(self) -> bool:
        """Whether only frames with a mask can be trained on."""
        return False

    @property
    def watched_frames(self) -> int:
        """Held-out frames that are encoded, for what is computed on them while training."""
        return self.held_out_frames

    @property
    def parents(self) -> tuple[Path, ...]:
        """Weights that the training goes on from; their frames are counted as trained on too."""
        return () if self.init_from is None else (self.init_from,)

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        check_ranges(self)
        self.check_run_folder(data=self.data)
        if self.phantom_style not in STYLE_NAMES:
            known = ", ".join(STYLE_NAMES)
            raise ValueError(f"--phantom-style {self.phantom_style}: not one of {known}")
        unknown = sorted(set(self.phantom_findings.split(",")) - set(Finding))
        if unknown:
            raise ValueError(f"--phantom-findings: {', '.join(unknown)} not known")
        if self.optimizer == "adam8bit" and importlib.util.find_spec("bitsandbytes") is None:
            how = pip_command("bitsandbytes")
            raise ValueError(f"--optimizer adam8bit: needs the package bitsandbytes: {how}")
        if not self.evaluate_features:
            raise ValueError("--evaluate-features is empty")
