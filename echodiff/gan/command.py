"""`echodiff train-gan`: learn a translation from one frames folder to another."""

import functools

from echodiff.errors import InputError
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.names import find_forward
from echodiff.settings.command_line import parse

PROG = "echodiff train-gan"
MIRRORS = "mirrored steps of --flip-equivariance do other work than the others"


def main(argv: list[str]) -> None:
    config = parse(TrainGanConfig, argv, prog=PROG)

    # Torch takes seconds to import: only once the settings are sound.
    import torch

    from echodiff.gan.callbacks import SampleGrids
    from echodiff.gan.dataset import load_set
    from echodiff.gan.initial_weights import start_from
    from echodiff.gan.methods.build import build_method, build_networks, describe_generators
    from echodiff.gan.trainer import TranslationTrainer
    from echodiff.gan.weights import save_network
    from echodiff.report.loss_curves import LossCurves
    from echodiff.training.folder import open_run
    from echodiff.training.graphs import can_capture
    from echodiff.training.loop import Intervals, train
    from echodiff.training.precision import start_accelerator
    from echodiff.training.trackers import Curves

    # --- Everything that was given, before anything is written
    nets = build_networks(config)
    init_sha256 = start_from(nets, config.init_from)
    num_parameters = sum(p.numel() for net in nets.values() for p in net.parameters())
    accelerator, precision = start_accelerator(
        config.mixed_precision,
        num_parameters=num_parameters,
        tracker=config.tracker,
        threads=config.threads,
        float32=config.float32,
    )
    if accelerator.num_processes > 1:
        raise InputError(f"{accelerator.num_processes} processes: train-gan runs in one")
    if precision.mixed_precision == "fp16":
        raise InputError("--mixed-precision: train-gan runs in float32 or bf16, not in fp16")
    dataset = load_set(config, show_progress=True)

    # --- The run folder
    with open_run(
        command="train-gan",
        config=config,
        stem="gan",
        data=dataset.hash_frames(),
        base_sha256="",
        mixed_precision=precision.mixed_precision,
        places=("source", "target"),
        inputs=[*dataset.list_files(), config.init_from],
        init_sha256=init_sha256,
        extended=("epochs", "decay_epochs", "steps"),
    ) as run:
        record = dataset.to_record(config.init_from)
        run.update(**precision.to_record(), **record, num_parameters=num_parameters)
        print(f"{dataset.summary}, at {config.resolution} pixels; {precision.summary}")

        # --- Train, save every network
        device = accelerator.device
        captures = can_capture(accelerator, obstacle=MIRRORS if config.flip_equivariance else None)
        is_bf16 = precision.mixed_precision == "bf16"
        autocast = functools.partial(torch.autocast, device.type, torch.bfloat16, is_bf16)
        method = build_method(config, nets, device, autocast, is_captured=captures)
        trainer = TranslationTrainer(config, method, dataset, device, has_graph=captures)
        epoch_steps = max(1, round(len(trainer.order) / config.batch_size))
        every = config.sample_every
        train(
            trainer,
            run,
            accelerator,
            intervals=Intervals(
                log=config.log_every,
                checkpoint=(config.checkpoint_every, epoch_steps * config.checkpoint_epochs),
                keep=config.keep,
            ),
            curves=Curves(run, accelerator, project="echodiff-gan", config=config),
            callbacks=[
                SampleGrids(dataset, run.samples, config.resolution, every=every),
                LossCurves(run, every=every),
            ],
        )
        facts = describe_generators(config, dataset)
        hashes = {
            name: save_network(run.run_dir / f"{name}.safetensors", net, facts.get(name, {}))
            for name, net in method.nets.items()
        }
        forward = find_forward(hashes)
        run.finish(weights_sha256=hashes[forward], networks_sha256=hashes)
        print(f"{config.method} in {run.run_dir}: {forward}.safetensors goes from source to target")
