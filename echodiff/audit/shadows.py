"""Shadow models: LoRAs of the same recipe, each on a random half of the patients.

What the loss of a frame is under weights that have seen it and under weights that have not, is
learned from them, frame by frame (LiRA, Carlini et al. 2022, arXiv 2112.03570; RMIA, Zarifzadeh et
al. 2024, arXiv 2312.03262).
"""

from __future__ import annotations

import hashlib
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
from echodiff.documents import read_json, read_yaml_record
from echodiff.errors import InputError
from echodiff.files import write_json_atomic, write_text_atomic
from echodiff.frames.layout import METADATA
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_image_u8
from echodiff.published import CONFIG
from echodiff.runs import RECORD, Run, sha256_file
from echodiff.settings.fields import yaml_line

Array = NDArray[np.float64]

PLACE, JOB = "shadows", "shadow.json"
"""Folder of the shadow models below --out, and in each the hash of what made it."""


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
    InputError where a shadow that is there was trained on others of these frames.
    """
    units = subjects.build_units()
    halves = draw_halves(units, config.shadows, config.seed)
    signals = []
    for number, is_in in enumerate(halves):
        shadow = train_shadow(config, run, subjects, is_in[units.of_frame], number)
        losses = measure(
            DiffusionWeights(shadow).add_trained(), names=("loss",), told=f"shadow {number + 1}"
        )["loss"]
        signals.append(units.average((base - losses).mean(1)))
    shadows = np.stack(signals)
    own = units.average((base - model).mean(1))
    return [
        Attack("lira", compute_lira(own, shadows, halves),
               f"likelihood ratio by {config.shadows} shadow models", is_joined=False),
        Attack("rmia", compute_rmia(own, shadows),
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
    config: AuditConfig, run: Run, subjects: Subjects, is_in: NDArray[np.bool_], number: int
) -> Run:
    """Train one shadow in a process of its own, or take the one that is there.

    is_in: (N,) whether it sees a frame, members first.
    """
    place = config.out / PLACE / f"{number:03d}"
    job = describe_shadow(config, run, subjects, is_in, number)
    known = read_json(place / JOB).get("job") if (place / JOB).is_file() else None
    if known != job and (place / "frames").exists():
        raise InputError(
            f"{place}: is the shadow of another run, --seed or choice of frames, and would tell "
            "nothing of these: give another --out"
        )
    if (place / "run" / RECORD).is_file():
        shadow = Run.load(place / "run")
        if shadow.is_finished:
            return shadow
    place.mkdir(parents=True, exist_ok=True)
    write_json_atomic(place / JOB, {"job": job})
    if not (place / "frames" / METADATA).is_file():
        _write_frames(place / "frames", subjects, is_in)
    repeats = int(read_yaml_record(run.run_dir / CONFIG).get("repeats", 1))
    weight = repeats if subjects.members.frames[0].text else 1
    write_settings(run, place / CONFIG, int(is_in.sum()) * weight)
    command = [
        *(sys.executable, "-m", "echodiff", "train-lora"),
        *("--config", str(place / CONFIG), "--data", str(place / "frames")),
        *("--out", str(place / "run"), "--seed", str(config.seed + 1000 + number)),
    ]
    if config.threads is not None:
        command += ["--threads", str(config.threads)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ})
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(f"--shadows: the training in {place} failed: {lines[-1]}")
    return Run.load(place / "run")


def describe_shadow(
    config: AuditConfig, run: Run, subjects: Subjects, is_in: NDArray[np.bool_], number: int
) -> str:
    """SHA-256 over what makes a shadow: recipe, seed, and the frames that it sees."""
    digest = hashlib.sha256(f"{run.record['weights_sha256']} {config.seed} {number}\n".encode())
    paths = [*subjects.members.paths, *subjects.others.paths]
    for path, seen in zip(paths, is_in.tolist(), strict=True):
        if seen:
            digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def write_settings(run: Run, path: Path, num_samples: int) -> None:
    """The recipe of the run, for `num_samples` in an epoch, each shown as often as the run did.

    A run that --membership-stop ended early has fewer steps than its epochs say, and nothing looks
    at frames while a shadow is trained: it has no frame of val.
    """
    settings, record = read_yaml_record(run.run_dir / CONFIG), run.record
    num_captioned, num_null = int(record["num_captioned"]), int(record["num_null_text"])
    epoch = num_captioned * int(settings.get("repeats", 1)) + num_null
    settings |= {
        "max_steps": max(1, round(int(record["num_steps"]) * num_samples / epoch)),
        "sample_every": 0, "held_out_frames": 0, "evaluate_every": 0, "tracker": "none",
    }  # fmt: skip
    left_out = {"membership_every", "membership_stop", "continue", "continue_", "overwrite"}
    lines = [
        yaml_line(name, value)
        for name, value in settings.items()
        if value is not None and name not in left_out
    ]
    write_text_atomic(path, "".join(lines))


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


def compute_rmia(own: Array, shadows: Array) -> Array:
    """Likelihood (U,) of each patient over its mean under all shadows, as a logarithm.

    RMIA ranks a patient by the share of the population whose ratio its own reaches: the order, all
    that ranks need, is that of the ratios. own: log likelihoods up to a constant; shadows: (S, U).
    """
    ratio: Array = own - np.log(np.exp(shadows).mean(0))
    return ratio


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
