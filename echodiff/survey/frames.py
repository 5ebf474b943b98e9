"""The frames of a comparison: read, split by patient and vendor, checked before any training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label, View
from echodiff.data.reference import MIN_TEST, RealFrames, build_training, refuse_trained
from echodiff.data.splits import (
    check_split_column,
    patient_of,
    split_patients,
    warn_without_patient,
)
from echodiff.errors import InputError
from echodiff.frames.maker import PHANTOM
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_size
from echodiff.metrics.resampling import MIN_GROUPS
from echodiff.phantom.dataset import write_phantom_frames
from echodiff.phantom.styles import STYLES
from echodiff.segmentation.label_names import name_labels, parse_label
from echodiff.segmentation.labelled_frames import LabelledFrames, load_labelled_frames
from echodiff.survey.normalisation import Normaliser
from echodiff.survey.survey_config import SurveyConfig

OWN_SHARES = (0.7, 0.0, 0.3)
"""Train, val and test of a folder without a split column."""
CHAMBERS = (Label.LV, Label.LV_MYOCARDIUM, Label.LA, Label.RV, Label.RA)
"""Labels that are segmented, as far as the masks have them: Dice says little of thin walls."""
TRAIN, TEST, UNSEEN = "train", "test", "unseen"
"""Parts of the frames."""
UNKNOWN = "unknown"
"""Vendor of a row that names none."""


@dataclass(frozen=True)
class SurveyFrames:
    """What generators and segmentations are trained on, drawn for and tested on."""

    source: Path
    train: LabelledFrames
    """Of vendors that are not held out."""
    test: LabelledFrames
    """Other patients of the same vendors."""
    unseen: LabelledFrames | None
    """Patients of the held-out vendors."""
    vendors: tuple[str, ...]
    """Of the training frames, sorted."""
    labels: tuple[Label, ...]
    """Of the training masks, the background first: what generators are shown."""
    segmented: tuple[Label, ...]
    """Those that are segmented, the background aside."""
    notes: tuple[str, ...]

    def vendor_of(self, one: LabelledFrames) -> list[int]:
        """Place in `vendors` of every frame."""
        return [self.vendors.index(vendor_of(frame)) for frame in one.frames]


def vendor_of(frame: Frame) -> str:
    """Vendor of a row."""
    return frame.vendor or UNKNOWN


def open_frames(config: SurveyConfig) -> SurveyFrames:
    """Read and check all frames; InputError for what makes the comparison impossible or wrong."""
    folder = config.data or simulate_frames(config)
    rows = _load(folder, config)
    warn_without_patient(folder, rows)
    rows, notes = _split(folder, rows, config)
    seen = [row for row in rows if vendor_of(row) not in config.held_out]
    parts = {
        TRAIN: [row for row in seen if row.split == TRAIN],
        TEST: [row for row in seen if row.split != TRAIN],
        # Of a vendor that nothing is trained on, every patient is a test patient.
        UNSEEN: [row for row in rows if vendor_of(row) in config.held_out],
    }
    _check(folder, parts, config)
    train, test = (
        load_labelled_frames(folder, parts[name], config.resolution, flag="--data")
        for name in (TRAIN, TEST)
    )
    unseen = None
    if config.held_out:
        unseen = load_labelled_frames(
            folder, parts[UNSEEN], config.resolution, flag="--held-out-vendor"
        )
    labels = (Label.BACKGROUND, *train.labels)
    if other := sorted({*test.labels, *(unseen.labels if unseen else ())} - {*labels}):
        notes.append(f"{name_labels(other)} is in no training mask, and counts as background")
    if any((row.source or "").startswith(PHANTOM) for row in rows):
        notes.append("frames are simulated: the results are about simulated hearts")
    return SurveyFrames(
        folder, train, test, unseen, tuple(sorted({vendor_of(row) for row in train.frames})),
        labels, _choose_segmented(config, [train, test, *([unseen] if unseen else [])]),
        tuple(notes),
    )  # fmt: skip


def simulate_frames(config: SurveyConfig) -> Path:
    """Write MR frames of simulated hearts, of all scanner styles, unless they are there."""
    folder = config.out / "phantom" / "mr"
    if not (folder / "metadata.jsonl").is_file():
        write_phantom_frames(
            folder.parent, num=config.phantom_frames, seed=config.seed, size=config.resolution * 2,
            styles=tuple(STYLES), views=tuple(View(name) for name in config.phantom_views),
            splits=(0.7, 0.0, 0.3), modalities=("mr",),
        )  # fmt: skip
    return folder


def write_survey_frames(config: SurveyConfig, frames: SurveyFrames) -> dict[str, Path]:
    """Write the frames at the size of the comparison, once for each normalisation.

    `none` is always among them. Returns the folder of each; rows keep the order train, test, held
    out, and their columns.
    """
    folders: dict[str, Path] = {}
    parts = {TRAIN: frames.train, TEST: frames.test}
    if frames.unseen is not None:
        parts[UNSEEN] = frames.unseen
    for name in dict.fromkeys(["none", *config.normalisation]):
        folder = config.out / "data" / name
        folders[name] = folder
        if (folder / "metadata.jsonl").is_file():
            continue
        normaliser = Normaliser.of(name, frames.train.images_u8)
        with FramesWriter(folder, fingerprint={"settings": {"normalisation": name}}) as writer:
            for title, part in parts.items():
                for place, row in enumerate(part.frames):
                    file_name = f"{title}-{place:06d}.png"
                    if file_name not in writer:
                        resized = _as_resized(row, frames.source, config.resolution)
                        resized = replace(
                            resized, file_name=file_name, split=TRAIN if title == TRAIN else TEST
                        )
                        image, mask = part.images_u8[place], part.masks_u8[place]
                        writer.add(resized, normaliser(image), mask)
    return folders


def load_part(folder: Path, title: str) -> list[Frame]:
    """Rows of one part, `train`, `test` or `unseen`, of what `write_survey_frames` wrote."""
    return [row for row in load_frames(folder) if Path(row.file_name).name.startswith(f"{title}-")]


def _as_resized(row: Frame, folder: Path, side: int) -> Frame:
    """The row of the same frame, padded to a square and resized."""
    spacing = row.spacing_mm
    if spacing is not None:
        spacing *= max(read_size(folder / row.file_name)) / side
    return replace(row, mask_file_name=None, spacing_mm=spacing, white_level=None)


def _load(folder: Path, config: SurveyConfig) -> list[Frame]:
    try:
        rows = load_frames(folder)
    except InputError as error:
        raise InputError(f"--data {error}") from None
    if made := [row for row in rows if row.weights]:
        raise InputError(
            f"--data {folder}: {len(made)} of {len(rows)} frames were generated, such as "
            f"{made[0].file_name}: real frames are needed here"
        )
    with_mask = [row for row in rows if row.mask_file_name]
    if not with_mask:
        raise InputError(f"--data {folder}: none of its {len(rows)} frames has a mask")
    vendors = sorted({vendor_of(row) for row in with_mask})
    if missing := [name for name in config.held_out if name not in vendors]:
        raise InputError(
            f"--held-out-vendor {missing[0]}: no frame of {folder} with a mask is of it (there "
            f"are: {', '.join(vendors)})"
        )
    if config.held_out and not set(vendors) - {*config.held_out}:
        raise InputError(
            f"--held-out-vendor {','.join(config.held_out)}: {folder} has frames of no other "
            "vendor to train on"
        )
    return with_mask


def _split(
    folder: Path, rows: Sequence[Frame], config: SurveyConfig
) -> tuple[list[Frame], list[str]]:
    """Give every row a split; patients are never divided."""
    try:
        has_split = check_split_column(rows)
    except InputError as error:
        raise InputError(f"--data {folder}: {error}") from None
    if has_split:
        return list(rows), []
    strata = {patient_of(row): vendor_of(row) for row in rows}
    homes = split_patients(strata, OWN_SHARES, seed=config.seed, strata=strata)
    note = "the frames have no split column: 30 % of the patients of each vendor are held out"
    return [dataclasses.replace(row, split=homes[patient_of(row)]) for row in rows], [note]


def _check(folder: Path, parts: dict[str, list[Frame]], config: SurveyConfig) -> None:
    for name, own in parts.items():
        if name == UNSEEN and not config.held_out:
            continue
        num = len({patient_of(row) for row in own})
        if name == TRAIN and len(own) < config.batch_size:
            raise InputError(
                f"--data {folder}: {len(own)} training frames with masks, fewer than one batch "
                f"of {config.batch_size}"
            )
        if name != TRAIN and (num < MIN_GROUPS or len(own) < MIN_TEST):
            what = "val and test" if name == TEST else f"vendors {','.join(config.held_out)}"
            raise InputError(
                f"--data {folder}: {num} patients with masks in {what}, and intervals need "
                f"{MIN_GROUPS}"
            )
    trained_on = {vendor_of(row) for row in parts[TRAIN]}
    if extra := sorted({vendor_of(row) for row in parts[TEST]} - trained_on):
        raise InputError(
            f"--data {folder}: no training frame is of vendor {', '.join(extra)}, which val or "
            f"test has: hold it out with --held-out-vendor {','.join([*config.held_out, *extra])}"
        )
    held = [row for name, own in parts.items() if name != TRAIN for row in own]
    reference = RealFrames(folder, folder, held, "")
    trained = RealFrames(folder, folder, parts[TRAIN], "")
    refuse_trained(reference, [build_training(trained, "--data")], flag="--data")


def _choose_segmented(config: SurveyConfig, sets: Sequence[LabelledFrames]) -> tuple[Label, ...]:
    shared = set.intersection(*({*one.labels} for one in sets))
    if config.labels:
        wanted = {parse_label(name) for name in config.labels} - {Label.BACKGROUND}
        if missing := sorted(wanted - shared):
            raise InputError(
                f"--labels: {name_labels(missing)} is not in the masks of train, of test and of "
                "the held-out vendors"
            )
        return tuple(sorted(wanted))
    chosen = tuple(label for label in CHAMBERS if label in shared) or tuple(sorted(shared))
    if not chosen:
        raise InputError(f"--data {sets[0].folder}: train and test have no label in common")
    return tuple(sorted(chosen))


def read_images_pm1(images_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, S, S) uint8 to (N, 1, S, S) in -1..1."""
    return np.asarray(images_u8[:, None] / np.float32(127.5) - 1, np.float32)
