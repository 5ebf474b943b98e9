"""The verdict of an audit in words: what was found, what was not tested, what it does not mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.copies import LEAST_RECOGNISED, Copies
from echodiff.audit.extraction import Extraction
from echodiff.audit.membership import RECALL, Membership
from echodiff.audit.subjects import Subjects
from echodiff.metrics.copies import NEAR_SHARE
from echodiff.metrics.limits import AUC_LIMIT, SET_LEVEL

MEANS_NOT = (
    "A verdict without findings is no proof of privacy: stronger attacks, or attackers who know "
    "more, may find more. Only a training with differential privacy bounds what any attack can.",
    "It says nothing of consent, licences or identifiers; echodiff push looks for these.",
    "It holds for these weights, at full adapter scale, and for the images that were searched; "
    "not for other images, nor for weights that were trained on.",
)


@dataclass(frozen=True)
class Verdict:
    """Whether the weights may be shared as far as was measured."""

    passed: bool
    text: str
    reasons: tuple[str, ...]
    """Why not; empty where it passed."""


def judge_weights(
    subjects: Subjects,
    found: Membership | None,
    extraction: Extraction | None,
    epsilon: float | None = None,
) -> Verdict:
    """Judge weights by membership of single patients and of the set, and by extraction.

    epsilon: what a training with differential privacy claims; an audit that shows more refutes it.
    """
    reasons, fine = [], []
    if subjects.num_unknown:
        reasons.append(
            f"{subjects.num_unknown} of {_count(len(subjects.everything.frames), 'frame')} that "
            "were attacked are not those of the training, so nothing follows for these"
        )
    if found is None and extraction is None:
        reasons.append("nothing was measured: no attack applies to these weights")
    if extraction is not None:
        num_captions = _count(len(extraction.attempts), "training caption")
        told = f"{_count(extraction.share.num, 'image')} for {num_captions}"
        if extraction.num_extracted:
            reasons.append(
                f"{_count(extraction.num_extracted, 'training frame')} came back in {told}"
            )
        else:
            fine.append(f"no training frame came back in {told}")
    if found is not None:
        _judge_membership(found, reasons, fine)
        if epsilon is not None and found.bound.epsilon > epsilon:
            reasons.append(
                f"epsilon is at least {found.bound.epsilon:.2f}, and {epsilon:g} was claimed: the "
                "training was not as private as its record says"
            )
    return _join(reasons, fine)


def _judge_membership(found: Membership, reasons: list[str], fine: list[str]) -> None:
    """Add what the attacks on single patients and on the set say."""
    strongest = found.strongest
    test, name = found.tests[strongest], strongest.replace("_", " ")
    told = (
        f"AUC {test.auc:.2f}, 95 % interval {test.low:.2f} to {test.high:.2f}, "
        f"{test.num_members} patients against {test.num_others}"
    )
    if test.auc >= AUC_LIMIT and found.corrected[strongest] < SET_LEVEL:
        reasons.append(f"single training patients can be told from others ({name}: {told})")
    else:
        fine.append(f"the strongest attack on single patients, {name}, has {told}")
    if has_recall(found):
        reasons.append(
            "images generated for training captions show the layout of their frames (recall: AUC "
            f"{found.tests[RECALL].auc:.2f}, p {_write_p(found.corrected[RECALL])})"
        )
    whole = f"p {_write_p(found.whole.p)}"
    best = min(found.corrected, key=lambda name: found.corrected[name])
    if found.whole.p < SET_LEVEL:
        reasons.append(f"the training patients can be recognised as a set ({whole})")
    elif found.corrected[best] < SET_LEVEL:
        # One attack can see what the mean of them hides, and LiRA is not part of that mean.
        reasons.append(
            "the training patients can be recognised as a set by "
            f"{best.replace('_', ' ')} alone (p {_write_p(found.corrected[best])}, corrected for "
            f"{len(found.tests)} attacks)"
        )
    else:
        fine.append(f"the patients are not recognised as a set ({whole})")


def has_recall(found: Membership) -> bool:
    """Whether images for training captions show the layout of training frames."""
    return found.corrected.get(RECALL, 1.0) < SET_LEVEL


def judge_images(copies: Copies, found: Membership | None = None) -> Verdict:
    """Judge a generated set by the copies in it, and by what its weights recall (`found`).

    The search for copies compares the grain of pixels, and sees nothing of a layout.
    """
    reasons, fine = [], []
    if found is not None and has_recall(found):
        reasons.append("weights that recall training frames made them")
    num = len(copies.paths)
    if copies.recognised.value < LEAST_RECOGNISED:
        reasons.append(
            f"copies cannot be told: of {copies.recognised.num} training frames themselves only "
            f"{_percent(copies.recognised.value)} are recognised, for want of speckle"
        )
    if copies.num_copies:
        reasons.append(
            f"{copies.num_copies} of {num} images show one of "
            f"{_count(len(copies.list_copied()), 'training frame')} "
            f"({_percent(copies.share.value)}, 95 % interval {_percent(copies.share.low)} to "
            f"{_percent(copies.share.high)})"
        )
    else:
        fine.append(
            f"none of {num} images is recognised as a training frame (at most "
            f"{_percent(copies.share.high)} of such images would be, 95 % interval)"
        )
    for network, entry in copies.by_features.items():
        if (entry.get("low") or 0.0) >= 2 * NEAR_SHARE and entry["p"] < SET_LEVEL:
            reasons.append(
                f"{_percent(entry['value'])} of the images are as near to a training frame in "
                f"{network} features as {_percent(NEAR_SHARE)} of unseen frames (p "
                f"{_write_p(entry['p'])})"
            )
    return _join(reasons, fine)


def list_not_tested(
    notes: tuple[str, ...],
    *,
    membership: Membership | None,
    extraction: Extraction | None,
    copies: Copies | None,
    num_shadows: int,
    has_sscd: bool,
    reduced: Sequence[str] = (),
) -> list[str]:
    """What a reader might think was tested, and was not."""
    missing = [*notes, *(f"as much as usual: {one}" for one in reduced)]
    if membership is None:
        missing.append("membership: no attack applies to these weights")
    elif any(rate is None for rate in membership.rates.values()):
        missing.append("the true positive rate at 1 % false positives: it needs 1,000 non-members")
    if extraction is None:
        missing.append("extraction by training captions")
    if copies is None:
        missing.append("copies in a generated set: none was given")
    if not num_shadows:
        missing.append("attacks with shadow models (LiRA, RMIA): --shadows 16 trains them")
    if not has_sscd:
        missing.append("copies by SSCD: --sscd takes its file")
    return missing


def list_reduced(
    config: AuditConfig, subjects: Subjects, extraction: Extraction | None, *, is_denoiser: bool
) -> list[str]:
    """What made this audit weaker than the usual one: a push asks for the usual one.

    is_denoiser: whether extraction and pairs of time and noise apply to these weights.
    """
    is_binding = {
        "max_frames": subjects.is_cut,
        "pairs": is_denoiser,
        "attempts": is_denoiser,
        "captions": extraction is not None and len(extraction.attempts) == config.captions,
        "sample_steps": extraction is not None,
    }
    usual = {field.name: field.default for field in fields(AuditConfig)}
    lines = [
        f"--{name.replace('_', '-')} {getattr(config, name)}, usually {usual[name]}"
        for name, binds in is_binding.items()
        if binds and getattr(config, name) < usual[name]
    ]
    if is_denoiser and config.attempts and extraction is None:
        lines.append("no extraction: the frames have too little speckle for copies to be told")
    return lines


def summarise(weights: Verdict, images: Mapping[str, Any] | None) -> str:
    """The verdict of the page: on the weights, and on the set if there is one."""
    of_images = "" if images is None else f" Images {images['verdict']}"
    return f"Weights {weights.text}{of_images}"


def _join(reasons: list[str], fine: list[str]) -> Verdict:
    parts = reasons or fine
    text = "; ".join(parts)
    return Verdict(not reasons, f"{'failed' if reasons else 'passed'}: {text}.", tuple(reasons))


def _count(num: int, what: str) -> str:
    return f"{num} {what}{'s' * (num != 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _write_p(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else "below 0.001"
