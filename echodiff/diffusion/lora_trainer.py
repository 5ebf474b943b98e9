"""Train a LoRA adapter with the denoising trainer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora import add_lora
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.lora_start import start_from
from echodiff.diffusion.membership import choose_sides
from echodiff.diffusion.objective import build_objective
from echodiff.diffusion.private_training import check_private, open_private
from echodiff.diffusion.trainer import DenoisingTrainer

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DConditionModel

    from echodiff.diffusion.dataset import TrainingSet
    from echodiff.runs import Run


def prepare_lora(
    config: TrainLoraConfig,
    accelerator: "Accelerator",
    unet: "UNet2DConditionModel",
    schedule: "DDPMScheduler",
    dataset: "TrainingSet | None" = None,
) -> tuple[Callable[..., DenoisingTrainer], str]:
    """Add an adapter to `unet`, drawn from the seed or taken from --init-from.

    Returns what builds its trainer from encoded frames and the run that keeps its key and budget
    (None: a measurement); and the SHA-256 of the weights that it starts from, empty where they are
    random. InputError where `dataset` does not allow the privacy or the test that is asked for.
    """
    if config.dp_epsilon is not None:
        check_private(config, accelerator, dataset)
    if config.membership_every and dataset is not None:
        others = dataset.watched[: config.watched_frames]
        choose_sides(dataset.train, others, config.membership_frames, seed=config.seed)
    parameters = add_lora(unet, rank=config.rank, alpha=config.alpha, seed=config.seed)
    init_sha256 = start_from(unet, config.init_from, rank=config.rank, alpha=config.alpha)
    objective = build_objective(schedule, config.min_snr_gamma)

    def build_trainer(encoded: EncodedFrames, run: "Run | None" = None) -> DenoisingTrainer:
        private = None
        if config.dp_epsilon is not None:
            num_parameters = sum(parameter.numel() for parameter in parameters.values())
            store = None if run is None else run.scratch
            private = open_private(config, encoded, objective, num_parameters, store)
            if run is not None:
                run.update(differential_privacy=private.budget.to_record())
                accelerator.print(private.budget.describe())
        return DenoisingTrainer(
            config, accelerator, unet, encoded, objective=objective, parameters=parameters,
            prefix="lora", private=private,
        )  # fmt: skip

    return build_trainer, init_sha256
