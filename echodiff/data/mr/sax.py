"""Read short-axis stacks of cine MR as slices, for the ACDC and M&Ms loaders."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.data.records import Case, Shot
from echodiff.data.volume_files import Volume, read_volume
from echodiff.data.volumes import find_turn, lay_out, lay_out_spacing, read_mask
from echodiff.errors import InputError

WINDOW = (0.5, 99.5)
"""Percentiles of all voxels of a patient that become black and white. MR values have no unit, and
slices with a window each could not be compared."""
CAPTION = (
    "{pathology}, {ef}, {chambers} visible, {view}, {slice} slice, {phase}, cine {picture}, {age}, "
    "{vendor} scanner"
)
"""Default template. It lacks `lv_shape` and `la_size`: the left ventricle is always round in short
axis, and atria are not labelled."""
THICKER = 1.5
"""Ratio to the spacing along the last axis from which another axis is that of the slices."""
SPACING_MM = (0.05, 50.0)
"""Smallest and largest plausible spacing of a cine MR of a heart."""
THIRDS = ("basal", "mid-ventricular", "apical")


class Stack(NamedTuple):
    """The files of one phase of a patient."""

    image: Path
    mask: Path | None = None
    time: int | None = None
    """Index of the phase in files with a time axis; None for files of this phase only."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.image,) if self.mask is None else (self.image, self.mask)


def read_sax(case: Case, *, table: Mapping[int, Label]) -> Iterator[Shot]:
    """Yield every slice of every phase.

    case.where: {phase: Stack}. table: meaning of the mask's numbers. Slices are counted from 0 in
    the order of the file, as nibabel returns them. Volumes and ejection fraction are sums over the
    slices of the masks.
    """
    stacks: dict[str, Stack] = case.where
    volumes = {phase: read_stack(stack) for phase, stack in stacks.items()}
    masks = {
        phase: read_stack_mask(stack, volumes[phase], table)
        for phase, stack in stacks.items()
        if stack.mask is not None
    }
    masks = {phase: put_slices_last(mask, volumes[phase])[0] for phase, mask in masks.items()}
    volumes = {
        phase: Volume(*put_slices_last(volume.values, volume)) for phase, volume in volumes.items()
    }
    facts = measure_lv(masks, {phase: volume.spacing_mm for phase, volume in volumes.items()})
    places = {phase: name_places(mask, [*masks.values()]) for phase, mask in masks.items()}
    low, high = find_window([volume.values for volume in volumes.values()], case.path)
    for phase, volume in volumes.items():
        try:
            turn = find_turn(volume.affine)
        except InputError as error:
            raise InputError(f"{stacks[phase].image}: {error}") from error
        images_u8 = lay_out(to_u8(volume.values, low, high), turn)
        masks_u8 = lay_out(masks[phase], turn) if phase in masks else None
        for number in range(images_u8.shape[2]):
            place = places[phase][number] if phase in places else None
            yield Shot(
                name=f"{phase}-slice{number:02d}",
                image_u8=images_u8[:, :, number],
                mask_u8=None if masks_u8 is None else masks_u8[:, :, number],
                phase=phase,
                spacing_mm=lay_out_spacing(volume.spacing_mm, turn),
                facts=facts if place is None else {**facts, "slice": place},
            )


def read_stack(stack: Stack) -> Volume:
    """Read the grey values (X, Y, Z) of a stack."""
    volume = read_volume(stack.image, times=None if stack.time is None else (stack.time,))
    values = volume.values if stack.time is None else volume.values[..., 0]
    if values.ndim != 3:
        raise InputError(
            f"{stack.image}: expected a stack of slices, got an array of shape {values.shape}"
        )
    if not all(SPACING_MM[0] <= side <= SPACING_MM[1] for side in volume.spacing_mm):
        raise InputError(f"{stack.image}: its header gives a spacing of {volume.spacing_mm} mm")
    if volume.affine is not None and (volume.affine == np.eye(4)).all():
        raise InputError(f"{stack.image}: its affine is the identity: the scanner's was lost")
    return volume._replace(values=values)


def put_slices_last(
    values: NDArray[Any], volume: Volume
) -> tuple[NDArray[Any], tuple[float, ...], NDArray[np.float64] | None]:
    """Return values, spacing and affine, as in `Volume`, with the slices along the last axis.

    The axis of the slices is the one with the largest spacing. It is not the last one if a program
    has saved an oblique stack in canonical order.
    """
    order = [0, 1, 2]
    thickest = int(np.argmax(volume.spacing_mm))
    if volume.spacing_mm[thickest] > THICKER * volume.spacing_mm[2]:
        order = [axis for axis in order if axis != thickest] + [thickest]
    affine = None if volume.affine is None else volume.affine[:, [*order, 3]]
    return values.transpose(order), tuple(volume.spacing_mm[axis] for axis in order), affine


def read_stack_mask(stack: Stack, volume: Volume, table: Mapping[int, Label]) -> NDArray[np.uint8]:
    """Read the mask of a stack as `Label` values (X, Y, Z)."""
    assert stack.mask is not None
    times = None if stack.time is None else (stack.time,)
    mask = read_mask(stack.mask, table, image=volume, times=times)
    mask = mask if stack.time is None else mask[..., 0]
    if not mask.any():
        # Typical if frames are counted from the wrong number.
        where = "" if stack.time is None else f" in frame {stack.time}"
        raise InputError(f"{stack.mask}: nothing is labelled{where}")
    return mask


def measure_lv(
    masks: Mapping[str, NDArray[np.uint8]], spacing_mm: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Compute LV volumes in ml and ejection fraction in per cent, if both phases show the LV."""
    ml = {
        phase: float((mask == Label.LV).sum() * np.prod(spacing_mm[phase])) / 1000
        for phase, mask in masks.items()
    }
    if not (ml.get("ED") and ml.get("ES")):
        return {}
    facts = {"edv_ml": round(ml["ED"], 1), "esv_ml": round(ml["ES"], 1)}
    ef = 100 * (1 - ml["ES"] / ml["ED"])
    return facts | {"ef": round(ef, 1)} if ef > 0 else facts


def name_places(
    mask: NDArray[np.uint8], all_masks: Sequence[NDArray[np.uint8]]
) -> list[str | None]:
    """Name each slice basal, mid-ventricular or apical, by thirds of those with LV; else None.

    Files run from base to apex or the other way, and their headers are unreliable. The base is the
    end at which the heart is wider, over all phases.
    """
    held = np.flatnonzero((mask == Label.LV).any(axis=(0, 1)))
    places: list[str | None] = [None] * mask.shape[2]
    widths = sum((other != Label.BACKGROUND).sum(axis=(0, 1)) for other in all_masks)[held]
    half = len(held) // 2
    ordered = held if widths[:half].sum() >= widths[len(held) - half :].sum() else held[::-1]
    for rank, number in enumerate(ordered.tolist()):
        places[number] = THIRDS[int(3 * (rank + 0.5) / len(held))]
    return places


def find_window(stacks: Sequence[NDArray[Any]], place: Path) -> tuple[float, float]:
    """Choose the grey values that become black and white."""
    low, high = np.percentile(np.concatenate([stack.ravel() for stack in stacks]), WINDOW)
    if not low < high:
        raise InputError(f"{place}: all grey values are the same")
    return float(low), float(high)


def to_u8(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map grey values to 0..255, clipped to the window."""
    share = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.asarray(np.rint(share * 255), dtype=np.uint8)
