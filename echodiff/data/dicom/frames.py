"""List the frames of MR files: one in a single-frame file, many in a multi-frame file.

Multi-frame files (enhanced and legacy converted) describe each frame in functional groups, with
the attributes that a single-frame file has at top level (DICOM PS3.3 C.7.6.16).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from echodiff.data.dicom.files import read_number, read_pixel_tags
from echodiff.errors import InputError

_LISTED = """
AcquisitionNumber BitsStored EchoNumbers EchoTime ImageOrientationPatient ImagePositionPatient
ImageType InstanceNumber PhotometricInterpretation PixelPaddingRangeLimit PixelPaddingValue
PixelRepresentation PixelSpacing RescaleIntercept RescaleSlope SliceLocation SliceThickness
TemporalPositionIdentifier TriggerTime WindowCenter WindowWidth
"""
_NEEDED = frozenset(_LISTED.split())
"""Tags that are read of a frame."""
_PLAIN: Mapping[str, str] = {
    "EffectiveEchoTime": "EchoTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameType": "ImageType",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
"""Tags of functional groups that say what another tag says in a plain file."""
_LEAST_LAST = np.finfo(float).max


class Place(NamedTuple):
    """Position and time of a frame, and the attributes that decide which frames belong together."""

    frame: int
    """Index in its file."""
    kind: tuple[str, ...]
    """Image type, echo, polarity and size: frames of one cine have the same."""
    acquisition: str
    position_mm: tuple[float, ...] | None
    """Of the first pixel, towards left, back and head; None where the file does not say."""
    axes: tuple[float, ...] | None
    """Directions of rows and columns."""
    thickness_mm: float | None
    time_ms: float | None
    """Since the R wave."""
    order: tuple[float, ...]
    """What orders frames that have no times."""


def list_frames(tags: Any) -> list[Any]:
    """Return one dataset per frame, with the tags that a single-frame file would have.

    InputError if the number of functional groups differs from the number of frames.
    """
    num_frames = read_pixel_tags(tags).frames
    shared = tags.get("SharedFunctionalGroupsSequence") or []
    own = tags.get("PerFrameFunctionalGroupsSequence") or []
    if num_frames == 1 and not own:
        return [tags]
    if own and len(own) != num_frames:
        raise InputError(f"holds {num_frames} frames but describes {len(own)}")
    locations = tags.get("SliceLocationVector") or []
    frames = []
    for index in range(num_frames):
        frame = Dataset()
        _take(frame, tags)
        for group in (*shared[:1], *own[index : index + 1]):
            for element in group:
                if element.VR == "SQ" and element.value:
                    _take(frame, element.value[0])
        if isinstance(locations, Sequence) and len(locations) == num_frames:
            frame.SliceLocation = locations[index]
        frames.append(frame)
    return frames


def place_frames(tags: Any) -> tuple[Place, ...]:
    """Return position and time of the frames of a file."""
    return tuple(_place(index, tags, frame) for index, frame in enumerate(list_frames(tags)))


def _take(frame: Dataset, tags: Any) -> None:
    """Copy the needed tags into those of a frame, replacing what it has."""
    for element in tags:
        keyword = _PLAIN.get(element.keyword, element.keyword)
        if keyword in _NEEDED and not element.is_empty:
            setattr(frame, keyword, element.value)


def _place(index: int, tags: Any, frame: Any) -> Place:
    position = _read_numbers(frame, "ImagePositionPatient", 3)
    axes = _read_numbers(frame, "ImageOrientationPatient", 6)
    location = read_number(frame, "SliceLocation")
    if position is None and location is not None:
        position = (0.0, 0.0, location)
    image_type = frame.get("ImageType") or ()
    echo_ms = read_number(frame, "EchoTime")
    words = [image_type] if isinstance(image_type, str) else image_type
    order = (read_number(frame, "TemporalPositionIdentifier"), read_number(frame, "InstanceNumber"))
    return Place(
        frame=index,
        kind=(
            "\\".join(map(str, words)),
            str(frame.get("EchoNumbers") or ""),
            "" if echo_ms is None else f"{echo_ms:.1f}",
            str(tags.get("PhotometricInterpretation")),
            f"{tags.get('Rows')} x {tags.get('Columns')}",
        ),
        acquisition=str(frame.get("AcquisitionNumber") or ""),
        position_mm=position,
        axes=axes,
        thickness_mm=read_number(frame, "SliceThickness"),
        time_ms=read_number(frame, "TriggerTime"),
        order=(*(_LEAST_LAST if part is None else part for part in order), index),
    )


def _read_numbers(tags: Any, name: str, count: int) -> tuple[float, ...] | None:
    """Read a tag of several numbers; None if it is missing or implausible."""
    values = tags.get(name)
    if values is None or isinstance(values, str | float | int) or len(values) != count:
        return None
    numbers = tuple(float(value) for value in values)
    return numbers if np.isfinite(numbers).all() else None
