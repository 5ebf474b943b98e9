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
from echodiff.captions.findings import findings_possible_in
from echodiff.captions.views import is_child_in, view_in
from echodiff.frames.rows import Frame
from echodiff.images import resize_u8
from echodiff.metrics.criteria import (
    Box,
    Criterion,
    Expected,
    Fault,
    find_faults,
    find_scan,
    list_criteria,
)
from echodiff.metrics.faithfulness import Estimate, compute_difference, compute_share
from echodiff.metrics.limits import FALL, LIMITS
from echodiff.metrics.score import Score, Source, by_name
from echodiff.metrics.score_name import Kind

KNOWN_KIND = 0.9
"""Where certainly fewer of the reference frames are intact, the segmenter does not know them."""
MOST_OF_REFERENCE = 500
"""Most reference frames that are judged: their share need not be known better."""
NOT_IN_SAMPLE = "not in the sample"
_VIEWS = {view for view, _ in LIMITS}


class Reader(Source, Protocol):
    """A segmenter (see `segmenter.Segmenter`)."""

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

    def is_held_to(self, criterion: Criterion | None) -> bool:
        """Whether a criterion applies to it; None: any."""
        return bool(self.criteria) if criterion is None else criterion in self.criteria

    def fails(self, criterion: Criterion | None) -> bool:
        return any(criterion in (None, fault.criterion) for fault in self.faults)


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of the frames of one set."""

    frames: tuple[Judged, ...]
    source: Reader

    def count(self, criterion: Criterion | None = None) -> int:
        """Frames that a criterion applies to; None: all criteria together, as below."""
        return sum(frame.is_held_to(criterion) for frame in self.frames)

    def find_failing(self, criterion: Criterion | None = None) -> list[int]:
        """Row numbers of the frames that fail it."""
        return [number for number, frame in enumerate(self.frames) if frame.fails(criterion)]

    def share(self, criterion: Criterion | None = None) -> Estimate | None:
        """Share of frames that meet it; None where it applies to none."""
        num = self.count(criterion)
        return compute_share(num - len(self.find_failing(criterion)), num) if num else None

    @property
    def reasons(self) -> dict[str, int]:
        """How many frames are not measured, by reason."""
        return dict(Counter(one.not_measured for one in self.frames if one.not_measured))


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
        findings = findings_possible_in(text)
    return Expected(View(view), is_child_in(text), findings)


def choose_sample(rows: Sequence[Frame | None], most: int | None) -> NDArray[np.bool_]:
    """Which of the frames to judge, (N,): those that criteria apply to, or a random `most` of them.

    Not every k-th: rows alternate between end of diastole and end of systole, or between views.
    """
    known = np.flatnonzero([isinstance(describe_expected(row), Expected) for row in rows])
    if most is not None and len(known) > most:
        known = np.random.default_rng(0).choice(known, most, replace=False)
    is_chosen = np.zeros(len(rows), bool)
    is_chosen[known] = True
    return is_chosen


def judge_frames(
    images_u8: Sequence[NDArray[np.uint8]],
    rows: Sequence[Frame | None],
    segmenter: Reader,
    is_chosen: NDArray[np.bool_] | None = None,
) -> list[Judged]:
    """Judge grey images (H, W), padded to squares, by what their rows say they show.

    is_chosen: (N,) of `choose_sample`; all by default.
    """
    expected = [describe_expected(row) for row in rows]
    if is_chosen is not None:
        expected = [
            NOT_IN_SAMPLE if isinstance(one, Expected) and not chosen else one
            for one, chosen in zip(expected, is_chosen, strict=True)
        ]
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
    generated: Anatomy, reference: Anatomy, *, first_draws: float | None = None
) -> tuple[dict[str, Score], dict[str, str], list[str]]:
    """`intact` and `intact_<criterion>`, what was left out, alarms.

    first_draws: of images that were chosen by their anatomy, the share of sound first draws.
    """
    if reason := explain_unmeasured(generated, reference):
        return {}, {str(Kind.INTACT): reason}, []
    scores = [
        Score.of_anatomy(
            str(criterion or ""), share, generated.source, reference.share(criterion),
            num_without=(len(generated.frames) - generated.count(criterion),
                         len(reference.frames) - reference.count(criterion)),
            frames=generated.find_failing(criterion), first_draws=first_draws,
        )
        for criterion in (None, *Criterion)
        if (share := generated.share(criterion)) is not None
    ]  # fmt: skip
    alarm = _find_fall(generated, scores[0])
    return by_name(scores), {}, [alarm] if alarm else []


def _find_fall(generated: Anatomy, whole: Score) -> str | None:
    """The alarm where fewer of the generated frames are intact than of the reference."""
    if whole.real is None or whole.value >= whole.real - FALL:
        return None
    failed = {criterion: len(generated.find_failing(criterion)) for criterion in Criterion}
    most = sorted((c for c in Criterion if failed[c]), key=lambda c: -failed[c])[:3]
    named = ", ".join(f"{criterion.replace('_', ' ')} {failed[criterion]}" for criterion in most)
    return (
        f"broken hearts: {len(whole.frames or ())} of {whole.n} generated frames ({named}); intact "
        f"are {100 * whole.value:.0f} %, of the reference {100 * whole.real:.0f} %"
    )


def explain_unmeasured(generated: Anatomy, reference: Anatomy) -> str | None:
    """Why there is no score; None where there is one."""
    for title, side in (("generated", generated), ("reference", reference)):
        if not side.count():
            told = ", ".join(f"{reason} ({num})" for reason, num in side.reasons.items())
            return f"no {title} frame can be judged: {told}"
    real = reference.share()
    if real is not None and real.high < KNOWN_KIND:
        return (
            f"the segmenter does not know frames of this kind: of {real.num} reference frames it "
            f"calls {100 * real.value:.0f} % intact"
        )
    return None


def describe_broken(generated: Anatomy, reference: Anatomy, names: Sequence[str]) -> dict[str, Any]:
    """`anatomy` of metrics.json. names: file of each generated frame."""
    is_known = explain_unmeasured(generated, reference) is None
    broken = [
        {
            "row": row,
            "file_name": names[row],
            "faults": [
                {"criterion": str(fault.criterion), "reason": fault.reason, "box": list(fault.box)}
                for fault in generated.frames[row].faults
            ],
        }
        for row in (generated.find_failing() if is_known else ())
    ]
    return {
        "segmenter": generated.source.name,
        "segmenter_sha256": generated.source.sha256,
        "num": generated.count(),
        "num_reference": reference.count(),
        "not_measured": generated.reasons,
        "not_measured_reference": reference.reasons,
        "broken": broken,
    }


def compare_anatomy(first: Anatomy, second: Anatomy, reference: Anatomy) -> dict[str, Score]:
    """`intact_gain`: second minus first; nothing where either has no score."""
    then, now = first.share(), second.share()
    unmeasured = [explain_unmeasured(one, reference) for one in (first, second)]
    if any(unmeasured) or then is None or now is None:
        return {}
    gain = compute_difference(now, then)
    return by_name([Score.of_anatomy_gain(gain, second.source, then, now)])


def _scale(box: Box, scale: float) -> Box:
    left, top, right, bottom = (round(side * scale) for side in box)
    return left, top, max(right, left + 1), max(bottom, top + 1)
