"""`echodiff train-controlnet`: train what makes the images of Stable Diffusion obey a mask.

    echodiff train-controlnet                                             # phantoms, embedded base
    accelerate launch -m echodiff train-controlnet --data FRAMES --base ID --kind control-lora

The same command on an unfinished run folder resumes it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from echodiff.data.labels import parse_table
from echodiff.diffusion.controlnet_config import TrainControlNetConfig
from echodiff.frames.reader import hash_frames
from echodiff.published import TRAIN_CONTROLNET
from echodiff.settings.command_line import parse

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.diffusion.condition import FrameMasks
    from echodiff.diffusion.dataset import TrainingSet
    from echodiff.diffusion.encoding import EncodedFrames
    from echodiff.diffusion.mask_trainer import Parts
    from echodiff.diffusion.trainer import DenoisingTrainer
    from echodiff.runs import Run

PROG = "echodiff train-controlnet"


def main(argv: list[str]) -> None:
    if not {"--config", "--base", "--data"} & {word.split("=")[0] for word in argv}:
        # The length is for the embedded base and phantoms, and for nothing else.
        argv = ["--config", "masks", *argv]
    config = parse(TrainControlNetConfig, argv, prog=PROG)

    # Torch and its friends take seconds to import: only once the settings are sound.
    from echodiff.diffusion.base import base_sha256, num_unet_parameters
    from echodiff.diffusion.callbacks import build_callbacks
    from echodiff.diffusion.dataset import list_inputs, load_set, simulate_set
    from echodiff.diffusion.mask_files import copy_lora, save_masked
    from echodiff.diffusion.mask_trainer import build_trainer, load_parts
    from echodiff.metrics.held_out import open_held_out, open_networks
    from echodiff.metrics.segmenter import load_segmenter
    from echodiff.report.training_page import write_training_page
    from echodiff.training.folder import open_run
    from echodiff.training.loop import Intervals, train
    from echodiff.training.precision import start_accelerator
    from echodiff.training.trackers import Curves

    # --- Everything that was given, before anything is written
    accelerator, precision = start_accelerator(
        config.mixed_precision,
        num_parameters=num_unet_parameters(config.base),
        batch_size=config.batch_size,
        tracker=config.tracker,
        threads=config.threads,
    )
    is_main = accelerator.is_main_process
    dataset = load_set(config, config.data, is_quiet=not is_main) if config.data else None
    frames = [*dataset.train, *dataset.held_out] if dataset else []
    parts = load_parts(config)
    masks = read_masks(config, dataset, parts.resolution) if dataset else None
    if config.memory:
        return measure_memory(config, parts, accelerator, precision.weight_dtype, masks)
    if config.obedience_images:
        load_segmenter(config.segmenter)
    names = config.evaluate_features if config.evaluate_every else ()
    networks = open_networks(names, trust=config.trust, modules=config.features_path)

    # --- The run folder; the frames, given or simulated, encoded once
    data = hash_frames(config.data, frames, has_masks=True) if config.data and is_main else {}
    with open_run(
        command=TRAIN_CONTROLNET,
        config=config,
        stem=config.kind,
        data=data,
        base_sha256=base_sha256(config.base),
        mixed_precision=precision.mixed_precision,
        inputs=list_inputs(config, frames),
        init_sha256=parts.lora_sha256,
        places=("data", "lora"),
        extended=("epochs", "max_steps"),
    ) as run:
        dataset = dataset or simulate_set(config, run, parts.resolution, accelerator)
        masks = masks or read_masks(config, dataset, parts.resolution)
        if is_main:
            run.update(base=config.base, resolution=parts.resolution, kind=config.kind,
                       labels=masks.channels.names, **precision.to_record(),
                       **dataset.to_record(run.run_dir))  # fmt: skip
            if config.lora is not None:
                run.update(lora=copy_lora(config.lora, run.run_dir), lora_scale=config.lora_scale)
            print(f"{dataset.summary} at {parts.resolution} pixels; {precision.summary}")
            print(f"labels: {', '.join(masks.channels.names[1:])}")
        encoded, held_out = encode_with_masks(config, dataset, masks, accelerator, run)

        # --- Train, call back now and then, save
        trainer, network = build_trainer(
            config, parts, accelerator, encoded, len(masks.channels), precision.weight_dtype
        )
        score = open_held_out(networks, dataset.folder, dataset.val, dataset.max_value)
        if score and is_main:
            run.update(evaluation=score.to_record())
        callbacks = build_callbacks(
            config, dataset, run, parts.resolution, trainer, held_out, score,
            masks=masks, others=build_obedience(config, dataset, masks),
        )  # fmt: skip
        curves = Curves(run, accelerator, project="echodiff", config=config)
        intervals = Intervals(config.log_every, (config.checkpoint_every,), config.keep)
        train(trainer, run, accelerator, intervals=intervals, curves=curves, callbacks=callbacks)
        if is_main:
            with trainer.averaged():
                sha256 = save_masked(
                    run.run_dir, config.kind, network, rank=config.rank, alpha=config.alpha
                )
        del encoded, held_out, trainer, callbacks  # they map files of the run's scratch folder
        if is_main:
            run.finish(weights_sha256=sha256)
            print(f"{config.kind} in {run.run_dir}, report in {write_training_page(run)}")


def read_masks(
    config: TrainControlNetConfig, dataset: "TrainingSet", resolution: int
) -> "FrameMasks":
    """Read every mask of a set once: their labels become the channels of the network.

    InputError for masks that cannot be read, are of another size than their images, or all empty.
    """
    from echodiff.data.masks import find_labels
    from echodiff.diffusion.condition import Channels, FrameMasks, check_sizes
    from echodiff.errors import InputError

    table, asked = parse_table(config.mask_labels), config.asked_labels
    frames = [*dataset.train, *dataset.watched]
    check_sizes(dataset.folder, frames)
    found = find_labels([dataset.folder / str(frame.mask_file_name) for frame in frames], table)
    if missing := sorted(asked - set(found)):
        raise InputError(f"--labels {missing[0].name}: no mask in {dataset.folder} has it")
    labels = tuple(label for label in found if not asked or label in asked or label == 0)
    if len(labels) < 2:
        raise InputError(f"{dataset.folder}: its masks hold background alone")
    return FrameMasks(dataset.folder, Channels(labels), resolution, table)


def encode_with_masks(
    config: TrainControlNetConfig,
    dataset: "TrainingSet",
    masks: "FrameMasks",
    accelerator: "Accelerator",
    run: "Run",
) -> tuple[Any, Any]:
    """Encode the training frames, all their copies, and some held-out ones, each with its mask."""
    from echodiff.diffusion.augmentation import draw_moves
    from echodiff.diffusion.dataset import encode_set

    moves = draw_moves(config.seed, len(dataset.train), config.augment)
    encoded, held_out = encode_set(
        config, dataset, masks.resolution, accelerator.device, run.scratch, moves
    )
    encoded = replace(encoded, condition=masks.condition(dataset.train, moves))
    if held_out is not None:
        watched = dataset.watched[: len(held_out)]
        held_out = replace(held_out, condition=masks.condition(watched))
    return encoded, held_out


def build_obedience(
    config: TrainControlNetConfig, dataset: "TrainingSet", masks: "FrameMasks"
) -> list[Any]:
    """The callback that reads masks from drawn images, with the segmenter behind `intact`."""
    from echodiff.diffusion.obedience import Obedience
    from echodiff.metrics.segmenter import LABELS, load_segmenter

    if not config.obedience_images:
        return []
    return [Obedience(config, dataset, masks, load_segmenter(config.segmenter), LABELS)]


def measure_memory(
    config: TrainControlNetConfig,
    parts: "Parts",
    accelerator: "Accelerator",
    weight_dtype: Any,
    masks: "FrameMasks | None",
) -> None:
    """Print the peak memory, on blank masks with as many labels as --data or phantoms have."""
    import torch

    from echodiff.diffusion.mask_trainer import build_trainer
    from echodiff.diffusion.memory import state_memory
    from echodiff.metrics.segmenter import LABELS

    num_channels, side = len(LABELS if masks is None else masks.channels.labels), parts.resolution

    def build_blank(encoded: "EncodedFrames") -> "DenoisingTrainer":
        blank = torch.zeros(len(encoded), 1, side, side, dtype=torch.uint8)
        encoded = replace(encoded, condition=blank)
        return build_trainer(config, parts, accelerator, encoded, num_channels, weight_dtype)[0]

    state_memory(config, accelerator, build_blank, side)
