"""LoRA as one use of the denoising trainer: the adapter is what it trains."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora import add_lora
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.lora_start import start_from
from echodiff.diffusion.objective import build_objective
from echodiff.diffusion.trainer import DenoisingTrainer

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DConditionModel


def prepare_lora(
    config: TrainLoraConfig,
    accelerator: "Accelerator",
    unet: "UNet2DConditionModel",
    schedule: "DDPMScheduler",
) -> tuple[Callable[[EncodedFrames], DenoisingTrainer], str]:
    """Add an adapter to `unet`, drawn from the seed or taken from --init-from.

    Returns what builds its trainer from encoded frames, and the SHA-256 of the weights that it
    starts from, empty where they are random.
    """
    parameters = add_lora(unet, rank=config.rank, alpha=config.alpha, seed=config.seed)
    init_sha256 = start_from(unet, config.init_from, rank=config.rank, alpha=config.alpha)
    build_trainer = partial(
        DenoisingTrainer,
        config,
        accelerator,
        unet,
        objective=build_objective(schedule, config.min_snr_gamma),
        parameters=parameters,
        prefix="lora",
    )
    return build_trainer, init_sha256
