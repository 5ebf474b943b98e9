"""Shadow models: LoRAs of the same recipe, each on a random half of the patients.

What the loss of a frame is under weights that have seen it and under weights that have not, is
learned from them, frame by frame (LiRA, Carlini et al. 2022, arXiv 2112.03570; RMIA, Zarifzadeh et
al. 2024, arXiv 2312.03262).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.membership import Attack
from echodiff.audit.networks import DiffusionWeights
from echodiff.audit.subjects import Subjects, Units
from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_image_u8
from echodiff.published import CONFIG
from echodiff.runs import RECORD, Run

Array = NDArray[np.float64]

PLACE = "shadows"
"""Folder of the shadow models below --out."""


def attack_with_shadows(
    config: AuditConfig,
    run: Run,
    subjects: Subjects,
    base: Array,
    model: Array,
    measure: Callable[..., dict[str, Array]],
) -> list[Attack]:
    """Train what is missing of the shadows, and attack with all of them.

    base, model: logarithms (N, K) of the losses of the base and of the weights under attack.
    """
    units = subjects.build_units()
    halves = draw_halves(units, config.shadows, config.seed)
    signals = []
    for number, is_in in enumerate(halves):
        shadow = train_shadow(config, run, subjects, units, is_in, number)
        losses = measure(
            DiffusionWeights(shadow).add_trained(), names=("loss",), told=f"shadow {number + 1}"
        )["loss"]
        signals.append(units.average((base - losses).mean(1)))
    shadows = np.stack(signals)
    own = units.average((base - model).mean(1))
    return [
        Attack("lira", compute_lira(own, shadows, halves),
               f"likelihood ratio by {config.shadows} shadow models", is_joined=False),
        Attack("rmia", compute_rmia(own, shadows, ~units.is_member),
               f"pairwise ratio by {config.shadows} shadow models", is_joined=False),
    ]  # fmt: skip


def draw_halves(units: Units, count: int, seed: int) -> NDArray[np.bool_]:
    """(count, U) which patients each shadow is trained on: half of every stratum, in pairs that
    complement each other, so that every patient is in half of the shadows."""
    generator = np.random.default_rng(seed)
    halves = np.zeros((count, len(units.is_member)), bool)
    for pair in range(0, count, 2):
        for stratum in np.unique(units.stratum):
            rows = generator.permutation(np.flatnonzero(units.stratum == stratum))
            halves[pair, rows[: len(rows) // 2]] = True
        halves[pair + 1] = ~halves[pair]
    return halves


def train_shadow(
    config: AuditConfig,
    run: Run,
    subjects: Subjects,
    units: Units,
    is_in: NDArray[np.bool_],
    number: int,
) -> Run:
    """Train one shadow in a process of its own, or take the one that is there."""
    place = config.out / PLACE / f"{number:03d}"
    if (place / "run" / RECORD).is_file():
        shadow = Run.load(place / "run")
        if shadow.is_finished:
            return shadow
    if not (place / "frames" / METADATA).is_file():
        _write_frames(place / "frames", subjects, is_in[units.of_frame])
    command = [
        *(sys.executable, "-m", "echodiff", "train-lora"),
        *("--config", str(run.run_dir / CONFIG), "--data", str(place / "frames")),
        *("--out", str(place / "run"), "--seed", str(config.seed + 1000 + number)),
        *("--sample-every", "0", "--held-out-frames", "0", "--evaluate-every", "0"),
        *("--tracker", "none"),
    ]
    if config.threads is not None:
        command += ["--threads", str(config.threads)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ})
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(f"--shadows: the training in {place} failed: {lines[-1]}")
    return Run.load(place / "run")


def compute_lira(own: Array, shadows: Array, halves: NDArray[np.bool_]) -> Array:
    """Log likelihood ratio (U,) of the signal under weights that saw a patient, and that did not.

    shadows, halves: (S, U). The variances are pooled over patients, as advised for few shadows.
    """
    means, deviations = [], []
    for side in (halves, ~halves):
        mean = np.where(side, shadows, 0).sum(0) / side.sum(0)
        residuals = (shadows - mean)[side]
        means.append(mean)
        deviations.append(max(float(residuals.std()), 1e-12))
    ratio: Array = norm.logpdf(own, means[0], deviations[0]) - norm.logpdf(
        own, means[1], deviations[1]
    )
    return ratio


def compute_rmia(own: Array, shadows: Array, is_population: NDArray[np.bool_]) -> Array:
    """Share (U,) of the population whose ratio of likelihood to its mean is at most the patient's.

    own: log likelihoods up to a constant; a patient is not compared with itself.
    """
    ratio = own - np.log(np.exp(shadows).mean(0))
    wins = ratio[:, None] >= ratio[None, is_population]
    itself = np.zeros_like(wins)
    places = np.flatnonzero(is_population)
    itself[places, np.arange(len(places))] = True
    share: Array = (wins & ~itself).sum(1) / np.maximum(1, (~itself).sum(1))
    # Ties of a share over few patients would hide the order of the ratios.
    return share + 1e-9 * ratio


def _write_frames(folder: Path, subjects: Subjects, is_in: NDArray[np.bool_]) -> None:
    sides = [
        (side.folder, frame)
        for side in (subjects.members, subjects.others)
        for frame in side.frames
    ]
    with FramesWriter(folder, command="echodiff audit", fingerprint="shadow") as writer:
        for number, (place, frame) in enumerate(sides):
            if not is_in[number]:
                continue
            name = f"{number:06d}.png"
            if name in writer:
                continue
            row = replace(frame, file_name=name, mask_file_name=None, split="train")
            writer.add(row, read_image_u8(place / frame.file_name, max_value=frame.white_level))
