"""Parts of a data set: the cases on disk, and the shots in them.

A case is the smallest unit that can be bad by itself: a clip, a volume, an image. Listing cases
reads no pixels; a worker process opens one case at a time and yields its shots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray


class LeftOut(Exception):  # noqa: N818 - not an error
    """Raised by a reader for a valid case that is not wanted; the argument is its kind, such as
    "colour Doppler". Such cases are counted and reported, but are not bad files."""


Facts = Mapping[str, str | float]
"""Known facts about a patient or an image, by the names in `FACTS`."""

FACTS = {
    "ef": "left-ventricular ejection fraction, per cent",
    "edv_ml": "left-ventricular volume at end of diastole, ml",
    "esv_ml": "left-ventricular volume at end of systole, ml",
    "pathology": "diagnosis in the data set's words",
    "quality": "image quality in the data set's words",
    "sex": "F or M",
    "age_years": "age in years; above 89 it is written as 90",
    "height_cm": "height, cm",
    "weight_kg": "weight, kg",
    "centre": "hospital, as the data set numbers them",
    "time_ms": "time of the frame since the first of its clip (MR: since the R wave), ms",
    "frame_time_ms": "time from one frame of the clip or cine to the next, ms",
    "slice": "place in a stack of slices: basal, mid-ventricular or apical",
}
"""Facts that a loader may state. They become columns of the row and words of the caption."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One clip, volume or image of a data set."""

    name: str
    """Unique; what its frames are called begins with it. Letters, digits, `-`, `_` and `.` only."""
    path: Path
    """File that an error message names."""
    patient_id: str | None
    """None if unknown; the case then counts as a separate patient."""
    extra_paths: tuple[Path, ...] = ()
    """Files besides `path` that its pixels come from."""
    alias: str = ""
    """Its file's name as a table of captions knows it; it then means this case and no other."""
    split: str | None = None
    """train, val or test, where the data set itself says so."""
    view: str | None = None
    vendor: str | None = None
    facts: Facts = field(default_factory=dict)
    where: Any = None
    """What the loader needs to find the pixels again; picklable and small."""
    problem: str | None = None
    """Why the case is known to be bad before it is opened."""

    @property
    def person(self) -> str:
        """Patient key used for splitting."""
        return self.patient_id or self.name


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One frame of a case as the loader reads it."""

    name: str
    """Unique within the case, such as ED or frame-0012; empty if the case has one image."""
    image_u8: NDArray[np.uint8]
    """(H, W) or (H, W, 3), row 0 at the transducer (MR and CT: anterior, as on a viewer's screen).
    """
    mask_u8: NDArray[np.uint8] | None = None
    """(H, W) of `Label` values."""
    view: str | None = None
    """Where the case does not say."""
    phase: str | None = None
    spacing_mm: tuple[float, float] | None = None
    """Height and width of a pixel."""
    facts: Facts = field(default_factory=dict)
    """Besides those of the case."""
    burned_text: str = ""
    """`removed` or `kept` where text was found in the pixels."""
    preview_u8: NDArray[np.uint8] | None = None
    """Where something was cut: before and after, small, (2, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set as found on disk."""

    name: str
    """`source` of its rows."""
    card: str
    """Name of its card in `data_cards/`."""
    modality: str
    cases: Sequence[Case]
    read: Callable[[Case], Iterable[Shot]]
    """Opens one case in a worker process; InputError where it is bad."""
    listings: Sequence[Path] = ()
    """Tables that the cases were listed from, besides their own files."""
    white_level: int | None = None
    """Grey value of its files of more than 8 bits that becomes white; None where it has none."""
    is_clean: bool = False
    """Whether `read` itself deals with text, sector and Doppler, as that of DICOM files does."""
    folder: str = ""
    """Subfolder of --out for its frames; empty: --out itself."""
    finish: Callable[[Path], None] | None = None
    """Called with the finished frames folder."""
    captions: str | None = None
    """Template for this data set; None for the one all share."""
    beside: Sequence[str] = ()
    """Names of files that its command writes into the frames folder besides."""


Config = TypeVar("Config")


class Source(NamedTuple, Generic[Config]):
    """One `echodiff prepare NAME`: the `SOURCE` of its module."""

    config: type[Config]
    find: Callable[[Config], DataSet | Sequence[DataSet]]
    """Lists the cases under `src`; InputError where there are none."""
