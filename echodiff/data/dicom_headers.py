"""What is read of DICOM files to list them: where each belongs, and what must stay behind."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from echodiff.config import InputError
from echodiff.data.cases import Facts
from echodiff.data.dicom_files import naming, read_number, read_pixel_tags, read_tags
from echodiff.data.identifiers import list_tags
from echodiff.data.sector import has_b_mode

MODALITIES = {"US": "echo", "MR": "mr"}
"""DICOM modalities that are read, and what they are called here."""
SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
"""A file named so that is no DICOM file is bad, rather than one of the others in the folder."""
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is read of a file to list it. Its identifiers are there by name alone, but for those
    that tell patients and series apart, and these go no further."""

    path: Path
    problem: str | None = None
    """Why the file is bad."""
    aside: str | None = None
    """Why the file is good and yet not for us."""
    modality: str = ""
    patient: str = ""
    series: tuple[str, str, float] = ("", "", 0.0)
    """UID, orientation and place of the slice."""
    order: tuple[float, float] = (0.0, 0.0)
    """Trigger time and number within the series."""
    vendor: str | None = None
    facts: Facts = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    """Keywords of tags that are identifying, or kept."""


def list_files(src: Path) -> list[Path]:
    """The file itself, or what is or should be a DICOM file under the folder, each once.

    Links to folders are not followed, so that a loop of them ends.
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
    return list(paths.values())


def read_header(path: Path) -> Header:
    """What is needed of a file to list it; runs in a worker process."""
    try:
        tags = read_tags(path)
        with naming(path):
            return describe(path, tags)
    except InputError as error:
        return Header(path=path, problem=str(error))


def describe(path: Path, tags: Any) -> Header:
    """Where a file belongs, whose it is, and what it holds that must stay behind."""
    stated = str(tags.get("Modality") or "none")
    modality = MODALITIES.get(stated, "")
    aside = None
    if not modality:
        aside = f"modality {stated}"
    elif tags.get("Rows") is None:
        aside = f"{stated} without a picture"
    elif modality == "echo" and not has_b_mode(tags):
        aside = "ultrasound other than B-mode"
    elif modality == "mr" and read_pixel_tags(tags).frames > 1:
        aside = "multi-frame MR (export it as one file a frame)"
    depth, orientation = find_slice(tags)
    trigger, instance = read_number(tags, "TriggerTime"), read_number(tags, "InstanceNumber")
    return Header(
        path=path,
        aside=aside,
        modality=modality,
        patient=str(tags.get("PatientID") or tags.get("StudyInstanceUID") or ""),
        series=(str(tags.get("SeriesInstanceUID") or path.parent), orientation, depth),
        order=(math.inf if trigger is None else trigger, instance or 0),
        vendor=" ".join(str(tags.get("Manufacturer") or "").split()) or None,
        facts=describe_patient(tags),
        tags=list_tags(tags),
    )


def find_slice(tags: Any) -> tuple[float, str]:
    """Place of an MR slice along its normal, in mm, and its orientation, both rounded."""
    place, axes = tags.get("ImagePositionPatient"), tags.get("ImageOrientationPatient")
    if not place or not axes or len(place) != 3 or len(axes) != 6:
        return 0.0, ""
    normal = np.cross(np.array(axes[:3], dtype=float), np.array(axes[3:], dtype=float))
    depth = float(normal @ np.array(place, dtype=float))
    return round(depth, 1), " ".join(f"{float(part):.2f}" for part in axes)


def describe_patient(tags: Any) -> Facts:
    """Sex, age, height and weight, where they are there and make sense."""
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


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True  # opened again, it is named as bad
