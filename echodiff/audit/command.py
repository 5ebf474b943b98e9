"""`echodiff audit RUN --out DIR`: measure what weights and images tell of the training frames."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.audit.audit_config import AuditConfig
from echodiff.errors import InputError
from echodiff.files import write_json_atomic, write_text_atomic
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.published import PRIVACY, TRAIN_CONTROLNET, hash_images
from echodiff.runs import Run, sha256_file, versions
from echodiff.settings.command_line import parse, run_main

if TYPE_CHECKING:
    from echodiff.audit.copies import Copies, Reference
    from echodiff.audit.extraction import Extraction
    from echodiff.audit.membership import Attack, Membership
    from echodiff.audit.subjects import Subjects, Units

PROG = "echodiff audit"
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


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 1 if the audit failed."""
    return run_main(lambda: _audit(parse(AuditConfig, argv, prog=PROG)), PROG)


def _audit(config: AuditConfig) -> int:
    run = open_run(config)
    target = config.out / PRIVACY
    if target.exists() and not config.overwrite:
        raise InputError(f"{target}: exists already; --overwrite replaces it")
    inputs = [config.generated, config.holdout, config.data]
    refuse_inputs(config.out, [*inputs, run.run_dir])
    if config.drop_copies is not None:
        refuse_inputs(config.drop_copies, [*inputs, run.run_dir, config.out])
        if (config.drop_copies / METADATA).is_file() and not config.overwrite:
            raise InputError(f"--drop-copies {config.drop_copies}: exists; --overwrite replaces it")
    images = list_images(config, run)

    # Torch takes seconds to import: only once what was given is sound.
    from echodiff.training.precision import start_processes

    start_processes(config.threads)
    with FolderLock(config.out), tempfile.TemporaryDirectory(prefix="echodiff-audit-") as scratch:
        found = measure(config, run, images, Path(scratch))
        record = build_record(config, found)
        _write(config, run, found, record)
        if config.drop_copies is not None and found.copies is not None:
            from echodiff.audit.filtering import drop_copies

            # What was measured is written by now: it took hours, and dropping may still fail.
            record["sets"].append(
                drop_copies(config, found.copies, found.reference, found.membership)
            )
            _write(config, run, found, record)
    for line in list_lines(config, record):
        print(line)
    is_fine = record["passed"] and all(one["passed"] for one in record["sets"][:1])
    return 0 if is_fine else 1


def open_run(config: AuditConfig) -> Run:
    """Open a finished run whose kind can be audited."""
    run = Run.load(config.run)
    command = run.record.get("command")
    if command not in (*DIFFUSION, GAN):
        raise InputError(
            f"{config.run}: is a run of {command}; audits take runs of train_lora.py, echodiff "
            "train-controlnet and echodiff train-gan"
        )
    if not run.is_finished:
        raise InputError(f"{config.run}: the run is {run.record['status']}, not finished")
    if config.shadows and command != "train_lora":
        raise InputError(f"--shadows: of runs of train_lora.py only, not of {command}")
    return run


def list_images(config: AuditConfig, run: Run) -> list[Path]:
    """Images of --generated; InputError if other weights made them."""
    if config.generated is None:
        return []
    try:
        frames = load_frames(config.generated)
    except InputError as error:
        raise InputError(f"--generated {error}") from None
    own = {run.record.get("weights_sha256"), *run.record.get("networks_sha256", {}).values()}
    made_by = {frame.weights for frame in frames}
    if strange := sorted(str(one) for one in made_by - own):
        made = "by no known weights" if strange == ["None"] else f"by others ({strange[0][:12]})"
        raise InputError(
            f"--generated {config.generated}: was not made by the weights of {config.run}, but "
            f"{made}: audit the run that made them"
        )
    if not frames:
        raise InputError(f"--generated {config.generated}: holds no frame")
    return [config.generated / frame.file_name for frame in frames]


def measure(config: AuditConfig, run: Run, images: Sequence[Path], scratch: Path) -> Findings:
    """Run every attack that applies to the weights of a run."""
    from echodiff.audit.copies import Reference, find_copies
    from echodiff.audit.membership import run_attacks
    from echodiff.audit.sscd import load_copy_networks

    if run.record["command"] == GAN:
        from echodiff.audit.gan import attack_gan as attack
    else:
        from echodiff.audit.diffusion import attack_diffusion as attack
    networks = load_copy_networks(config)
    target = attack(config, run, scratch)
    subjects = target.subjects
    reference = Reference.read(subjects.everything, subjects.others, networks, target.white_level)
    units = subjects.build_units()
    membership = None
    if target.attacks:
        membership = run_attacks(target.attacks, units, seed=config.seed, delta=target.delta)
    return Findings(
        weights_sha256=str(run.record["weights_sha256"]),
        base_sha256=str(run.record.get("base_sha256", "")),
        subjects=subjects,
        units=units,
        attacks=target.attacks,
        membership=membership,
        reference=reference,
        extraction=None if reference.is_blind or not config.attempts else target.extract(reference),
        copies=find_copies(images, reference, str(config.generated)) if images else None,
        epsilon=target.epsilon,
        is_denoiser=run.record["command"] in DIFFUSION,
    )


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


def _write(config: AuditConfig, run: Run, found: Findings, record: dict[str, Any]) -> None:
    from echodiff.report.audit_page import write_audit_page

    write_audit_page(
        config.out / REPORT_FILE, record, list_shown(found), run.run_dir.resolve().name
    )
    if found.copies is not None:
        lines = [json.dumps(row) for row in list_rows(found.copies, found.reference)]
        write_text_atomic(config.out / COPIES_FILE, "".join(line + "\n" for line in lines))
    write_json_atomic(config.out / PRIVACY, record)
    # Where a push looks for it: last, once the audit is whole.
    write_json_atomic(run.run_dir / PRIVACY, record)


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
