"""A training step of CycleGAN or CUT, ours against the published code, in turn.

    python benchmarks/gan.py --published .../pytorch-CycleGAN-and-pix2pix
    python benchmarks/gan.py --published .../contrastive-unpaired-translation --method cut

PATH is a checkout that the user has made; nothing of it is part of this project. Its own options
and model class are used as they are, with the same weights and pictures as ours. First both take
one step in float32, and its outputs, losses and gradients are compared: a difference above
--tolerance ends with status 1. Then steps are timed in turn, theirs on a batch that lies ready on
the device, ours with its draws, crops and, on a GPU, its CUDA graph. Ratios are of one round each.
--cpu-seconds takes the CPU time of the process, for a machine that others use as well. Markdown.
"""

import argparse
import functools
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.gan.dataset import Domain, TranslationSet
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.methods.build import Method, build_method, build_networks
from echodiff.gan.methods.cut import CutDraw
from echodiff.gan.trainer import TranslationTrainer
from echodiff.runs import versions
from echodiff.training.graphs import NUM_WARM_UP
from echodiff.training.precision import set_float32
from echodiff.training.streams import Stream, build_stream

NUM_PICTURES = 8
NOISE = "biases before a norm have no gradient but rounding: weights alone are compared"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path, help="checkout of the code; none: ours alone")
    parser.add_argument("--method", choices=("cyclegan", "cut"), default="cyclegan")
    parser.add_argument("--generator", help="unet_256, resnet_9, resnet_6 (default: by method)")
    parser.add_argument("--resolution", type=int, default=256, help="side of pictures, pixels")
    parser.add_argument("--width", type=int, default=64, help="channels after the first layers")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help="of ours")
    parser.add_argument("--compile", choices=("none", "regional", "full"), default="none")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative, of gradients")
    parser.add_argument("--cpu-seconds", action="store_true", help="CPU time, not the clock's")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is")
    args = parser.parse_args()
    args.generator = args.generator or {"cyclegan": "unet_256", "cut": "resnet_9"}[args.method]
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    print(describe(args, device))

    pictures = [
        torch.randint(0, 256, (NUM_PICTURES, args.channels, args.resolution, args.resolution),
                      generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        for seed in (0, 1)
    ]  # fmt: skip
    rows = torch.arange(args.batch_size) % NUM_PICTURES
    batch = [images[rows].to(device).float() / 127.5 - 1 for images in pictures]
    theirs = build_published(args, device, batch) if args.published else None
    largest = compare(args, device, theirs, batch) if theirs else 0.0
    if largest > args.tolerance:
        print(f"{largest:.1e} is above --tolerance {args.tolerance:.1e}", file=sys.stderr)
        return 1
    ours = build_ours(args, device, pictures, theirs)
    print(measure(args, device, theirs, ours, batch))
    return 0


def describe(args: argparse.Namespace, device: torch.device) -> str:
    """What is measured where, on a line."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else (
        f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    )  # fmt: skip
    return (
        f"{name}, torch {versions()['torch']}; {args.method} {args.generator}, batch "
        f"{args.batch_size} at {args.resolution}, {args.channels} channels; ours "
        f"{'float32' if args.mixed_precision == 'no' else 'bf16'}, compile {args.compile}\n"
    )


# --- The published code ---------------------------------------------------------------------------


def build_published(args: argparse.Namespace, device: torch.device, batch: list) -> Any:
    """Its model with its own defaults, ready for a step; InputError where PATH has no such."""
    if not (args.published / "models").is_dir() or not (args.published / "options").is_dir():
        raise InputError(f"--published {args.published}: no checkout with models/ and options/")
    sys.path.insert(0, str(args.published.resolve()))
    options = importlib.import_module("options.train_options").TrainOptions()
    blocks = {"resnet_6": "resnet_6blocks", "resnet_9": "resnet_9blocks"}
    line = [
        "--dataroot", "none", "--name", "benchmark", "--checkpoints_dir", os.devnull,
        "--model", {"cyclegan": "cycle_gan", "cut": "cut"}[args.method],
        "--netG", blocks.get(args.generator, args.generator), "--no_dropout",
        "--input_nc", str(args.channels), "--output_nc", str(args.channels),
        "--batch_size", str(args.batch_size), "--crop_size", str(args.resolution), "--no_flip",
        "--ngf", str(args.width), "--ndf", str(args.width),
    ]  # fmt: skip
    with mock.patch.object(sys, "argv", ["train.py", *line]):
        opt = options.gather_options()
    opt.isTrain, opt.device = True, device
    opt.gpu_ids = [0] if device.type == "cuda" else []
    torch.manual_seed(0)
    model = importlib.import_module("models").create_model(opt)
    feed(model, batch)
    model.data_dependent_initialize(as_input(batch)) if args.method == "cut" else None
    for name in model.model_names:
        # DataParallel around one GPU is no part of a step's work; newer versions have none.
        net = getattr(model, f"net{name}")
        setattr(model, f"net{name}", getattr(net, "module", net).to(device))
    return model


def as_input(batch: list) -> dict[str, Any]:
    return {"A": batch[0], "B": batch[1], "A_paths": [], "B_paths": []}


def feed(model: Any, batch: list) -> None:
    model.set_input(as_input(batch))


def networks_of(model: Any) -> dict[str, torch.nn.Module]:
    return {name: getattr(model, f"net{name}") for name in model.model_names}


# --- Ours -----------------------------------------------------------------------------------------


def build_config(args: argparse.Namespace) -> TrainGanConfig:
    generator = args.generator + ("_antialiased" if args.method == "cut" else "")
    return TrainGanConfig(
        source=Path("source"), target=Path("target"), method=args.method, generator=generator,
        channels=args.channels, width=args.width, resolution=args.resolution,
        batch_size=args.batch_size, mixed_precision=args.mixed_precision, compile=args.compile,
        epochs=1, decay_epochs=0,
    )  # fmt: skip


def build_same(
    args: argparse.Namespace, device: torch.device, theirs: Any, *, is_captured: bool
) -> Method:
    """Our method with copies of their weights."""
    config = build_config(args)
    nets = build_networks(config)
    for name, net in networks_of(theirs).items() if theirs else ():
        nets[name].load_state_dict({k: v.detach().cpu() for k, v in net.state_dict().items()})
    is_bf16 = args.mixed_precision == "bf16"
    autocast = functools.partial(torch.autocast, device.type, torch.bfloat16, is_bf16)
    return build_method(config, nets, device, autocast, is_captured=is_captured)


def build_ours(
    args: argparse.Namespace, device: torch.device, pictures: list, theirs: Any
) -> Callable[[], Any]:
    """One step of `echodiff train-gan`, as often as it is called."""
    config = build_config(args)
    frames = [Frame(file_name=f"{i}.png", text="") for i in range(NUM_PICTURES)]
    domains = [Domain(Path(name), frames, images, "pm1")
               for name, images in zip(("source", "target"), pictures, strict=True)]  # fmt: skip
    dataset = TranslationSet(
        source=domains[0], target=domains[1], is_paired=False, held_out_source=[],
        held_out_target=[], watched_source=domains[0], watched_target=domains[1],
    )  # fmt: skip
    is_cuda = device.type == "cuda"
    method = build_same(args, device, theirs, is_captured=is_cuda)
    trainer = TranslationTrainer(config, method, dataset, device, has_graph=is_cuda)
    steps = iter(range(sys.maxsize))
    return lambda: trainer.run(next(steps))


# --- One step of both -----------------------------------------------------------------------------


def compare(args: argparse.Namespace, device: torch.device, theirs: Any, batch: list) -> float:
    """Print how far outputs, losses and gradients of one step lie apart; the largest of these."""
    set_float32("ieee")
    ours = build_same(argparse.Namespace(**{**vars(args), "mixed_precision": "no"}), device, theirs,
                      is_captured=False)  # fmt: skip
    with torch.no_grad():
        first = networks_of(theirs).get("G_A") or networks_of(theirs)["G"]
        name = "G_A" if "G_A" in ours.nets else "G"
        outputs = [net(batch[0]) for net in (first, ours.nets[name])]
    places: list[tuple[torch.Tensor, ...]] = []
    hooks = []
    if args.method == "cut":
        hooks = [
            theirs.netF.register_forward_hook(
                lambda net, given, result: places.append(tuple(map(torch.as_tensor, result[1])))
            ),
            theirs.netF.register_forward_pre_hook(keep_layout),
        ]
    feed(theirs, batch)
    theirs.optimize_parameters()
    for hook in hooks:
        hook.remove()
    if args.method == "cut":
        # Keys are drawn first, queries go to the same places: source twice, then target twice.
        draw: Any = CutDraw(*(tuple(one.to(device).long() for one in places[i]) for i in (0, 2)),
                            is_flipped=False)  # fmt: skip
    else:
        draw = ours.sample(build_stream(0, Stream.STEP, 0), 0, args.batch_size)
        draw = type(draw)(*(type(one)(*(t.to(device) for t in one)) for one in draw))
    losses = ours.step(batch[0], batch[1], draw)

    rows = {"output of the generator": relative(outputs[1], outputs[0])}
    for ours_name, theirs_name, weight in LOSSES[args.method]:
        value = getattr(theirs, f"loss_{theirs_name}").item()
        rows[f"loss {ours_name}"] = abs(float(losses[ours_name]) * weight - value) / abs(value)
    for name, net in networks_of(theirs).items():
        pairs = [
            (mine.grad, published.grad)
            for mine, published in zip(ours.nets[name].parameters(), net.parameters(), strict=True)
            if published.ndim > 1
        ]
        mine, published = (torch.cat([one.flatten() for one in each]) for each in zip(*pairs))  # noqa: B905
        rows[f"gradient of {name}"] = relative(mine, published)
    print(f"One step in float32 ({NOISE}):\n\n| | relative difference |\n|---|---|")
    for label, value in rows.items():
        print(f"| {label} | {value:.1e} |")
    print(flush=True)
    set_float32("tf32")
    return max(rows.values())


LOSSES = {
    "cyclegan": [("G_A", "G_A", 1.0), ("G_B", "G_B", 1.0), ("cycle_A", "cycle_A", 10.0),
                 ("cycle_B", "cycle_B", 10.0), ("identity_A", "idt_A", 5.0),
                 ("identity_B", "idt_B", 5.0), ("D_A", "D_A", 1.0), ("D_B", "D_B", 1.0)],
    "cut": [("G", "G_GAN", 1.0), ("NCE", "NCE", 1.0), ("NCE_identity", "NCE_Y", 1.0),
            ("D", "D", 1.0)],
}  # fmt: skip
"""Ours, theirs, and the weight that theirs already has."""


def keep_layout(net: torch.nn.Module, given: tuple) -> None:
    """Have gradients of features come as the features lie.

    Theirs come channels-last, for which torch 2.14's instance norm on a CPU computes a wrong
    gradient: without this the published CUT trains by another one there.
    """
    for feature in given[0]:
        if feature.requires_grad:
            feature.register_hook(torch.Tensor.contiguous)


def relative(mine: torch.Tensor, published: torch.Tensor) -> float:
    return float((mine - published).norm() / published.norm())


# --- Time -----------------------------------------------------------------------------------------


def measure(
    args: argparse.Namespace, device: torch.device, theirs: Any, ours: Callable, batch: list
) -> str:
    """Seconds a step of both, round by round in turn, and their ratios."""

    def published() -> None:
        feed(theirs, batch)
        theirs.optimize_parameters()

    def time_steps(step: Callable[[], Any]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        clock = time.process_time if args.cpu_seconds else time.perf_counter
        start = clock()
        for _ in range(args.steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (clock() - start) / args.steps

    sides: dict[str, Callable[[], Any]] = {"ours": ours}
    if theirs:
        sides = {"published": published, "ours": ours}
    # The graph is recorded after the warm-up; a CPU has nothing to warm but its caches.
    for step in sides.values():
        for _ in range(NUM_WARM_UP + 2 if device.type == "cuda" else 1):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds):
        for name in sorted(sides, reverse=bool(number % 2)):  # who is first changes
            seconds[name].append(time_steps(sides[name]))
            print(f"{name}: {seconds[name][-1]:.4f} s", file=sys.stderr, flush=True)
    unit = "CPU s" if args.cpu_seconds else "s"
    rows = [f"| | {unit} a step, median of {args.rounds} rounds of {args.steps} |", "|---|---|"]
    rows += [f"| {name} | {statistics.median(each):.4g} |" for name, each in seconds.items()]
    if theirs is None:
        return "\n".join(rows)
    ratios = [a / b for a, b in zip(seconds["published"], seconds["ours"], strict=True)]
    rows.append(f"| times as fast | {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}) |")  # fmt: skip
    return "\n".join(rows)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"benchmarks/gan.py: error: {error}", file=sys.stderr)
        sys.exit(2)
