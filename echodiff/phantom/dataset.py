"""`echodiff phantom`: frames folders of simulated hearts, with masks and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding, Label, View
from echodiff.errors import InputError
from echodiff.frames.maker import PHANTOM
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.phantom.acquisition import (
    MODALITIES,
    Modality,
    Population,
    render,
    sample_patient,
)
from echodiff.phantom.heart import Heart
from echodiff.phantom.seeds import seed_words
from echodiff.phantom.slices import VIEWS, Pose, sector_mask, slice_image
from echodiff.phantom.styles import STYLE_NAMES
from echodiff.processes import map_in_order
from echodiff.progress import ProgressBar
from echodiff.settings.command_line import parse

SOURCE = PHANTOM
_GOLDEN = 0.6180339887498949

T = TypeVar("T", bound=str)
Rendered = tuple[dict[Modality, NDArray[np.uint8]], dict[Modality, NDArray[np.uint8]], Frame]
"""Images and masks by modality, and the row that they share."""
OF_SECTOR: tuple[Modality, ...] = ("echo", "pseudo")
"""Modalities that show a sector; MR and CT show the whole slice."""


def write_phantom_frames(
    out: Path,
    *,
    num: int,
    seed: int,
    size: int = 256,
    styles: Sequence[str] = ("aspen", "birch"),
    findings: Sequence[Finding] = tuple(Finding),
    finding_rate: float = 0.5,
    child_rate: float = 0.25,
    views: Sequence[View] = (View.A4C,),
    splits: tuple[float, float, float] = (0.7, 0.15, 0.15),
    modalities: Sequence[Modality] = ("echo",),
    workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Write `num` frames of size x size pixels: at `out`, or at `out`/<modality> if there are
    several.

    Each patient has two frames, at end of diastole and end of systole. Frame i depends only on
    (seed, i) and the population. An unfinished folder is resumed. workers: 0 uses one process per
    core.
    """
    try:
        population = Population(
            styles=tuple(styles),
            findings=tuple(findings),
            finding_rate=finding_rate,
            child_rate=child_rate,
            views=tuple(views),
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    folders = {m: out if tuple(modalities) == ("echo",) else out / m for m in modalities}
    job = partial(
        _render, seed=seed, size=size, population=population, modalities=tuple(modalities)
    )
    settings = {"num": num, "seed": seed, "size": size, "split": list(splits)}
    settings |= {name: list(value) if isinstance(value, tuple) else value
                 for name, value in vars(population).items()}  # fmt: skip
    fingerprint = {"settings": settings}
    with ExitStack() as stack:
        writers = {
            modality: stack.enter_context(
                FramesWriter(folder, overwrite=overwrite, command=PHANTOM, fingerprint=fingerprint)
            )
            for modality, folder in folders.items()
        }
        left = [i for i in range(num) if any(_name(i) not in w for w in writers.values())]
        bar = stack.enter_context(
            ProgressBar(
                total=num,
                initial=num - len(left),
                desc="phantom",
                unit="frame",
                disable=not progress,
            )
        )
        for index, (images, masks, frame) in zip(
            left, map_in_order(job, left, workers=workers), strict=True
        ):
            split = split_of(seed, index // 2, splits)
            for modality, writer in writers.items():
                if _name(index) not in writer:
                    row = replace(frame, modality=modality, split=split)
                    writer.add(row, images[modality], masks[modality])
            bar.update()


def split_of(seed: int, patient: int, splits: tuple[float, float, float]) -> str:
    """Assign a patient to a split by an evenly distributed sequence, so that the shares hold for
    any number of patients."""
    place = (np.random.default_rng(seed_words(seed, 77)).random() + patient * _GOLDEN) % 1.0
    train, val, test = (share / sum(splits) for share in splits)
    if place < train:
        return "train"
    return "val" if (place < train + val and val > 0) or test == 0 else "test"


def _name(index: int) -> str:
    return f"phantom-{index:06d}.png"


def _render(
    index: int, *, seed: int, size: int, population: Population, modalities: tuple[Modality, ...]
) -> Rendered:
    patient = sample_patient(seed, index // 2, population)
    acquisition = patient[index % 2]
    heart, pose = acquisition.heart, acquisition.pose
    anatomy, spacing_mm = slice_image(heart, pose, size)
    images = {m: render(acquisition, m, size, anatomy) for m in modalities}
    whole = anatomy.labels.astype(np.uint8)
    cut = np.where(sector_mask(pose, size), whole, Label.BACKGROUND).astype(np.uint8)
    masks = {m: cut if m in OF_SECTOR else whole for m in modalities}
    frame = Frame(
        file_name=_name(index),
        text=acquisition.text,
        patient_id=f"phantom-{seed}-{index // 2:05d}",
        view=str(pose.view),
        phase=str(heart.phase),
        vendor=acquisition.echo.style,
        spacing_mm=round(spacing_mm, 5),
        source=SOURCE,
        pair_id=f"phantom-{seed}-{index:06d}",
        findings=[str(finding.name) for finding in heart.findings],
        record=acquisition.to_json(),
        extra=describe(patient[0].heart, pose),
    )
    return images, masks, frame


def describe(heart: Heart, pose: Pose) -> dict[str, Any]:
    """Columns on patient, function, sizes and findings; None where there is nothing to say.

    heart: at end of diastole, as grades and captions are. All values are the patient's, the same
    in both frames; the volume of the left atrium is that at end of systole. `grades` go with
    `findings`, one for one.
    """
    asd, vsd = heart.find(Finding.ASD), heart.find(Finding.VSD)
    return {
        "grades": [str(finding.grade) for finding in heart.findings],
        "sex": str(heart.sex),
        "age_years": heart.age_years,
        "age_group": str(heart.age_group),
        "bsa_m2": heart.bsa_m2,
        "ef": heart.ef,
        "lv_ml": round(heart.lv_ml, 1),
        "wall_mm": round(heart.wall_mm, 1),
        "septum_mm": round(heart.septum_mm, 1),
        "la_ml_m2": heart.la_ml_m2,
        "asd_kind": None if asd is None else asd.kind,
        "asd_mm": None if asd is None else asd.size_mm,
        "vsd_kind": None if vsd is None else vsd.kind,
        "vsd_mm": None if vsd is None else vsd.size_mm,
        "level": None if pose.level is None else str(pose.level),
        "depth_mm": round(pose.depth_mm, 1),
    }


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Simulate frames of a parametric 3D heart."""

    out: Path
    """Frames folder to write; with several modalities, one folder per modality below it."""
    num: int = 100
    """Number of frames (1 or more); every patient has two."""
    size: int = 256
    """Width and height in pixels (64 to 1024)."""
    modality: str = "echo"
    """Modalities, separated by commas: echo, mr, ct, ct-contrast, pseudo; several show the same
    slices."""
    styles: str = "aspen,birch"
    """Scanner styles of echo and MR, separated by commas: aspen, birch, cedar, or random for a new
    style per patient."""
    findings: str = ",".join(Finding)
    """Findings to draw from, separated by commas; `none` for normal hearts only."""
    finding_rate: float = 0.5
    """Share of patients with a finding that their view can show (0 to 1)."""
    child_rate: float = 0.25
    """Share of patients who are children (0 to 1); hypoplastic ventricles and common valves are
    drawn as children's unless it is 0."""
    views: str = "A4C"
    """Views, separated by commas: A4C, A2C, A3C, A5C, SUBCOSTAL, PSAX."""
    split: str = "70/15/15"
    """Percentages of patients in train, val and test."""
    seed: int = 0
    """Random seed (0 or more)."""
    workers: int = 0
    """Number of processes; 0 means one per core."""
    overwrite: bool = False
    """Replace the frames folder at --out."""

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ValueError(f"--num must be at least 1, not {self.num}")
        for name, count in (("seed", self.seed), ("workers", self.workers)):
            if count < 0:
                raise ValueError(f"--{name} must be at least 0, not {count}")
        if self.seed >= 2**64:
            raise ValueError(f"--seed must be below 2^64, not {self.seed}")
        if not 64 <= self.size <= 1024:
            raise ValueError(f"--size must lie in 64..1024 pixels, not {self.size}")
        for name, share in (("finding-rate", self.finding_rate), ("child-rate", self.child_rate)):
            if not 0 <= share <= 1:
                raise ValueError(f"--{name} must lie in 0..1, not {share}")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and write the folder or folders."""
    config = parse(PhantomConfig, argv, prog="echodiff phantom")
    modalities = _listed(config.modality, MODALITIES, "--modality")
    no_findings = config.findings in ("none", "")
    write_phantom_frames(
        config.out,
        num=config.num,
        seed=config.seed,
        size=config.size,
        styles=_listed(config.styles, STYLE_NAMES, "--styles"),
        findings=() if no_findings else _listed(config.findings, tuple(Finding), "--findings"),
        finding_rate=config.finding_rate,
        child_rate=config.child_rate,
        views=_listed(config.views, VIEWS, "--views"),
        splits=_shares(config.split),
        modalities=modalities,
        workers=config.workers,
        overwrite=config.overwrite,
    )
    print(f"{config.num} frames of {', '.join(modalities)} in {config.out}")


def _listed(text: str, known: Sequence[T], flag: str) -> tuple[T, ...]:
    table = {str(name): name for name in known}
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in table]
    if unknown or not names:
        raise InputError(f"{flag}: {', '.join(unknown) or 'empty'}; known are {', '.join(table)}")
    return tuple(table[name] for name in dict.fromkeys(names))


def _shares(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError as error:
        raise InputError(f"--split is three numbers such as 70/15/15, not {text!r}") from error
    if not all(math.isfinite(share) and share >= 0 for share in (train, val, test)) or train == 0:
        raise InputError(f"--split {text}: shares are 0 or more, and train is above 0")
    return train, val, test
