"""Choose the real frames of a command: the reference of its scores, and the training frames."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echodiff.data.leaks import (
    TrainedOn,
    count_shared,
    describe_leaks,
    describe_trained,
    find_leaks,
    find_trainings,
)
from echodiff.data.run_frames import find_run_frames
from echodiff.data.splits import SPLITS, choose_rows, warn_without_patient
from echodiff.errors import InputError
from echodiff.frames.maker import GENERATED
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.runs import RECORD, Run

logger = logging.getLogger(__name__)

HELD_OUT = ("val", "test")
MIN_TEST = 4
"""Fewest frames that a distance can be taken to."""


@dataclass(frozen=True)
class RealFrames:
    """Rows of one frames folder."""

    source: Path
    """Frames folder or run folder, as it was given."""
    folder: Path
    """The frames folder."""
    frames: list[Frame]
    text: str
    """What they are, in words."""

    @property
    def paths(self) -> list[Path]:
        return [self.folder / frame.file_name for frame in self.frames]


def choose_reference(
    source: Path,
    split: str | None = None,
    *,
    data: Path | None = None,
    flag: str = "--reference",
) -> RealFrames:
    """Rows to score against: of a frames folder val and test, of a run its held-out frames.

    split: other splits, commas between. A folder without a split column is taken whole.
    data: where the frames of a run lie, as `find_run_frames` takes it.
    """
    if (source / RECORD).is_file():
        return choose_held_out(Run.load(source), split, data=data, flag=flag)
    frames = _load(source, flag)
    rows = choose_rows(source, frames, split, usual=HELD_OUT, flag=flag)
    found = [name for name in SPLITS if any(row.split == name for row in rows)]
    words = f" ({', '.join(found)})" if found else ""
    return RealFrames(source, source, rows, f"{len(rows)} frames of {source}{words}")


def choose_held_out(
    run: Run,
    split: str | None = None,
    *,
    data: Path | None = None,
    flag: str = "--reference",
) -> RealFrames:
    """The frames that a run never trained on: test, or with val where these are too few to score.

    InputError where it kept none apart, or where they have moved.
    """
    record, words = run.record, ""
    if "val" not in record:  # a run of before val and test were told apart
        names = record.get("held_out", [])
        if split is not None:
            raise InputError(f"--split {split}: {run.run_dir}: its record has no splits")
    elif split is None:
        names, words = record.get("test", []), " (test)"
        if len(names) < MIN_TEST:
            too_few = f"{len(names)} test frames are too few" if names else "it has no test frames"
            words = f" ({'val and test' if names else 'val'}: {too_few})"
            names = [*record["val"], *names]
    else:
        names = [name for word in split.split(",") for name in record.get(word.strip(), [])]
        words = f" ({split})"
    if not names:
        raise InputError(f"{flag} {run.run_dir}: the run held out no frames{words}")
    folder, frames = find_run_frames(run, names, data=data)
    text = f"{len(names)} held-out frames of {run.run_dir}{words}"
    return RealFrames(run.run_dir, folder, frames, text)


def choose_trained(source: Path, *, data: Path | None = None, flag: str = "--train") -> RealFrames:
    """Rows that were trained on: train of a frames folder with a split column, all without; of a
    run those it lists."""
    if (source / RECORD).is_file():
        run = Run.load(source)
        names = run.record.get("train", [])
        if not names:
            raise InputError(f"{flag} {source}: {RECORD} lists no training frames")
        folder, frames = find_run_frames(run, names, data=data)
    else:
        folder = source
        frames = choose_rows(source, _load(source, flag), None, usual=("train",), flag=flag)
    return RealFrames(source, folder, frames, f"{len(frames)} training frames of {source}")


def build_training(train: RealFrames, flag: str, *, num_readers: int = 1) -> TrainedOn:
    """What a training on these frames has seen."""
    record = describe_trained([(train.folder, train.frames)], num_readers=num_readers)
    return TrainedOn.from_record(f"{flag} {train.source}", record)


def refuse_trained(
    reference: RealFrames,
    trainings: Sequence[TrainedOn],
    *,
    flag: str = "--reference",
    num_readers: int = 1,
    hint: str = "",
) -> None:
    """InputError where a training has seen frames or patients of the reference; `hint` ends it."""
    leaks = find_leaks(reference.folder, reference.frames, trainings, num_readers=num_readers)
    if leaks:
        runs = [leak.by for leak in leaks if (Path(leak.by) / RECORD).is_file()]
        instead = f" (those that the run held out: {flag} {runs[0]})" if runs else ""
        raise InputError(
            f"{flag} {reference.source}: {describe_leaks(leaks, len(reference.frames))}; scores "
            f"need other patients{instead}{hint}; other people of the same ids need another "
            "`source`"
        )


def drop_trained(
    reference: RealFrames, trainings: Sequence[TrainedOn], *, is_quiet: bool = False
) -> RealFrames:
    """The held-out frames of a run without those that repeat trained ones, with a warning."""
    leaks = find_leaks(reference.folder, reference.frames, trainings)
    if not leaks:
        return reference
    if not is_quiet:
        told = describe_leaks(leaks, len(reference.frames))
        logger.warning("%s: left out of the reference: %s", reference.source, told)
    dropped = {leak.frame.file_name for leak in leaks}
    frames = [frame for frame in reference.frames if frame.file_name not in dropped]
    if not frames:
        raise InputError(f"{reference.source}: every held-out frame repeats a training frame")
    text = f"{len(frames)} held-out{reference.text.partition('held-out')[2]}"
    return dataclasses.replace(reference, frames=frames, text=text)


def describe_shared(reference: RealFrames, folder: Path) -> list[str]:
    """Note that images in `folder` were generated for masks of patients of the reference."""
    drawn = [row for row in load_frames(folder) if row.source == GENERATED and row.mask_file_name]
    num = count_shared(drawn, reference.frames)
    if not num:
        return []
    return [
        f"{num} of {len(drawn)} images were generated for masks of patients of the reference: both "
        "show the same anatomy, so distances are smaller than for other patients; generate.py "
        "--mask-split train takes masks of training patients"
    ]


def _load(source: Path, flag: str) -> list[Frame]:
    try:
        return load_frames(source)
    except InputError as error:
        raise InputError(f"{flag} {error}") from None


def open_reference(
    source: Path | Sequence[Path], generated: Sequence[Path]
) -> tuple[str | None, Sequence[Path]]:
    """Name and pictures to score against; of a folder, rows that no training has seen."""
    if not isinstance(source, str | Path):
        return None, source
    reference = choose_reference(Path(source))
    check_reference(reference, generated, None)
    return str(source), reference.paths


def check_reference(
    reference: RealFrames,
    generated: Sequence[Path],
    train: RealFrames | None,
    *,
    num_readers: int = 1,
) -> list[str]:
    """Refuse a reference that the generators, or `train`, have seen; lines on what nobody can
    tell."""
    trainings: list[TrainedOn] = []
    unknown = []
    for folder in generated:
        found, problem = find_trainings(folder, load_frames(folder))
        trainings += found
        unknown += [problem] if problem else []
    if train is not None:
        trainings.append(build_training(train, "--train", num_readers=num_readers))
    refuse_trained(reference, trainings, num_readers=num_readers)
    rows: dict[Path, list[Frame]] = {}
    for real in (reference, train):
        if real is not None:
            rows.setdefault(real.folder.resolve(), []).extend(real.frames)
    for folder, frames in rows.items():
        warn_without_patient(folder, frames)
    for line in unknown:
        logger.warning("%s", line)
    return unknown
