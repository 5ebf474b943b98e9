"""Fine-tune Stable Diffusion on a frames folder with a low-rank adapter.

    accelerate launch train_lora.py                                  # preset demo: all embedded
    accelerate launch train_lora.py --config cmc2024 --data FRAMES   # the paper's recipe

The same command on an unfinished run folder resumes it.
"""

import logging
import sys

from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.frames.reader import hash_frames
from echodiff.settings.command_line import parse, run_main

PROG = "train_lora.py"


def main(argv: list[str], *, prog: str = PROG) -> None:
    if not {"--config", "--base", "--data"} & {word.split("=")[0] for word in argv}:
        # The demo's rate and batch are for the embedded base and phantoms, and for nothing else.
        argv = ["--config", "demo", *argv]
    config = parse(TrainLoraConfig, argv, prog=prog)

    # Torch and its friends take seconds to import: only once the settings are sound.
    from echodiff.diffusion.base import base_sha256, load_for_training, num_unet_parameters
    from echodiff.diffusion.callbacks import build_callbacks
    from echodiff.diffusion.dataset import encode_set, list_inputs, load_set, simulate_set
    from echodiff.diffusion.lora import WEIGHTS_NAME, lora_state, save_lora
    from echodiff.diffusion.lora_callbacks import build_lora_callbacks
    from echodiff.diffusion.lora_trainer import prepare_lora
    from echodiff.diffusion.memory import state_memory
    from echodiff.diffusion.sampling.schedulers import check_steps
    from echodiff.metrics.held_out import open_held_out, open_networks
    from echodiff.report.training_page import write_training_page
    from echodiff.training.folder import open_run
    from echodiff.training.loop import Intervals, train
    from echodiff.training.precision import start_accelerator
    from echodiff.training.trackers import Curves

    # --- Everything that was given, before anything is written
    accelerator, precision = start_accelerator(
        config.mixed_precision, num_parameters=num_unet_parameters(config.base),
        batch_size=config.batch_size, tracker=config.tracker, threads=config.threads,
    )  # fmt: skip
    is_main = accelerator.is_main_process
    dataset = load_set(config, config.data, is_quiet=not is_main) if config.data else None
    frames = [*dataset.train, *dataset.held_out] if dataset else []
    unet, schedule, resolution = load_for_training(
        config.base, precision.weight_dtype, config.resolution
    )
    check_steps(config.sample_steps, schedule.config.num_train_timesteps, "--sample-steps")
    build_trainer, init_sha256 = prepare_lora(config, accelerator, unet, schedule, dataset)
    if config.memory:
        return state_memory(config, accelerator, build_trainer, resolution)
    names = config.evaluate_features if config.evaluate_every else ()
    networks = open_networks(names, trust=config.trust, modules=config.features_path)

    # --- The run folder; the frames, given or simulated, encoded once
    with open_run(
        command="train_lora",
        config=config,
        stem="lora",
        data=hash_frames(config.data, frames) if config.data and is_main else {},
        base_sha256=base_sha256(config.base),
        mixed_precision=precision.mixed_precision,
        inputs=list_inputs(config, frames),
        init_sha256=init_sha256,
        extended=("epochs", "max_steps"),
    ) as run:
        dataset = dataset or simulate_set(config, run, resolution, accelerator)
        if is_main:
            record = {"base": config.base, "resolution": resolution, **precision.to_record()}
            run.update(**record, **dataset.to_record(run.run_dir))
            print(f"{dataset.summary} at {resolution} pixels; {precision.summary}")
        encoded, held_out = encode_set(config, dataset, resolution, accelerator.device, run.scratch)

        # --- Train, call back now and then, save
        trainer = build_trainer(encoded, run)
        score = open_held_out(networks, dataset.folder, dataset.val, dataset.max_value)
        if score and is_main:
            run.update(evaluation=score.to_record())
        others = build_lora_callbacks(config, dataset, run, trainer, encoded, held_out)
        looks = (config, dataset, run, resolution, trainer, held_out, score)
        callbacks = build_callbacks(*looks, others=others)
        curves = Curves(run, accelerator, project="echodiff", config=config)
        intervals = Intervals(config.log_every, (config.checkpoint_every,), config.keep)
        train(trainer, run, accelerator, intervals=intervals, curves=curves, callbacks=callbacks)
        with trainer.averaged():
            state = lora_state(unet)
        del encoded, held_out, trainer, callbacks, others, looks  # they map files of scratch/
        if is_main:
            sha256 = save_lora(run.run_dir, state, rank=config.rank, alpha=config.alpha)
            run.finish(weights_sha256=sha256)
            print(f"LoRA in {run.run_dir / WEIGHTS_NAME}, report in {write_training_page(run)}")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    sys.exit(run_main(lambda: main(sys.argv[1:]), PROG))
