"""Score `intact`: the share of frames whose anatomy meets all criteria, and each criterion.

A segmenter labels every frame, `criteria` judges the labels. The same on reference frames says how
far to trust it; where those fail too, they are not of the kind that the segmenter was trained on,
and there is no score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding, View
from echodiff.captions.findings import findings_in
from echodiff.captions.views import is_child_in, view_in
from echodiff.frames.rows import Frame
from echodiff.images import resize_u8
from echodiff.metrics.criteria import (
    LIMITS,
    Box,
    Criterion,
    Expected,
    Fault,
    find_faults,
    find_scan,
    list_criteria,
)
from echodiff.metrics.faithfulness import Estimate, compute_difference, compute_share
from echodiff.metrics.score import Score, by_name
from echodiff.metrics.score_name import Kind

KNOWN_KIND = 0.9
"""Where certainly fewer of the reference frames are intact, the segmenter does not know them."""
FALL = 0.05
"""Fall below the reference that is an alarm."""
_VIEWS = {view for view, _ in LIMITS}


class Reader(Protocol):
    """A segmenter (see `segmenter.Segmenter`)."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def resize(self) -> str: ...
    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Labels (N, S, S) of square images."""


@dataclass(frozen=True)
class Judged:
    """The anatomy of one frame."""

    criteria: tuple[Criterion, ...] = ()
    """Those that apply to it."""
    faults: tuple[Fault, ...] = ()
    """Boxes are in pixels of the image."""
    not_measured: str = ""
    """Why no criterion applies, in words."""

    @property
    def is_measured(self) -> bool:
        return not self.not_measured

    def fails(self, criterion: Criterion) -> bool:
        return any(fault.criterion is criterion for fault in self.faults)


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of the frames of one set."""

    frames: tuple[Judged, ...]
    source: Reader

    @property
    def measured(self) -> list[Judged]:
        return [frame for frame in self.frames if frame.is_measured]

    @property
    def reasons(self) -> dict[str, int]:
        """How many frames are not measured, by reason."""
        return dict(Counter(one.not_measured for one in self.frames if not one.is_measured))

    @property
    def whole(self) -> Estimate | None:
        """Share of frames that meet all criteria that apply to them."""
        return _share([not frame.faults for frame in self.measured])

    def share(self, criterion: Criterion) -> Estimate | None:
        measured = [frame for frame in self.measured if criterion in frame.criteria]
        return _share([not frame.fails(criterion) for frame in measured])


def describe_expected(row: Frame | None) -> Expected | str:
    """What a frame should show, by its row; in words why no criterion applies to it."""
    if row is None:
        return "no row in metadata.jsonl"
    if row.modality not in (None, "echo"):
        return f"modality {row.modality}"
    text = row.text if row.prompt is None else row.prompt
    view = row.view or view_in(text)
    if view is None:
        return "view unknown"
    if view not in _VIEWS:
        return f"view {view}"
    findings = None
    if row.prompt is None and row.findings is not None:
        findings = frozenset(Finding(name) for name in row.findings if name in set(Finding))
    elif text.strip():
        findings = findings_in(text)
    return Expected(View(view), is_child_in(text), findings)


def judge_frames(
    images_u8: Sequence[NDArray[np.uint8]], rows: Sequence[Frame | None], segmenter: Reader
) -> list[Judged]:
    """Judge grey images (H, W), padded to squares, by what their rows say they show."""
    expected = [describe_expected(row) for row in rows]
    known = [i for i, one in enumerate(expected) if isinstance(one, Expected)]
    labels = (
        dict(zip(known, segmenter([images_u8[i] for i in known]), strict=True)) if known else {}
    )
    judged = []
    for number, one in enumerate(expected):
        if isinstance(one, str):
            judged.append(Judged(not_measured=one))
            continue
        image, found = images_u8[number], labels[number]
        scan = find_scan(resize_u8(image, found.shape) if image.shape != found.shape else image)
        scale = len(image) / len(found)
        faults = tuple(
            Fault(fault.criterion, fault.reason, _scale(fault.box, scale))
            for fault in find_faults(found, scan, one)
        )
        judged.append(Judged(list_criteria(one), faults))
    return judged


def score_anatomy(
    generated: Anatomy, reference: Anatomy
) -> tuple[dict[str, Score], dict[str, str], list[str]]:
    """`intact` and `intact_<criterion>`, what was left out, alarms."""
    name = str(Kind.INTACT)
    whole, real = generated.whole, reference.whole
    if reason := explain_unmeasured(generated, reference):
        return {}, {name: reason}, []
    assert whole is not None
    broken = [n for n, one in enumerate(generated.frames) if one.faults]
    scores = [_score("", whole, real, generated, reference, broken, generated.measured,
                     reference.measured)]  # fmt: skip
    for criterion in Criterion:
        share = generated.share(criterion)
        if share is None:
            continue
        failed = [n for n, one in enumerate(generated.frames) if one.fails(criterion)]
        applied = [
            [one for one in side.frames if criterion in one.criteria]
            for side in (generated, reference)
        ]
        scores.append(_score(criterion, share, reference.share(criterion), generated, reference,
                             failed, *applied))  # fmt: skip
    alarms = []
    if real is not None and whole.value < real.value - FALL:
        faults = Counter(f.criterion for one in generated.frames for f in one.faults)
        named = ", ".join(f"{c.replace('_', ' ')} {num}" for c, num in faults.most_common(3))
        alarms.append(
            f"broken hearts: {len(broken)} of {whole.num} generated frames ({named}); intact are "
            f"{100 * whole.value:.0f} %, of the reference {100 * real.value:.0f} %"
        )
    return by_name(scores), {}, alarms


def explain_unmeasured(generated: Anatomy, reference: Anatomy) -> str | None:
    """Why there is no score; None where there is one."""
    for title, side in (("generated", generated), ("reference", reference)):
        if not side.measured:
            told = ", ".join(f"{reason} ({num})" for reason, num in side.reasons.items())
            return f"no {title} frame can be judged: {told}"
    real = reference.whole
    if real is not None and real.high < KNOWN_KIND:
        return (
            f"the segmenter does not know frames of this kind: of {real.num} reference frames it "
            f"calls {100 * real.value:.0f} % intact"
        )
    return None


def describe_broken(generated: Anatomy, reference: Anatomy, names: Sequence[str]) -> dict[str, Any]:
    """`anatomy` of metrics.json. names: file of each generated frame."""
    broken: list[dict[str, Any]] = []
    if explain_unmeasured(generated, reference) is None:
        broken = [
            {
                "row": number,
                "file_name": name,
                "faults": [
                    {"criterion": str(f.criterion), "reason": f.reason, "box": list(f.box)}
                    for f in one.faults
                ],
            }
            for number, (one, name) in enumerate(zip(generated.frames, names, strict=True))
            if one.faults
        ]
    return {
        "segmenter": generated.source.name,
        "segmenter_sha256": generated.source.sha256,
        "num": len(generated.measured),
        "num_reference": len(reference.measured),
        "not_measured": generated.reasons,
        "not_measured_reference": reference.reasons,
        "broken": broken,
    }


def compare_anatomy(first: Anatomy, second: Anatomy, reference: Anatomy) -> dict[str, Score]:
    """`intact_gain`: second minus first; nothing where either has no score."""
    then, now = first.whole, second.whole
    unmeasured = [explain_unmeasured(one, reference) for one in (first, second)]
    if any(unmeasured) or then is None or now is None:
        return {}
    gain = compute_difference(now, then)
    return by_name([Score.of_anatomy_gain(gain, second.source, then, now)])


def _score(
    criterion: str, share: Estimate, real: Estimate | None, generated: Anatomy,
    reference: Anatomy, failed: Sequence[int], ours: Sequence[Judged], theirs: Sequence[Judged],
) -> Score:  # fmt: skip
    without = len(generated.frames) - len(ours), len(reference.frames) - len(theirs)
    return Score.of_anatomy(
        criterion, share, generated.source, real, num_without=without, frames=failed
    )


def _share(is_met: Sequence[bool]) -> Estimate | None:
    return compute_share(sum(is_met), len(is_met)) if is_met else None


def _scale(box: Box, scale: float) -> Box:
    left, top, right, bottom = (round(side * scale) for side in box)
    return left, top, max(right, left + 1), max(bottom, top + 1)
