"""Read a DICOM segmentation (SEG) of one image as label numbers."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.errors import InputError

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
"""SOP class of the files that are read."""
HALF = 0.5
"""Share of the largest value from which a pixel of a fractional segment belongs to it."""


def read_segments(path: Path) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Read a SEG as (H, W) segment numbers, 0 outside, with the name of each segment.

    Where segments overlap, the later one counts. InputError for a file that is none, and for one of
    several images: a mask belongs to one.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        data = dcmread(path)
        if data.get("SOPClassUID") != SEG:
            raise InputError(f"{path}: a DICOM file, but not a segmentation (SEG)")
        frames = np.asarray(data.pixel_array)
        frames = frames[None] if frames.ndim == 2 else frames
        names = {int(one.SegmentNumber): str(one.SegmentLabel) for one in data.SegmentSequence}
        groups = data.PerFrameFunctionalGroupsSequence
        numbers = [
            int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for one in groups
        ]
    except (InvalidDicomError, AttributeError, IndexError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable DICOM segmentation ({error})") from error
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{path}: segments several images; save the mask of each as a file")
    if len(numbers) != len(frames) or set(numbers) - set(names):
        raise InputError(f"{path}: its {len(frames)} frames do not match its segments")
    largest = float(data.get("MaximumFractionalValue", 1) or 1)
    mask = np.zeros(frames.shape[1:], np.int64)
    for number, frame in zip(numbers, frames, strict=True):
        mask[frame >= HALF * largest] = number
    return mask, names


def name_segments(names: dict[int, str], path: Path) -> dict[int, Label]:
    """Return the `Label` of each segment by its name, such as `LV`; InputError for other names."""
    table = {0: Label.BACKGROUND}
    for number, name in names.items():
        key = "_".join(name.upper().split())
        if key not in Label.__members__:
            raise InputError(
                f"{path}: segment {number} is named {name!r}; --mask-labels {number}=NAME says "
                f"what it is, one of {', '.join(Label.__members__)}"
            )
        table[number] = Label[key]
    return table
