"""Record the frames that a training has seen, and refuse them as a reference for scores.

A patient is recognised by its id, a frame by its pixels, not by its file name. An image that was
generated for a mask counts as one of the mask's patient. Hashes of short ids can be guessed, so
they stay in the run folder, which names its frames anyway. The record next to generated frames
(`as_public_record`) holds only hashes of images, and names the run.
"""

import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from echodiff.data.check.duplicates import RADIUS, SIDE, Sketch, find_near, hash_pixels, sketch
from echodiff.data.run_frames import find_run_frames
from echodiff.data.splits import fold_id, source_of_patient
from echodiff.documents import Kinds, check_kinds, read_record
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.images import bit_range, has_deep_pixels, read_gray_u8, read_max_value
from echodiff.processes import map_in_order
from echodiff.runs import RECORD, Run

logger = logging.getLogger(__name__)

TRAINED_ON = "trained_on"
"""Key of `run.json`, `generate.json` and `translate.json`."""
MAKERS = ("generate.json", "translate.json")
"""Records of the generator, next to generated frames."""
_SETS = (("data_dir", "train"), ("source_dir", "train_source"), ("target_dir", "train_target"))
"""Keys of `run.json`: the folder of a training, and the rows of it that were trained on."""
_TRAINED_KINDS: Kinds = {
    "patients": dict[str, list[str]], "pixels": list[str], "sketches": list[str]
}  # fmt: skip
_MAKER_KINDS: Kinds = {
    **dict.fromkeys(
        ("fingerprint", "base", "base_sha256", "weights", "weights_sha256", "reference", "source"),
        str,
    ),
    **dict.fromkeys(("config", "settings", "versions"), dict),
    "prompts_not_drawn": list[str],
    "white_level": int | None,
    "finished": bool,
    "seconds": float,
    "num_drawn": int,
    TRAINED_ON: dict | None,
}
_READ_AT_ONCE = 64
_MOST_NAMED = 5


class Fingerprint(NamedTuple):
    """Key that identifies an image."""

    pixels: str
    """Hash of size and grey values."""
    sketch: Sketch | None
    """Perceptual hash, which JPEG hardly changes; None for an image of one grey level."""


class Leak(NamedTuple):
    """A frame that a training has seen."""

    frame: Frame
    by: str
    """Description of the training."""
    patient: str | None
    """The frame's patient_id if it was recognised by that; None if by its pixels."""


@dataclass(frozen=True)
class TrainedOn:
    """Patients and images that one training has seen."""

    by: str
    """Description of the training."""
    patients: Mapping[str, frozenset[str]]
    """Hash of each patient's id, and the `source` of its rows; "" for rows without one."""
    pixels: frozenset[str]
    sketches: tuple[Sketch, ...]

    @classmethod
    def from_record(cls, by: str, record: Mapping[str, Any]) -> Self:
        """Read the record of `describe_trained` or `as_public_record`; InputError if malformed."""
        try:
            if missing := _TRAINED_KINDS.keys() - {"patients"} - record.keys():
                raise InputError(f"lacks {min(missing)!r}")
            check_kinds(record, _TRAINED_KINDS)
            sketches = tuple(map(_parse_sketch, record["sketches"]))
        except ValueError as error:
            raise InputError(f"{by}: its record of what was trained on: {error}") from error
        return cls(
            by,
            {name: frozenset(sources) for name, sources in record.get("patients", {}).items()},
            frozenset(record["pixels"]),
            sketches,
        )


def describe_trained(
    sets: Iterable[tuple[Path, Sequence[Frame]]], *, num_readers: int = 1
) -> dict[str, Any]:
    """Describe the frames of a training for `run.json`: hashes of patient ids and of pixels.

    sets: folders with the rows that are trained on. num_readers: processes for many images.
    """
    sets = list(sets)
    patients = _list_patients(frame for _, frames in sets for frame in frames)
    sketches: dict[str, str] = {}
    for folder, frames in sets:
        for one in _read_fingerprints(folder, frames, num_readers):
            sketches[one.pixels] = "" if one.sketch is None else one.sketch.tobytes().hex()
    return {
        "patients": {name: sorted(sources) for name, sources in patients.items()},
        "pixels": list(sketches),
        "sketches": [line for line in sketches.values() if line],
    }


def load_trained(run: Run) -> TrainedOn | None:
    """Return what a run was trained on, from its record; None if unknown.

    Runs of older versions have no such record: their frames are read if they are still in place.
    """
    by = str(run.run_dir)
    if record := run.record.get(TRAINED_ON):
        return TrainedOn.from_record(by, record)
    sets = []
    for place, names in _SETS:
        if trained := set(run.record.get(names, [])):
            try:
                sets.append(find_run_frames(run, sorted(trained), key=place))
            except InputError:
                return None
    return TrainedOn.from_record(by, describe_trained(sets)) if sets else None


def inherit_trained(record: dict[str, Any], weights: Path | None) -> dict[str, Any]:
    """Add to a record of `describe_trained` what the initial `weights` were trained on.

    Warns if their run does not record it.
    """
    if weights is None:
        return record
    run = find_run(weights)
    parent = load_trained(run) if run is not None else None
    if parent is None:
        logger.warning("%s: no record of what these weights were trained on; a reference "
                       "is not checked against it", weights)  # fmt: skip
        return record
    seen = as_record(parent)
    patients = {
        name: sorted({*record["patients"].get(name, ()), *seen["patients"].get(name, ())})
        for name in {**record["patients"], **seen["patients"]}
    }
    joined = {
        key: list(dict.fromkeys([*record[key], *seen[key]])) for key in ("pixels", "sketches")
    }
    return {"patients": patients, **joined}


def as_record(training: TrainedOn) -> dict[str, Any]:
    """Return the record that `TrainedOn.from_record` reads."""
    return {
        "patients": {name: sorted(sources) for name, sources in training.patients.items()},
        "pixels": sorted(training.pixels),
        "sketches": [one.tobytes().hex() for one in training.sketches],
    }


def as_public_record(training: TrainedOn) -> dict[str, Any]:
    """Return the record without patients, which may be published with generated frames."""
    record = as_record(training)
    del record["patients"]
    return record


def find_trainings(folder: Path, frames: Sequence[Frame]) -> tuple[list[TrainedOn], str | None]:
    """Return the training of the weights that made a generated set, and a line on what is unknown.

    The record next to the frames lists the images, its run the patients too. Frames without
    `weights` were made by another program: nothing is known of them, and no line is returned.
    """
    weights = {frame.weights for frame in frames if frame.weights}
    records = [read_maker(folder / name) for name in MAKERS if (folder / name).is_file()]
    with_training = [record for record in records if record.get(TRAINED_ON)]
    by_record = [TrainedOn.from_record(str(r.get("weights")), r[TRAINED_ON]) for r in with_training]
    if any("patients" in record[TRAINED_ON] for record in with_training):  # sets of older versions
        return by_record, None
    if not by_record and (not weights or any(r.get("weights") == "none" for r in records)):
        return [], None
    places = [Path(str(record["weights"])) for record in records if record.get("weights")]
    for place in (*places, *sorted(Path("runs").glob("*"))):
        run = find_run(place)
        if run is not None and weights & _weights_of(run) and (trained := load_trained(run)):
            return [trained], None
    if by_record:
        return by_record, (
            f"{folder}: the run that made these frames was not found: the reference is compared "
            "with the images of the training, but not with its patients"
        )
    return [], (
        f"{folder}: cannot check whether the reference was used for training: no {RECORD} names "
        "the training frames of the weights that made these frames"
    )


def read_maker(path: Path) -> dict[str, Any]:
    """Read the record next to generated frames; InputError if it is not one."""
    return read_record(path, _MAKER_KINDS)


def find_run(place: Path) -> Run | None:
    """Return the run folder at `place`, or the run folder of the file there; None if neither."""
    for folder in (place, place.parent):
        with suppress(InputError):
            if (folder / RECORD).is_file():
                return Run.load(folder)
    return None


def find_leaks(
    folder: Path,
    frames: Sequence[Frame],
    trainings: Sequence[TrainedOn],
    *,
    num_readers: int = 1,
) -> list[Leak]:
    """Return the `frames` that one of `trainings` has seen, or whose patient it has seen.

    Two rows with one patient_id are of one patient unless both name a `source` and these differ.
    """
    if not trainings:
        return []
    fingerprints = list(_read_fingerprints(folder, frames, num_readers))
    leaks = []
    for training in trainings:
        near = _find_near(fingerprints, training)
        for place, frame in enumerate(frames):
            if _is_of_patient(frame, training.patients):
                name = frame.patient_id or frame.pair_id or ""
                leaks.append(Leak(frame, training.by, name.strip()))
            elif fingerprints[place].pixels in training.pixels or place in near:
                leaks.append(Leak(frame, training.by, None))
    return leaks


def count_unknown(folder: Path, frames: Sequence[Frame], training: TrainedOn) -> int:
    """Count the `frames` that `training` has not seen, by the hash of their pixels."""
    found = _read_fingerprints(folder, frames, 1)
    return sum(one.pixels not in training.pixels for one in found)


def count_shared(frames: Sequence[Frame], others: Sequence[Frame]) -> int:
    """Count the `frames` whose patient has a frame among `others`, by the rule of `find_leaks`."""
    patients = _list_patients(others)
    return sum(_is_of_patient(frame, patients) for frame in frames)


def describe_leaks(leaks: Sequence[Leak], num_frames: int) -> str:
    """Describe leaks in one line: their number, and the patients or frames."""
    by = " and ".join(dict.fromkeys(leak.by for leak in leaks))
    patients = list(dict.fromkeys(leak.patient for leak in leaks if leak.patient))
    names = list(dict.fromkeys(leak.frame.file_name for leak in leaks if not leak.patient))
    num_leaks = len({leak.frame.file_name for leak in leaks})
    parts = [f"{len(patients)} patients ({_name_some(patients)})"] if patients else []
    parts += [f"{len(names)} by their pixels ({_name_some(names)})"] if names else []
    return f"{num_leaks} of {num_frames} frames were trained on ({by}): {', '.join(parts)}"


def _find_near(fingerprints: Sequence[Fingerprint], training: TrainedOn) -> set[int]:
    """Indices of near-duplicates of training images: saved as JPEG, brightened, resized."""
    num_trained = len(training.sketches)
    sketches = [*training.sketches, *(one.sketch for one in fingerprints)]
    homes = [(int(place >= num_trained), -1) for place in range(len(sketches))]
    return {duplicate.later - num_trained for duplicate in find_near(sketches, homes, RADIUS)}


def _list_patients(frames: Iterable[Frame]) -> dict[str, set[str]]:
    """Hash of each patient's id, and the data sets that it is of; "" where that is unknown."""
    patients: dict[str, set[str]] = {}
    for frame in frames:
        if name := _hash_patient(frame):
            patients.setdefault(name, set()).add(source_of_patient(frame))
    return patients


def _is_of_patient(frame: Frame, patients: Mapping[str, Collection[str]]) -> bool:
    sources, own = patients.get(_hash_patient(frame), ()), source_of_patient(frame)
    return bool(sources) and ("" in sources or not own or own in sources)


def _hash_patient(frame: Frame) -> str:
    """Hash the patient key; "" without one, because file names do not identify patients."""
    name = fold_id(frame.patient_id or "") or frame.pair_id
    return hashlib.sha256(name.encode()).hexdigest()[:32] if name else ""


def _read_fingerprints(
    folder: Path, frames: Sequence[Frame], num_readers: int
) -> Iterator[Fingerprint]:
    paths = [folder / frame.file_name for frame in frames]
    parts = [paths[start : start + _READ_AT_ONCE] for start in range(0, len(paths), _READ_AT_ONCE)]
    for part in map_in_order(_take_fingerprints, parts, workers=num_readers):
        yield from part


def _take_fingerprints(paths: Sequence[Path]) -> list[Fingerprint]:
    fingerprints = []
    for path in paths:
        # Scaled by its own white level: the same file may be in sets of different white levels.
        largest = read_max_value(path) if has_deep_pixels(path) else None
        image = read_gray_u8(path, max_value=None if largest is None else bit_range(largest))
        fingerprints.append(Fingerprint(hash_pixels(image).hex(), sketch(image)))
    return fingerprints


def _parse_sketch(line: str) -> Sketch:
    bits = np.frombuffer(bytes.fromhex(line), np.uint64)
    if len(bits) != SIDE**2 // 64:
        raise InputError(f"{len(bits) * 64} bits of a perceptual hash, of {SIDE**2}")
    return bits


def _weights_of(run: Run) -> set[str]:
    networks = run.record.get("networks_sha256", {})
    return {str(run.record.get("weights_sha256")), *map(str, networks.values())}


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
