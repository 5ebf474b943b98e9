"""Recognise B-mode, colour Doppler, spectra and M-mode by the tags of an ultrasound file.

Codes are those of DICOM PS3.3 C.8.5.5.1 (regions) and C.8.5.6.1.1 (Image Type, value 4).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

PICTURE, M_MODE, SPECTRUM = 1, 2, 3
"""Region Spatial Format."""
TISSUE, COLOUR_FLOW = 1, 2
"""Region Data Type of an image."""
SPECTRA = frozenset({3, 4})
"""Region Data Type of pulsed and continuous wave."""
_COLOUR_BITS, _SPECTRUM_BITS, _M_MODE_BITS = 0x0110, 0x000C, 0x0022

COLOUR_DOPPLER, SPECTRAL_DOPPLER, OTHER = (
    "colour Doppler",
    "spectral Doppler",
    "ultrasound other than B-mode",
)
"""Why a file is skipped."""

COLOURED = 40
"""Difference between two channels above which a pixel is coloured."""
TINTED = 0.9
"""Share of coloured among bright pixels above which an image may be tinted, without flow."""
MOST_TINT = 0.8
"""Saturation, 0 to 1, below which a colour may be a tint; that of flow is higher."""
LEAST_FLOW = 0.005
"""Smallest share of the image that patches of colour cover if there is flow; letters, lines and
markers do not count as patches."""
_PATCH = np.ones((5, 5), dtype=bool)


def list_regions(tags: Any, *, with_doppler: bool) -> list[Any]:
    """List the regions with an image.

    with_doppler: include colour flow, and spectra if there is nothing else.
    """
    regions = tags.get("SequenceOfUltrasoundRegions") or ()
    pictures = [
        region
        for region in regions
        if region.get("RegionSpatialFormat") == PICTURE
        and (with_doppler or region.get("RegionDataType") != COLOUR_FLOW)
    ]
    if with_doppler and not pictures:
        return [region for region in regions if is_spectrum(region)]
    return pictures


def is_spectrum(region: Any) -> bool:
    is_trace = region.get("RegionSpatialFormat") == SPECTRUM
    return is_trace or region.get("RegionDataType") in SPECTRA


def find_reason(tags: Any, *, with_doppler: bool) -> str | None:
    """Return why the tags exclude a file, or None."""
    regions = tags.get("SequenceOfUltrasoundRegions") or ()
    if regions and not list_regions(tags, with_doppler=True):
        return OTHER
    if with_doppler:
        return None
    bits = _read_bits(tags)
    if any(is_spectrum(region) for region in regions) or bits & _SPECTRUM_BITS:
        return SPECTRAL_DOPPLER
    if has_colour_flow(regions) or bits & _COLOUR_BITS:
        return COLOUR_DOPPLER
    if bits & _M_MODE_BITS or any(r.get("RegionSpatialFormat") == M_MODE for r in regions):
        return OTHER
    says_tissue = any(region.get("RegionDataType") == TISSUE for region in regions)
    if tags.get("UltrasoundColorDataPresent") == 1 and not says_tissue:
        return COLOUR_DOPPLER
    return None


def has_colour_flow(regions: Sequence[Any]) -> bool:
    """Whether colour flow lies over the tissue; a region next to it is a B-mode image."""
    pictures = [region for region in regions if region.get("RegionSpatialFormat") == PICTURE]
    flow = [region for region in pictures if region.get("RegionDataType") == COLOUR_FLOW]
    tissue = [region for region in pictures if region.get("RegionDataType") != COLOUR_FLOW]
    return bool(flow) and (
        not tissue or any(do_overlap(one, other) for one in flow for other in tissue)
    )


def do_overlap(one: Any, other: Any) -> bool:
    """Whether two regions share pixels."""
    for axis in ("X", "Y"):
        ends = [
            (r.get(f"RegionLocationMin{axis}0", 0), r.get(f"RegionLocationMax{axis}1", 0))
            for r in (one, other)
        ]
        if ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]:
            return False
    return True


def shows_flow(frames: Iterable[NDArray[np.uint8]]) -> bool:
    """Whether any of the frames (H, W, 3) has patches of colour and grey tissue."""
    for rgb in frames:
        coloured = np.ptp(rgb, axis=-1) > COLOURED
        lit = rgb.max(axis=-1) > COLOURED
        if coloured.sum() > TINTED * lit.sum():
            colour = rgb[coloured].astype(np.float32)
            if np.median(np.ptp(colour, axis=-1) / colour.max(axis=-1)) < MOST_TINT:
                continue
        if ndimage.binary_opening(coloured, structure=_PATCH).mean() > LEAST_FLOW:
            return True
    return False


def _read_bits(tags: Any) -> int:
    """Read value 4 of Image Type, four hexadecimal digits with one bit per mode; 0 if missing."""
    words = tags.get("ImageType")
    if words is None or isinstance(words, str) or len(words) < 4:
        return 0
    try:
        return int(str(words[3]), 16)
    except ValueError:
        return 0
