"""Frames that a study can draw from: what each source holds, and whose heart each frame shows."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from echodiff.data.leaks import TrainedOn, find_trainings, read_maker
from echodiff.data.splits import fold_id
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import of_frames
from echodiff.images import read_size


@dataclass(frozen=True)
class Candidate:
    """A frame of a source, not yet looked at."""

    source: str
    path: Path
    frame: Frame
    patient: str
    """Key of the heart it shows; frames of two sources share it if they show the same one."""
    max_value: int | None
    """White level of its folder; None for images of 8 bits."""


@dataclass(frozen=True)
class SourceFrames:
    """All frames of a source."""

    name: str
    folder: Path
    candidates: list[Candidate]
    is_generated: bool
    trainings: list[TrainedOn]
    """What its generator was trained on; empty if unknown, or if the frames are real."""
    note: str | None
    """What could not be found out about the training."""


def load_source(
    name: str, folder: Path, *, is_real: bool, splits: Sequence[str] = ()
) -> SourceFrames:
    """Read the rows of one source; pixels are not read.

    InputError if the real source holds generated frames, or if no row is of `splits`.
    """
    frames = load_frames(folder)
    white = of_frames(folder, frames)
    if is_real and any(frame.weights for frame in frames):
        raise InputError(f"--source {name}={folder}: the first source is the real one, and holds "
                         "generated frames")  # fmt: skip
    if is_real and splits:
        frames = [frame for frame in frames if frame.split in splits]
        if not frames:
            raise InputError(f"--split {','.join(splits)}: no row of {folder} has it")
    trainings, note = ([], None) if is_real else find_trainings(folder, frames)
    inputs = find_inputs(folder)
    candidates = [
        Candidate(name, folder / frame.file_name, frame,
                  find_patient(inputs or folder, frame), white)
        for frame in frames
    ]  # fmt: skip
    return SourceFrames(name, folder, candidates, not is_real, trainings, note)


def find_inputs(folder: Path) -> Path | None:
    """The folder that was translated into this one; None if it was not made so."""
    record = folder / "translate.json"
    source = read_maker(record).get("source") if record.is_file() else None
    return None if source is None else Path(source)


def find_patient(folder: Path, frame: Frame) -> str:
    """Key of the heart that a frame shows.

    The patient, whatever data set names it; else the anatomy it shares with other modalities; else
    the frame itself, by its folder and name. For a translated frame `folder` is that of its input:
    two generators' versions of one frame then count as one heart.
    """
    if name := fold_id(frame.patient_id or ""):
        return f"patient {name}"
    if frame.pair_id:
        return f"pair {frame.pair_id}"
    return f"pair {folder.resolve()} {name_stem(frame)}"


def name_stem(frame: Frame) -> str:
    """Name of a frame without its suffix; a translation keeps it."""
    return Path(frame.file_name).with_suffix("").as_posix()


def without_patients(trainings: Sequence[TrainedOn]) -> list[TrainedOn]:
    """Trainings by their images alone: a translated frame may keep the patient of its input."""
    return [replace(training, patients={}) for training in trainings]


def find_smallest_side(sources: Sequence[SourceFrames]) -> int:
    """Smallest longer side of all images, in pixels; by their headers."""
    sides = []
    for source in sources:
        for candidate in source.candidates:
            try:
                sides.append(max(read_size(candidate.path)))
            except (InputError, OSError) as error:
                warnings.warn(f"{candidate.path}: left out: {error}", stacklevel=2)
    if not sides:
        raise InputError(f"{sources[0].folder}: not one image can be read")
    return min(sides)
