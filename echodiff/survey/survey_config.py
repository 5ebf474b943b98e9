"""Settings of `echodiff compare-generators`. No torch here: `--help` stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echodiff.settings.checks import (
    Count,
    Positive,
    Seed,
    ShareBelowOne,
    Steps,
    at_least,
    at_most,
    check_ranges,
)
from echodiff.settings.command_line import flag_only, network_names

Arm = Literal["gan", "vae", "diffusion", "diffusion-v", "flow", "controlnet"]
ARMS: tuple[Arm, ...] = ("gan", "vae", "diffusion", "diffusion-v", "flow", "controlnet")
CONTROLNET: Arm = "controlnet"
DECODER = "decoder"
"""Name of the training of a decoder, which is no arm."""
DENOISING: tuple[Arm, ...] = ("diffusion", "diffusion-v", "flow")
"""Arms of the one UNet: only objective and sampler differ."""
PIXEL_DEVIATION, LATENT_DEVIATION = 0.5, 1.0
"""Root mean square that denoising networks are scaled for: of images in -1..1 (Karras et al. 2022,
table 1; simulated MR has 0.67), and of scaled latents."""
Normalisation = Literal["none", "zscore", "histogram"]
PHANTOM_HELD_OUT = ("cedar",)
"""Scanner style held out where no data are given."""
LEAST_RESOLUTION = 32
SEEDS_WITH_INTERVAL = 3


@dataclass(frozen=True, kw_only=True)
class SurveyConfig:
    """Train a GAN, a VAE, diffusion, flow matching and a ControlNet on the same frames with masks,
    with equal compute, and compare what they draw: fidelity, utility for segmentation, privacy, and
    all of it on a scanner that no training has seen.

    The same command resumes an unfinished comparison.
    """

    data: Path | None = None
    """Frames folder of real frames with masks; train is trained on, val and test are drawn for and
    tested on. Without a split column, 70 % of the patients of each vendor are trained on. Default:
    MR frames of simulated hearts with three scanner styles, written below --out."""
    out: Path
    """Folder for survey.json, report.html, every training and every set of images."""
    arms: tuple[Arm, ...] = ARMS
    """Generators to compare, separated by commas. diffusion predicts the noise, diffusion-v the
    velocity; flow is rectified flow."""
    held_out_vendor: tuple[str, ...] = ()
    """Vendors (scanner styles) that nothing is trained on, separated by commas. Without --data:
    cedar."""
    normalisation: tuple[Normalisation, ...] = ("none", "zscore", "histogram")
    """Intensity normalisations of the frames that a segmentation is trained and tested on,
    separated by commas; compared on the held-out vendors."""
    space: Literal["pixel", "latent"] = "pixel"
    """Where diffusion and flow run: on pixels, or on the latents of --base. GAN and VAE draw
    pixels."""
    base: str = "tiny"
    """Base model of the arm controlnet and of --space latent: `tiny` (embedded), a hub id, a local
    folder, or one .safetensors file."""
    decoder_share: ShareBelowOne = 0.2
    """Share of the operations of an arm on latents that fit the decoder of --base to the training
    frames, once for all of these arms (0 to below 1); 0: the decoder stays as it is."""
    resolution: Annotated[int, at_least(LEAST_RESOLUTION)] = 128
    """Side of the images in pixels: a power of two, such as 128 or 256."""
    channels: Annotated[int, at_least(8)] = 24
    """Channels of the UNet at full resolution (a multiple of 8); the other arms are made as wide as
    gives the same number of parameters. 24 is 2.2 million."""
    patch: Literal[1, 2, 4] = 2
    """Side of the blocks of pixels or latents that the UNet takes as channels: 2 makes its step
    four times cheaper."""
    max_steps: Count = 4000
    """Optimizer steps of diffusion on pixels (count). All other arms take as many as cost the same
    floating point operations."""
    batch_size: Annotated[int, at_least(2)] = 8
    """Frames in one step of every arm (2 or more)."""
    learning_rate: Positive = 1e-3
    """Adam's step size of diffusion, flow, VAE, decoder and the GAN's discriminator (above 0). The
    GAN's generator takes half of it, and controlnet its own."""
    ema_decay: ShareBelowOne = 0.999
    """Decay of the running mean of the weights that images are drawn with (0 to below 1)."""
    style_dropout: ShareBelowOne = 0.1
    """Probability that a training frame is shown without its vendor (0 to below 1)."""
    sampler: Literal["ddim", "dpm"] = "ddim"
    """Sampler of both kinds of diffusion; flow takes Euler steps."""
    sample_steps: Annotated[int, at_least(1), at_most(1000)] = 32
    """Sampler steps of diffusion, flow and controlnet (1 to 1000)."""
    curve_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of steps at which diffusion and flow are compared, separated by commas."""
    seeds: Count = SEEDS_WITH_INTERVAL
    """Trainings of each arm and of each segmentation (count); intervals over trainings need 2."""
    num_images: Annotated[int, at_least(4)] = 200
    """Images of each training for the scores: held-out masks in turn (4 or more)."""
    num_synthetic: Annotated[int, at_least(1)] = 400
    """Images of each training for the segmentation: training masks in turn (count)."""
    features: tuple[str, ...] = network_names(("tiny", "texture"))
    """Feature networks of the distances, separated by commas, as in `echodiff evaluate --features`.
    The first decides the gate."""
    labels: tuple[str, ...] = ()
    """Labels to segment, separated by commas, such as lv,lv_myocardium,rv. Default: the chambers
    and the left-ventricular wall, as far as the masks have them."""
    segmentation_steps: Count = 600
    """Optimizer steps of every segmentation (count)."""
    segmentation_width: Count = 16
    """Channels of the segmentation network at full resolution (count)."""
    phantom_frames: Annotated[int, at_least(24)] = 720
    """Simulated frames without --data (24 or more)."""
    phantom_views: tuple[Literal["A4C", "PSAX"], ...] = ("A4C",)
    """Their planes, separated by commas: A4C, the four chambers; PSAX, a short axis."""
    checkpoint_every: Steps = 200
    """Steps between checkpoints of a training (count); 0: none, a killed training starts again."""
    threads: Count | None = None
    """CPU threads of the process (count). Default: torch's choice."""
    seed: Seed = 0
    """First seed of the trainings; every random draw follows from it (0 or more)."""
    dry_run: bool = flag_only(default=False)
    """Check the frames, count and time a few steps of every arm, print the time and disk that the
    comparison will take, and stop."""

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        check_ranges(self)
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"--resolution {self.resolution}: must be a power of two")
        if self.channels % 8:
            raise ValueError(f"--channels {self.channels}: must be a multiple of 8")
        for name in ("arms", "normalisation", "curve_steps", "features"):
            values = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            if not values:
                raise ValueError(f"{flag} is empty")
            if len(set(values)) < len(values):
                raise ValueError(f"{flag}: {max(values, key=values.count)} is named twice")
        if not all(1 <= steps <= 1000 for steps in self.curve_steps):
            raise ValueError("--curve-steps: must be whole numbers from 1 to 1000")
        if self.data is None and set(self.held_out_vendor) - {"aspen", "birch", "cedar"}:
            raise ValueError(
                f"--held-out-vendor {','.join(self.held_out_vendor)}: simulated frames are of "
                "aspen, birch and cedar"
            )

    @property
    def held_out(self) -> tuple[str, ...]:
        """Vendors that are held out; of simulated frames cedar, if none is named."""
        return self.held_out_vendor or (PHANTOM_HELD_OUT if self.data is None else ())


def draws_latents(arm: Arm, space: str) -> bool:
    """Whether the images of an arm come from the decoder of --base."""
    return arm == CONTROLNET or (arm in DENOISING and space == "latent")


def find_deviation(arm: str, space: str) -> float:
    """Root mean square that the network of an arm is scaled for; 0 for arms without noise."""
    if arm not in DENOISING:
        return 0.0
    return LATENT_DEVIATION if space == "latent" else PIXEL_DEVIATION
