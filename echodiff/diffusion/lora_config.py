"""Settings of `train_lora.py`. No torch here: `--help` stays quick."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from echodiff.anatomy import Finding
from echodiff.extras import pip_command
from echodiff.phantom.styles import STYLE_NAMES
from echodiff.settings.command_line import flag_only, network_names


@dataclass(frozen=True, kw_only=True)
class TrainLoraConfig:
    """Fine-tune the cross-attention of Stable Diffusion with a low-rank adapter on a frames folder.

    Frames are never flipped or rotated: a mirrored heart is another diagnosis. Where neither
    --config nor --base nor --data is given, the preset demo stands for the defaults below.
    """

    base: str = "tiny"
    """Base model: `tiny` (embedded), a hub id, a local folder, or one .safetensors file."""
    data: Path | None = None
    """Frames folder to learn from; none: phantom frames are written into the run folder."""
    out: Path | None = None
    """Run folder; none: runs/lora-K, the unfinished one of the same settings or the next free."""
    overwrite: bool = False
    """Start anew in a folder that holds a finished or a different run."""
    continue_: bool = False
    """Train the run in --out on, to more --epochs or --max-steps: exactly what it would be had they
    been asked for at once. All other settings stay as they were."""
    init_from: Path | None = None
    """Run folder or LoRA file whose adapter is started from, in place of a drawn one; its rank and
    alpha must be those given here. Adam and the order of the frames begin anew."""
    seed: int = 0
    """Decides adapter, choice and order of frames, noise and time steps (0 or more)."""

    phantom_frames: int = 480
    """Phantom frames to write when there is no data (count)."""
    phantom_style: str = "cedar"
    """Their scanner style: aspen and birch are known to the embedded base, cedar is not."""
    phantom_findings: str = "asd,vsd,lvh,dilated_lv,dilated_rv,dilated_la,dilated_ra"
    """Their findings, separated by commas."""
    phantom_finding_rate: float = 0.5
    """Share of their patients with a finding (0 to 1)."""

    annotated: int | None = None
    """Captioned frames to train on, drawn by seed (count); none: all there are."""
    regularization: int | None = None
    """Frames with null text to train on beside them (count); none: all without a caption. Where
    these do not suffice, captioned frames not used as such are taken without their text."""
    regularization_weight: float = 1.0
    """Weight of a null-text frame in the loss, relative to a captioned one (0 or more)."""
    repeats: int = 1
    """Times each captioned frame is shown in an epoch; null-text frames are shown once (count)."""
    resolution: int | None = None
    """Side to which frames are padded and resized (pixels); none: the base's own."""

    rank: int = 8
    """Rank of the adapter matrices (1 or more)."""
    alpha: float = 8.0
    """The adapter's output is scaled by alpha / rank (above 0)."""
    epochs: int = 4
    """Times the whole set is shown (count)."""
    max_steps: int | None = None
    """Optimizer steps, more or fewer than the epochs make (count); none: what the epochs make."""
    batch_size: int = 2
    """Frames in one forward pass, over all processes together (count)."""
    gradient_accumulation: int = 1
    """Forward passes to one optimizer step (count)."""
    learning_rate: float = 9e-4
    """Adam's step size at its highest (above 0)."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate falls after the warm-up: not at all, or to zero at the last step."""
    lr_warmup: int = 0
    """Steps in which the rate rises linearly from zero (count)."""
    weight_decay: float = 0.0
    """Adam's L2 penalty (0 or more)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm (above 0)."""

    caption_dropout: float = 0.0
    """Chance that a caption is replaced by null text, for guidance (0 to 1)."""
    min_snr_gamma: float | None = None
    """Clip of the signal-to-noise weights of Hang et al. 2023 (above 0, usually 5), by which time
    steps are drawn; none: all alike."""
    noise_offset: float = 0.0
    """Size of a noise constant over the image, which frees overall brightness (0 or more)."""
    ema_decay: float | None = None
    """Decay of a running mean of the weights, which is then what is saved (0 to 1); none: off."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: less memory, about a third slower."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Format of the frozen network. auto: 16 bit for a full-size base where hardware has it."""
    optimizer: Literal["adam", "adam8bit"] = "adam"
    """adam8bit keeps Adam's state in a quarter of the memory (NVIDIA, package bitsandbytes)."""
    compile: Literal["auto", "none", "regional", "full"] = "auto"
    """What of the UNet is compiled: nothing, its transformer blocks, all of it. auto: on NVIDIA
    what the run is long enough to earn back, elsewhere nothing."""
    memory: bool = False
    """Take a few steps at the real size on a blank frame, print their peak memory, and stop."""
    threads: int | None = None
    """CPU threads of one process (count); none: torch's choice."""

    checkpoint_every: int = 100
    """Steps between checkpoints (count); 0: none, a killed run starts anew."""
    keep: int = 2
    """Checkpoints kept (1 or more)."""
    log_every: int = 10
    """Steps between readings of the loss (count): reading makes a GPU wait."""
    held_out_every: int = 0
    """Steps between losses on held-out frames, with fixed noise (count); 0: only at the end."""
    held_out_frames: int = 16
    """Held-out frames in that loss (count); 0: no such loss."""
    sample_every: int = 0
    """Steps between sample grids (count); 0: none."""
    num_samples: int = 4
    """Generated images in a grid, each under a held-out real frame (count)."""
    sample_steps: int = 25
    """Sampler steps for the grids and the scored images (1 to 1000)."""
    sample_guidance: float = 5.0
    """Classifier-free guidance for the grids and the scored images (1: off)."""
    evaluate_every: int = 0
    """Steps between scores of drawn images against held-out frames (count); 0: none. MMD^2 and KID
    (times a thousand) with interval and floor join the curves, from step 0, the base, to the end.
    Captions and noise stay the same, and what is learnt does not change."""
    evaluate_images: int = 64
    """Images drawn for each scoring, their captions taken in turn from held-out frames (4 or more).
    Each costs what a generated image costs."""
    evaluate_features: tuple[str, ...] = network_names(("tiny", "texture"))
    """Feature networks of the scores, comma between, as in `echodiff evaluate --features`."""
    features_path: Path | None = flag_only(default=None)
    """Folder in which module:function is looked for besides the installed packages, such as `.`;
    none: never in the working folder."""
    trust: bool = flag_only(default=False)
    """Run the TorchScript files in --evaluate-features: they are programs, and can read and write
    files."""
    tracker: str = "none"
    """Where the curves also go: none, tensorboard, or any tracker that accelerate knows."""

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        _at_least(
            1,
            rank=self.rank,
            epochs=self.epochs,
            batch_size=self.batch_size,
            gradient_accumulation=self.gradient_accumulation,
            repeats=self.repeats,
            keep=self.keep,
            log_every=self.log_every,
            num_samples=self.num_samples,
            sample_steps=self.sample_steps,
            phantom_frames=self.phantom_frames,
            max_steps=self.max_steps,
            threads=self.threads,
            annotated=self.annotated,
            resolution=self.resolution,
        )
        _at_least(4, evaluate_images=self.evaluate_images)  # fewer have no score
        _at_least(
            0,
            seed=self.seed,
            lr_warmup=self.lr_warmup,
            checkpoint_every=self.checkpoint_every,
            held_out_every=self.held_out_every,
            held_out_frames=self.held_out_frames,
            sample_every=self.sample_every,
            evaluate_every=self.evaluate_every,
            weight_decay=self.weight_decay,
            noise_offset=self.noise_offset,
            regularization=self.regularization,
            regularization_weight=self.regularization_weight,
        )
        _above_zero(
            alpha=self.alpha,
            learning_rate=self.learning_rate,
            max_grad_norm=self.max_grad_norm,
            min_snr_gamma=self.min_snr_gamma,
            sample_guidance=self.sample_guidance,
        )
        _within(
            0.0,
            1.0,
            caption_dropout=self.caption_dropout,
            phantom_finding_rate=self.phantom_finding_rate,
        )
        if self.seed >= 2**64:
            raise ValueError(f"--seed {self.seed}: must be below 2^64")
        if self.sample_steps > 1000:
            raise ValueError(f"--sample-steps {self.sample_steps}: must be 1000 or less")
        if self.phantom_style not in STYLE_NAMES:
            known = ", ".join(STYLE_NAMES)
            raise ValueError(f"--phantom-style {self.phantom_style}: not one of {known}")
        unknown = sorted(set(self.phantom_findings.split(",")) - set(Finding))
        if unknown:
            raise ValueError(f"--phantom-findings: {', '.join(unknown)} not known")
        if self.ema_decay is not None and not 0.0 < self.ema_decay < 1.0:
            raise ValueError(f"--ema-decay {self.ema_decay}: must lie between 0 and 1")
        if self.optimizer == "adam8bit" and importlib.util.find_spec("bitsandbytes") is None:
            how = pip_command("bitsandbytes")
            raise ValueError(f"--optimizer adam8bit: needs the package bitsandbytes: {how}")
        if self.continue_ and (self.overwrite or self.out is None):
            raise ValueError(
                "--continue: takes the run of --out, and not together with --overwrite"
            )
        if not self.evaluate_features:
            raise ValueError("--evaluate-features is empty")
        out, data = self.out, self.data
        if self.overwrite and out and data and data.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"--data {data}: lies inside --out, which --overwrite clears")


def _at_least(lowest: int, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value >= lowest):
            raise ValueError(f"{_flag(name)} {value}: must be {lowest} or more")


def _above_zero(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{_flag(name)} {value}: must be above 0")


def _within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{_flag(name)} {value}: must lie between {low:g} and {high:g}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
