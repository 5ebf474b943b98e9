"""What an audit found, and how it is told: privacy.json, copies.jsonl, the pairs of the page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.audit.audit_config import AuditConfig
from echodiff.published import PRIVACY, TRAIN_CONTROLNET, hash_images
from echodiff.runs import sha256_file, versions

if TYPE_CHECKING:
    from echodiff.audit.copies import Copies, Reference
    from echodiff.audit.extraction import Extraction
    from echodiff.audit.membership import Attack, Membership
    from echodiff.audit.subjects import Subjects, Units

REPORT_FILE, COPIES_FILE = "report.html", "copies.jsonl"
DIFFUSION, GAN = ("train_lora", TRAIN_CONTROLNET), "train-gan"
_NUMBERS = (
    "pairs", "max_frames", "attempts", "captions", "sample_steps", "sample_guidance", "shadows",
)  # fmt: skip
"""Settings that privacy.json keeps: those without names of this machine."""


@dataclass(frozen=True)
class Findings:
    """Everything that was measured."""

    weights_sha256: str
    base_sha256: str
    subjects: Subjects
    units: Units
    attacks: Sequence[Attack]
    membership: Membership | None
    reference: Reference
    extraction: Extraction | None
    copies: Copies | None
    epsilon: float | None
    """What a training with differential privacy claims."""
    is_denoiser: bool
    """Whether images of training captions can be drawn from these weights."""


def build_record(config: AuditConfig, found: Findings) -> dict[str, Any]:
    """privacy.json: numbers, verdicts and hashes, without the names of patients and files."""
    from echodiff.audit.membership import to_record
    from echodiff.audit.verdict import (
        MEANS_NOT,
        judge_images,
        judge_weights,
        list_not_tested,
        list_reduced,
        summarise,
    )

    subjects = found.subjects
    verdict = judge_weights(subjects, found.membership, found.extraction, found.epsilon)
    reduced = list_reduced(config, subjects, found.extraction, is_denoiser=found.is_denoiser)
    sets = []
    if found.copies is not None and config.generated is not None:
        of_images = judge_images(found.copies, found.membership)
        sets.append({
            "sha256": hash_images(config.generated), "n": len(found.copies.paths),
            "passed": of_images.passed, "verdict": of_images.text,
            "copies": found.copies.to_record(),
        })  # fmt: skip
    record: dict[str, Any] = {"attacks": {}, "ceiling": None}
    if found.membership is not None:
        record |= to_record(found.attacks, found.membership)
        record["ceiling"]["claimed"] = found.epsilon
    if found.extraction is not None:
        record["attacks"]["extraction"] = found.extraction.to_record()
    return {
        "verdict": summarise(verdict, sets[0] if sets else None),
        "passed": verdict.passed,
        "reasons": list(verdict.reasons),
        "reduced": reduced,
        "weights_sha256": found.weights_sha256,
        "base_sha256": found.base_sha256,
        "data_sha256": hash_sides(subjects),
        "n": {
            "members": len(subjects.members.frames),
            "member_patients": subjects.members.num_patients,
            "non_members": len(subjects.others.frames),
            "non_member_patients": subjects.others.num_patients,
            "training_frames": len(subjects.everything.frames),
        },
        **record,
        "sets": sets,
        "not_tested": list_not_tested(
            subjects.notes, membership=found.membership, extraction=found.extraction,
            copies=found.copies, num_shadows=config.shadows, has_sscd=config.sscd is not None,
            reduced=reduced,
        ),
        "means_not": list(MEANS_NOT),
        "settings": {name: getattr(config, name) for name in _NUMBERS}
        | {"features": {one.name: one.sha256 for one in found.reference.networks}},
        "seed": config.seed,
        "versions": versions(),
    }  # fmt: skip


def hash_sides(subjects: Subjects) -> str:
    """SHA-256 over the files of both sides and of the training."""
    digest = hashlib.sha256()
    for side in (subjects.everything, subjects.members, subjects.others):
        for path in side.paths:
            digest.update(f"{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def list_rows(copies: Copies, reference: Reference) -> list[dict[str, Any]]:
    """A row per image: its nearest training frame, and how near."""
    names = [frame.file_name for frame in reference.everything.frames]
    return [
        {
            "image": path.name, "training_frame": names[match.place],
            "likeness": round(match.score, 4), "is_copy": bool(is_copy),
            **{f"distance_{name}": round(float(values[row]), 6)
               for name, values in copies.nearest.items()},
        }
        for row, (path, match, is_copy) in enumerate(
            zip(copies.paths, copies.matches, copies.is_copy, strict=True)
        )
    ]  # fmt: skip


def list_shown(found: Findings) -> dict[str, Any]:
    """Images of the page: pairs of a generated image and its nearest training frame."""
    from echodiff.audit.copies import NUM_CLOSEST
    from echodiff.images import read_gray_u8

    reference = found.reference
    paths = reference.everything.paths

    def read(path: Path) -> Any:
        return read_gray_u8(path, max_value=reference.white_level)

    shown: dict[str, Any] = {"closest": [], "extracted": []}
    if found.copies is not None:
        for row in found.copies.list_closest():
            match = found.copies.matches[row]
            image = read(found.copies.paths[row])
            shown["closest"].append((image, read(paths[match.place]), match.score))
    if found.extraction is not None:
        for one in found.extraction.strongest[:NUM_CLOSEST]:
            shown["extracted"].append((one.image_u8, read(paths[one.place]), one.likeness))
    return shown


def list_lines(config: AuditConfig, record: dict[str, Any]) -> list[str]:
    """What the terminal tells."""
    lines = []
    for name, one in record["attacks"].items():
        if "auc" in one:
            lines.append(
                f"{name}: AUC {one['auc']:.3f} [{one['low']:.3f}, {one['high']:.3f}], "
                f"p {one['p']:.2g} ({one['p_by']})"
            )
    if (whole := record["attacks"].get("set")) is not None:
        lines.append(f"set: p {whole['p']:.2g}, difference {whole['difference']:.2f} deviations")
    if (bound := record["ceiling"]) is not None:
        lines.append(
            f"epsilon: at least {bound['epsilon']:.2f}; {bound['num_canaries']} patients can show "
            f"no more than {bound['ceiling']:.2f}"
        )
    for one, name in zip(record["sets"], ("images", "filtered images"), strict=False):
        lines.append(f"{name}: {one['verdict']}")
    return [
        *lines,
        record["verdict"],
        f"Report: {config.out / REPORT_FILE}; all numbers in {config.out / PRIVACY}",
    ]
