"""Read the headers of DICOM files: their series, their patient, their identifying tags."""

import os
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    MRSpectroscopyStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from echodiff.data.dicom.files import (
    MOST_VALUES,
    check_size,
    has_preamble,
    iter_frames,
    naming,
    read_number,
    read_tags,
)
from echodiff.data.dicom.frames import Place, place_frames
from echodiff.data.dicom.identifiers import list_tags
from echodiff.data.records import Facts
from echodiff.data.screens.doppler import COLOUR_DOPPLER, find_reason, shows_flow
from echodiff.data.screens.sector import find_region
from echodiff.errors import InputError

MODALITIES = {"US": "echo", "MR": "mr"}
"""DICOM modalities that are read, with their names in a frames folder."""
SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
"""A file with such a suffix that is not DICOM is reported as bad rather than ignored."""
PALETTE = "PALETTE COLOR"
SECONDARY_CAPTURES = frozenset(
    {SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage}
)
"""SOP classes of screen captures, such as a table of results."""
_LOCALISER = re.compile(r"locali[sz]er|scout|survey", re.IGNORECASE)
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Header of one file. Identifying tags are listed by name only, except for those that group
    files by patient and series, which are never written."""

    path: Path
    problem: str | None = None
    """Why the file is bad."""
    aside: str | None = None
    """Why a valid file is skipped."""
    modality: str = ""
    patient: str = ""
    series: tuple[str, ...] = ()
    """Patient, study and series."""
    places: tuple[Place, ...] = ()
    """Places of the frames; MR only."""
    instance: Hashable = None
    """Key that a copy of the file shares with it; None if it has none."""
    vendor: str | None = None
    facts: Facts = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    """Keywords of the tags that are identifying or kept."""


def list_files(src: Path) -> list[Path]:
    """List the DICOM files under a folder, each once; `src` itself if it is a file.

    Files with a DICOM suffix are listed whatever they hold. Links to folders are not followed, so
    that a cycle of links ends.
    """
    if not src.exists():
        raise InputError(f"{src}: no such file or folder")
    if src.is_file():
        return [src]
    paths: dict[Path, Path] = {}
    for parent, folders, names in os.walk(src):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and (path.suffix.lower() in SUFFIXES or _is_dicom(path)):
                paths.setdefault(path.resolve(), path)
    if not paths:
        raise InputError(f"{src}: no DICOM files")
    return sorted(paths.values(), key=natural_key)


def natural_key(path: Path) -> tuple[Any, ...]:
    """Sort key of a path that compares numbers as numbers: IM2 comes before IM10."""
    return tuple(
        tuple(
            ("", int(part), part) if part.isdecimal() else (part, 0, part)
            for part in re.split(r"(\d+)", word)
            if part
        )
        for word in path.parts
    )


def read_header(path: Path, *, with_doppler: bool = False) -> Header:
    """Read the header of a file; runs in a worker process."""
    try:
        tags = read_tags(path)
        with naming(path):
            return describe(path, tags, with_doppler=with_doppler)
    except InputError as error:
        return Header(path=path, problem=str(error))


def describe(path: Path, tags: Any, *, with_doppler: bool) -> Header:
    """Build the header of a file from its tags."""
    modality = MODALITIES.get(str(tags.get("Modality")), "")
    aside = find_reason_aside(path, tags, with_doppler=with_doppler)
    patient = str(tags.get("PatientID") or tags.get("StudyInstanceUID") or "")
    places = place_frames(tags) if modality == "mr" and aside is None else ()
    series = tags.get("SeriesInstanceUID") or f"{tags.get('SeriesNumber')} {path.parent}"
    instance = str(tags.get("SOPInstanceUID") or "")
    return Header(
        path=path,
        aside=aside,
        modality=modality,
        patient=patient,
        series=(
            *(str(tags.get(name) or "") for name in ("PatientID", "PatientName")),
            str(tags.get("StudyInstanceUID") or ""),
            str(series),
        ),
        places=places,
        # Some tools give all files one identifier: a copy has the rest in common too.
        instance=(instance, patient, tags.get("InstanceNumber"), tags.get("NumberOfFrames"), places)
        if instance
        else None,
        vendor=" ".join(str(tags.get("Manufacturer") or "").split()) or None,
        facts=describe_patient(tags),
        tags=list_tags(tags),
    )


def find_reason_aside(path: Path, tags: Any, *, with_doppler: bool) -> str | None:
    """Return the reason to skip a valid file, or None."""
    stated = str(tags.get("Modality") or "none")
    kind = UID(str(tags.get("SOPClassUID") or ""))
    if stated not in MODALITIES:
        return f"modality {stated}"
    if tags.get("Rows") is None:
        return f"{stated} without an image"
    if stated == "US":
        reason = find_reason(tags, with_doppler=with_doppler)
        if reason is None and not with_doppler and shows_colour_doppler(path, tags):
            return COLOUR_DOPPLER
        return reason
    if kind == MRSpectroscopyStorage:
        return "MR spectra"
    if kind in SECONDARY_CAPTURES or tags.get("SamplesPerPixel") == 3:
        return "MR screen shots"
    words = [*map(str, _listed(tags.get("ImageType"))), str(tags.get("SeriesDescription"))]
    if any(_LOCALISER.search(word) for word in words):
        return "MR localisers"
    return None


def shows_colour_doppler(path: Path, tags: Any) -> bool:
    """Whether a colour file shows flow that its tags do not mention. Three frames are examined,
    because flow comes and goes."""
    if tags.get("SamplesPerPixel") != 3 and tags.get("PhotometricInterpretation") != PALETTE:
        return False
    try:
        pixel = check_size(path, tags, every=MOST_VALUES)
        region = find_region(tags, (pixel.rows, pixel.columns))
    except InputError:
        return False  # reported when the file is read
    box = np.s_[region.top : region.bottom, region.left : region.right]
    indices = sorted({pixel.frames * part // 4 for part in (1, 2, 3)})
    return shows_flow(frame[box] for frame in iter_frames(path, tags, indices))


def describe_patient(tags: Any) -> Facts:
    """Return sex, age, height and weight, if present and plausible."""
    facts: dict[str, str | float] = {}
    if tags.get("PatientSex") in {"F", "M"}:
        facts["sex"] = str(tags.PatientSex)
    age = re.fullmatch(r"(\d{1,3})([YMWD])", str(tags.get("PatientAge") or ""))
    if age:
        facts["age_years"] = round(int(age[1]) * _YEARS[age[2]], 2)
    for name, fact, factor in (
        ("PatientSize", "height_cm", 100),
        ("PatientWeight", "weight_kg", 1),
    ):
        value = read_number(tags, name)
        if value is not None and value > 0:
            facts[fact] = round(value * factor, 1)
    return facts


def _listed(value: Any) -> Sequence[Any]:
    """Return the values of a tag, which may hold none, one or several."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            has_preamble(file)
    except OSError:
        return True  # reported as bad when it is opened again
    except InvalidDicomError:
        return False
    return True
