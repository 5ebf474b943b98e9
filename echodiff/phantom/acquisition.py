"""One drawn acquisition of a phantom heart: drawn once, stored, rendered any number of times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import AgeGroup, Finding, View
from echodiff.captions.clinical import write_caption
from echodiff.phantom.echo import EchoSettings, sample_echo_settings, simulate_echo
from echodiff.phantom.grading import drop_excluded
from echodiff.phantom.heart import Heart, contract, sample_heart
from echodiff.phantom.mr import simulate_ct, simulate_mr
from echodiff.phantom.mr_styles import draw_mr_style
from echodiff.phantom.pseudo import simulate_pseudo
from echodiff.phantom.seeds import seed_words
from echodiff.phantom.slices import Pose, sample_pose, sector_mask, slice_image
from echodiff.phantom.styles import STYLE_NAMES, draw_style
from echodiff.phantom.thorax import compute_thorax
from echodiff.phantom.tissues import Anatomy

Modality = Literal["echo", "mr", "ct", "ct-contrast", "pseudo"]
MODALITIES: tuple[Modality, ...] = ("echo", "mr", "ct", "ct-contrast", "pseudo")

_LEFT_HEART = frozenset({
    Finding.LVH, Finding.DILATED_LV, Finding.DILATED_LA, Finding.THICKENED_VALVES,
    Finding.PERICARDIAL_EFFUSION,
})  # fmt: skip
_VENTRICLES = frozenset({
    Finding.LVH, Finding.DILATED_LV, Finding.DILATED_RV, Finding.RVH, Finding.SEPTAL_HYPERTROPHY,
    Finding.PERICARDIAL_EFFUSION,
})  # fmt: skip
_OF_CHILDHOOD = frozenset({
    Finding.HYPOPLASTIC_LV, Finding.HYPOPLASTIC_RV, Finding.COMMON_AV_VALVE,
})  # fmt: skip
"""Findings that few grow up with."""
VISIBLE: dict[View, frozenset[Finding]] = {
    View.A4C: frozenset(Finding),
    View.SUBCOSTAL: frozenset(Finding),
    View.A2C: _LEFT_HEART,
    View.A3C: _LEFT_HEART | {Finding.SEPTAL_HYPERTROPHY},
    View.A5C: _VENTRICLES | {Finding.VSD},
    View.PSAX: _VENTRICLES,
}
"""Findings that each view can show."""
_KIND_SHOWN: dict[View, dict[Finding, str]] = {
    View.A2C: {Finding.THICKENED_VALVES: "mitral"},
    View.A3C: {Finding.THICKENED_VALVES: "mitral"},
    View.A5C: {Finding.VSD: "perimembranous"},
}
"""The only kind of a finding that a view can show."""


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """All parameters of a frame; stored as JSON in the frame's `record` column."""

    heart: Heart
    pose: Pose
    echo: EchoSettings
    text: str

    def to_json(self) -> str:
        """Return compact JSON of all parameters except the caption."""
        parts = {
            "heart": self.heart.to_record(),
            "pose": self.pose.to_record(),
            "echo": self.echo.to_record(),
        }
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, record: str, text: str = "") -> Acquisition:
        """Restore an acquisition from `to_json`; it renders the same pixels."""
        parts = json.loads(record)
        return cls(
            heart=Heart.from_record(parts["heart"]),
            pose=Pose.from_record(parts["pose"]),
            echo=EchoSettings(**parts["echo"]),
            text=text,
        )


@dataclass(frozen=True, kw_only=True)
class Population:
    """Distribution of hearts, views and scanners."""

    styles: Sequence[str] = ("aspen", "birch")
    findings: Sequence[Finding] = tuple(Finding)
    finding_rate: float = 0.5
    """Share of patients with at least one finding that their view can show; a quarter of those have
    two."""
    child_rate: float = 0.25
    """Share of children, where no finding of childhood is drawn."""
    views: Sequence[View] = (View.A4C,)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.styles) - set(STYLE_NAMES))
        if unknown or not self.styles:
            known = ", ".join(STYLE_NAMES)
            raise ValueError(f"--styles: unknown {unknown or 'none'}; known: {known}")
        for view in self.views:
            if self.findings and not VISIBLE[view] & set(self.findings):
                shown = ", ".join(sorted(VISIBLE[view]))
                raise ValueError(f"--findings: an {view} view shows none of these, but {shown}")
        if not 0 <= self.finding_rate <= 1:
            raise ValueError(f"--finding-rate must lie in [0, 1], not {self.finding_rate}")


def sample_patient(seed: int, patient: int, population: Population) -> list[Acquisition]:
    """Draw the end-diastolic and end-systolic acquisition of a patient, a function of (seed,
    patient)."""
    rng = np.random.default_rng(seed_words(seed, patient))
    chosen: tuple[Finding, ...] = ()
    is_ill = rng.random() < population.finding_rate
    has_two = rng.random() < 0.25
    order = rng.permutation(len(population.findings))
    drawn = [population.findings[i] for i in order]
    view = population.views[int(rng.integers(len(population.views)))]
    # Of what the view can show; the order of the draws is that of all findings.
    drawn = [finding for finding in drawn if finding in VISIBLE[view]]
    if is_ill:
        chosen = drop_excluded(drawn[: 1 + has_two])
    age_group = None
    is_congenital = bool(_OF_CHILDHOOD & set(chosen)) and population.child_rate > 0
    if rng.random() < (0.95 if is_congenital else population.child_rate):
        age_group = AgeGroup.INFANT if rng.random() < 0.3 else AgeGroup.CHILD
    heart = sample_heart(
        rng, chosen, age_group=age_group, kinds=_KIND_SHOWN.get(view), visible=VISIBLE[view]
    )
    name = population.styles[int(rng.integers(len(population.styles)))]
    style = draw_style(name, rng)
    echo = sample_echo_settings(rng, name, style, heart.scale)
    systole = contract(heart, rng)
    pose = sample_pose(rng, heart, view, style.opening_deg)
    acquisitions = []
    for number, instant in enumerate((heart, systole)):
        settings = replace(echo, seed=echo.seed ^ number)
        text = write_caption(instant, view, rng, pose.level)
        acquisitions.append(Acquisition(heart=instant, pose=pose, echo=settings, text=text))
    return acquisitions


def sample_acquisition(seed: int, index: int, population: Population) -> Acquisition:
    """Draw frame `index` of an infinite population: frames 2p and 2p + 1 are patient p in ED and
    ES."""
    return sample_patient(seed, index // 2, population)[index % 2]


def render(
    acquisition: Acquisition, modality: Modality, size: int, anatomy: Anatomy | None = None
) -> NDArray[np.uint8]:
    """Render an acquisition as a (size, size) uint8 image; deterministic.

    anatomy: the slice on the image grid, if the caller has computed it already.
    """
    heart, pose, settings = acquisition.heart, acquisition.pose, acquisition.echo
    if modality == "echo":
        return simulate_echo(heart, pose, settings, size)
    if anatomy is None:
        anatomy, _ = slice_image(heart, pose, size)
    if modality == "pseudo":
        return simulate_pseudo(anatomy, sector_mask(pose, size), settings.seed + 3)
    thorax = compute_thorax(pose, anatomy.hull_mm, heart.ripple_seed)
    if modality == "mr":
        # The scanner of a frame is one name, whatever it is imaged with.
        drawn = draw_mr_style(settings.style, np.random.default_rng([settings.seed, 1]))
        return simulate_mr(anatomy, thorax, settings.seed + 1, drawn)
    with_contrast = modality == "ct-contrast"
    return simulate_ct(
        anatomy, thorax, settings.seed + 2 + 2 * with_contrast, with_contrast=with_contrast
    )
