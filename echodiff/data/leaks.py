"""Record the frames that a training has seen, and refuse them as a reference for scores.

A patient is recognised by its id, a frame by its pixels, whatever its file name. Hashes of short
ids can be guessed, so they stay in the run folder, which names its frames anyway. The record next
to generated frames (`as_public_record`) holds only hashes of images, and names the run.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from echodiff.data.check.duplicates import RADIUS, SIDE, Sketch, find_near, hash_pixels, sketch
from echodiff.data.run_frames import find_run_frames
from echodiff.data.splits import fold_id
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
"""Records beside generated frames of what made them."""
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
    """What tells one image from another."""

    pixels: str
    """Hash of size and grey values."""
    sketch: Sketch | None
    """Perceptual hash, which JPEG leaves nearly alone; None for an image of one grey level."""


class Leak(NamedTuple):
    """A frame that a training has seen."""

    frame: Frame
    by: str
    """The training, in words."""
    patient: str | None
    """The frame's patient_id, where that is what was recognised; None for its pixels."""


@dataclass(frozen=True)
class TrainedOn:
    """Patients and images that one training has seen."""

    by: str
    """The training, in words."""
    patients: Mapping[str, frozenset[str]]
    """Hash of a patient's id -> `source` of its rows; "" where a row has none."""
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
    """What `run.json` keeps of the frames of a training: hashes of patient ids and of pixels.

    sets: folders with the rows that are trained on. num_readers: processes for many images.
    """
    patients: dict[str, set[str]] = {}
    sketches: dict[str, str] = {}
    for folder, frames in sets:
        for frame in frames:
            if name := _hash_patient(frame):
                patients.setdefault(name, set()).add(frame.source or "")
        for one in _read_fingerprints(folder, frames, num_readers):
            sketches[one.pixels] = "" if one.sketch is None else one.sketch.tobytes().hex()
    return {
        "patients": {name: sorted(sources) for name, sources in patients.items()},
        "pixels": list(sketches),
        "sketches": [line for line in sketches.values() if line],
    }


def load_trained(run: Run) -> TrainedOn | None:
    """What a run has seen, by its record; of older runs by the frames it names, where they still
    are in place. None where neither tells.
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
    """`record` of `describe_trained`, and all that the training of `weights`, which this one starts
    from, has seen; a warning where their run does not tell."""
    if weights is None:
        return record
    run = find_run(weights)
    parent = load_trained(run) if run is not None else None
    if parent is None:
        logger.warning("%s: no record of what these weights were trained on: it is not checked "
                       "against a reference", weights)  # fmt: skip
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
    """What `TrainedOn.from_record` reads."""
    return {
        "patients": {name: sorted(sources) for name, sources in training.patients.items()},
        "pixels": sorted(training.pixels),
        "sketches": [one.tobytes().hex() for one in training.sketches],
    }


def as_public_record(training: TrainedOn) -> dict[str, Any]:
    """The same without the patients: what may leave the machine with generated frames."""
    record = as_record(training)
    del record["patients"]
    return record


def find_trainings(folder: Path, frames: Sequence[Frame]) -> tuple[list[TrainedOn], str | None]:
    """What the weights have seen that made a generated set, and a line where nobody can tell all.

    The record beside the frames knows the images, the run that it names the patients too. Frames
    without `weights` were made by another program: nothing is known of them, and nothing is said.
    """
    weights = {frame.weights for frame in frames if frame.weights}
    records = [read_maker(folder / name) for name in MAKERS if (folder / name).is_file()]
    told = [record for record in records if record.get(TRAINED_ON)]
    by_record = [TrainedOn.from_record(str(r.get("weights")), r[TRAINED_ON]) for r in told]
    if any("patients" in record[TRAINED_ON] for record in told):  # sets of older versions
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
            f"{folder}: the run that made these frames is not here: "
            "the reference is held against the images of the training, not against its patients"
        )
    return [], (
        f"{folder}: whether the reference was trained on cannot be checked: no {RECORD} says what "
        "the weights that made these frames have seen"
    )


def read_maker(path: Path) -> dict[str, Any]:
    """The record beside generated frames of what made them; InputError for what is none."""
    return read_record(path, _MAKER_KINDS)


def find_run(place: Path) -> Run | None:
    """The run folder at `place`, or that of the file there."""
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
    """Every one of `frames` that one of `trainings` has seen, or whose patient it has seen.

    Two rows with one patient_id are of one patient unless both name a `source` and these differ.
    """
    if not trainings:
        return []
    fingerprints = list(_read_fingerprints(folder, frames, num_readers))
    leaks = []
    for training in trainings:
        near = _find_near(fingerprints, training)
        for place, frame in enumerate(frames):
            sources = training.patients.get(_hash_patient(frame), frozenset())
            if sources and ("" in sources or not frame.source or frame.source in sources):
                name = frame.patient_id or frame.pair_id or ""
                leaks.append(Leak(frame, training.by, name.strip()))
            elif fingerprints[place].pixels in training.pixels or place in near:
                leaks.append(Leak(frame, training.by, None))
    return leaks


def describe_leaks(leaks: Sequence[Leak], num_frames: int) -> str:
    """One line: how many frames of how many, of which patients, or which frames."""
    by = " and ".join(dict.fromkeys(leak.by for leak in leaks))
    patients = list(dict.fromkeys(leak.patient for leak in leaks if leak.patient))
    names = list(dict.fromkeys(leak.frame.file_name for leak in leaks if not leak.patient))
    num_leaks = len({leak.frame.file_name for leak in leaks})
    parts = [f"{len(patients)} patients ({_name_some(patients)})"] if patients else []
    parts += [f"{len(names)} by their pixels ({_name_some(names)})"] if names else []
    return f"{num_leaks} of {num_frames} frames were trained on ({by}): {', '.join(parts)}"


def _find_near(fingerprints: Sequence[Fingerprint], training: TrainedOn) -> set[int]:
    """Places of images that nearly repeat one of the training: saved as JPEG, brighter, resized."""
    num_trained = len(training.sketches)
    sketches = [*training.sketches, *(one.sketch for one in fingerprints)]
    homes = [(int(place >= num_trained), -1) for place in range(len(sketches))]
    return {double.later - num_trained for double in find_near(sketches, homes, RADIUS)}


def _hash_patient(frame: Frame) -> str:
    """Hash of who is shown; "" where no column says it: a file name tells nothing elsewhere."""
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
        # By its own white level: the file of one frame may lie in sets of different brightness.
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
