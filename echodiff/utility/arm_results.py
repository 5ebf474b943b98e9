"""Test a trained network on the test frames, and keep what it did frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label, Phase, View
from echodiff.data.reference import RealFrames
from echodiff.data.splits import patient_of
from echodiff.documents import Kinds, read_record
from echodiff.files import write_json_atomic
from echodiff.fingerprints import compute_fingerprint
from echodiff.frames.reader import hash_frames
from echodiff.frames.rows import Frame
from echodiff.segmentation.agreement import measure_agreement
from echodiff.segmentation.overlap import MEASURES
from echodiff.segmentation.reader import MaskReader
from echodiff.utility.ejection import VIEWS, compute_ejection_fraction

Array = NDArray[np.float64]
Mask = NDArray[np.uint8]
_KINDS: Kinds = {"unit": str, "values": list[list[Any]], "ejection": dict[str, list[Any]]}


@dataclass(frozen=True)
class ArmResult:
    """What one trained network did on the test frames."""

    values: Array
    """(N, L, 3) columns of `compute_overlap` for each test frame and label, NaN for a label that
    its mask does not have."""
    unit: str
    """Of distances: mm or px."""
    ejection: Mapping[str, tuple[float | None, float | None]]
    """Ejection fraction of a patient in per cent: by the network's masks, by the true ones."""


def measure_network(
    reader: MaskReader,
    test: RealFrames,
    labels: Sequence[Label],
    path: Path,
    *,
    white_level: int | None,
) -> None:
    """Test a network, and write what it did to `path`."""
    masks: dict[str, list[dict[tuple[View, Phase], tuple[Mask, float]]]] = {}
    has_spacing = all(frame.spacing_mm for frame in test.frames)

    def keep(frame: Frame, found: Mask, truth: Mask) -> None:
        if frame.view in VIEWS and frame.phase in set(Phase):
            place = View(str(frame.view)), Phase(str(frame.phase))
            pixel = float(frame.spacing_mm or 1.0) if has_spacing else 1.0
            both = masks.setdefault(patient_of(frame), [{}, {}])
            for own, mask in zip(both, (found, truth), strict=True):
                own.setdefault(place, (mask, pixel))

    agreement = measure_agreement(
        test.folder, test.frames, reader, white_level=white_level, callback=keep
    )
    assert agreement is not None
    values = np.full((len(test.frames), len(labels), len(MEASURES)), np.nan)
    for place, label in enumerate(labels):
        if label in agreement.labels:
            values[:, place] = agreement.values[:, agreement.labels.index(label)]
    ejection = {
        patient: (compute_ejection_fraction(both[0]), truth)
        for patient, both in masks.items()
        if (truth := compute_ejection_fraction(both[1])) is not None
    }
    write_json_atomic(path, {
        "unit": agreement.unit,
        "values": [[[None if np.isnan(v) else round(v, 6) for v in row] for row in frame]
                   for frame in values.tolist()],
        "ejection": ejection,
    })  # fmt: skip


def fingerprint_test(test: RealFrames, labels: Sequence[Label]) -> str:
    """What decides the result of a network besides the network."""
    facts = [[frame.spacing_mm, frame.view, frame.phase] for frame in test.frames]
    hashes = hash_frames(test.folder, test.frames, has_masks=True)
    return compute_fingerprint({"frames": hashes, "facts": facts, "labels": [*labels]})[:16]


def load_result(path: Path) -> ArmResult:
    """Read what `measure_network` wrote."""
    record = read_record(path, _KINDS)
    values = np.array(record["values"], np.float64)
    ejection = {name: (found, truth) for name, (found, truth) in record["ejection"].items()}
    return ArmResult(values, record["unit"], ejection)
