"""Attack the weights of `echodiff train-gan`: what the discriminator and the cycle know.

A discriminator has seen its training images as real ones, and scores them higher (LOGAN, Hayes et
al. 2019, arXiv 1705.07663); a CycleGAN that has seen an image also brings it back better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.choosing import recognise
from echodiff.audit.diffusion import Target
from echodiff.audit.matching import match_sides
from echodiff.audit.membership import Attack
from echodiff.audit.subjects import Side, Subjects
from echodiff.data.leaks import load_trained
from echodiff.data.reference import RealFrames, choose_reference, drop_trained, refuse_trained
from echodiff.data.run_frames import find_run_frames
from echodiff.errors import InputError
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.methods.build import build_networks
from echodiff.gan.preprocessing import prepare_image, to_values
from echodiff.images import read_image_u8
from echodiff.metrics.extractor import best_device
from echodiff.progress import ProgressBar
from echodiff.published import CONFIG
from echodiff.runs import Run, sha256_file
from echodiff.settings.command_line import build, read_yaml
from echodiff.training.weight_files import open_safetensors

Array = NDArray[np.float64]

DISCRIMINATORS = {"cyclegan": "D_A", "cut": "D", "srgan": "D"}
"""Of each method the discriminator of target images; others see pairs, or there is none."""


def attack_gan(config: AuditConfig, run: Run, scratch: Path) -> Target:
    """Attacks on the target frames of a translation; what it generates is translated frames."""
    settings = build(
        TrainGanConfig, read_yaml(TrainGanConfig, str(run.run_dir / CONFIG)), {},
        source=str(run.run_dir / CONFIG),
    )  # fmt: skip
    subjects = choose_targets(config, run)
    nets = load_networks(settings, run)
    scores = measure_images(config, settings, run, subjects, nets)
    units = subjects.build_units()
    what = {
        "discriminator": "score of the discriminator",
        "reconstruction": "error of the way to the source and back",
    }
    attacks = [Attack(name, units.average(one), what[name]) for name, one in scores.items()]
    notes = (*subjects.notes, "copies of source frames: those of the target are searched for")
    if settings.method in DISCRIMINATORS and "discriminator" not in scores:
        notes += ("the discriminator, which is not in the run folder",)
    return Target(
        replace(subjects, notes=notes), attacks, lambda reference: None,
        run.record.get("target_white_level"),
    )  # fmt: skip


def choose_targets(config: AuditConfig, run: Run) -> Subjects:
    """Members are the target frames of the training, non-members those it held out."""
    record, training = run.record, load_trained(run)
    trainings = [training] if training else []
    folder, members = find_run_frames(
        run, record["train_target"], data=config.data, key="target_dir"
    )
    if config.holdout is not None:
        reference = choose_reference(config.holdout, flag="--holdout")
        refuse_trained(reference, trainings, flag="--holdout")
    else:
        names = record.get("held_out_target", [])
        if not names:
            raise InputError(
                f"{run.run_dir}: the run held no target patient out: give real frames of other "
                "patients with --holdout"
            )
        place, frames = find_run_frames(run, names, data=config.data, key="target_dir")
        text = f"{len(frames)} held-out target frames of {run.run_dir}"
        reference = drop_trained(RealFrames(run.run_dir, place, frames, text), trainings)
    everything = Side(folder, [replace(frame, text="") for frame in members])
    subjects = match_sides(
        everything, reference, everything, [], max_frames=config.max_frames, seed=config.seed
    )
    return recognise(subjects, training)


def load_networks(settings: TrainGanConfig, run: Run) -> dict[str, torch.nn.Module]:
    """The networks that the attacks need, as far as the run kept them."""
    wanted = {DISCRIMINATORS.get(settings.method, "")}
    if settings.method == "cyclegan":
        wanted |= {"G_A", "G_B"}
    nets = {}
    for name, net in build_networks(settings).items():
        path = run.run_dir / f"{name}.safetensors"
        if name not in wanted or not path.is_file():
            continue
        if sha256_file(path) != run.record.get("networks_sha256", {}).get(name):
            raise InputError(f"{path}: is not what the training wrote (its SHA-256 differs)")
        with open_safetensors(path) as opened:
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{path}: is not the network of this run's settings") from error
        nets[name] = net.to(best_device()).eval()
    return nets


def measure_images(
    config: AuditConfig,
    settings: TrainGanConfig,
    run: Run,
    subjects: Subjects,
    nets: Mapping[str, torch.nn.Module],
) -> dict[str, Array]:
    """Scores (N,) of every attack, members first; higher means member.

    Crops of a training are at the scale of --load-size; a discriminator of patches takes it whole.
    """
    scores: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
    sides = {"discriminator": settings.load_size or settings.resolution,
             "reconstruction": settings.resolution}  # fmt: skip
    if (discriminator := nets.get(DISCRIMINATORS.get(settings.method, ""))) is not None:
        scores["discriminator"] = lambda images: discriminator(images).float().flatten(1).mean(1)
    if {"G_A", "G_B"} <= nets.keys():
        scores["reconstruction"] = partial(_bring_back, nets["G_A"], nets["G_B"])
    found = {}
    for name, score in scores.items():
        with torch.inference_mode():
            parts = [
                score(images) for images in _read(config, run, subjects, settings, sides[name])
            ]
        found[name] = torch.cat(parts).double().cpu().numpy()
    return found


def _bring_back(
    forth: torch.nn.Module, back: torch.nn.Module, images: torch.Tensor
) -> torch.Tensor:
    """Minus the error of target images that go to the source and come back."""
    return -(forth(back(images)) - images).abs().flatten(1).mean(1)


def _read(
    config: AuditConfig, run: Run, subjects: Subjects, settings: TrainGanConfig, side: int
) -> Iterator[torch.Tensor]:
    """Batches (B, C, side, side) of both sides as the networks were given them."""
    white: Any = run.record.get("target_white_level")
    paths = [*subjects.members.paths, *subjects.others.paths]
    with ProgressBar(total=len(paths), desc="scores", unit="frame") as bar:
        for start in range(0, len(paths), config.batch_size):
            some = paths[start : start + config.batch_size]
            images = [
                prepare_image(read_image_u8(path, max_value=white), settings.channels, side)
                for path in some
            ]
            yield to_values(torch.from_numpy(np.stack(images)), "pm1").to(best_device())
            bar.update(len(some))
