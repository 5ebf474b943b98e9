"""`echodiff audit RUN --out DIR`: measure what weights and images tell of the training frames."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.record import (
    COPIES_FILE,
    DIFFUSION,
    GAN,
    REPORT_FILE,
    Findings,
    build_record,
    list_lines,
    list_rows,
    list_shown,
)
from echodiff.errors import InputError
from echodiff.files import write_json_atomic, write_text_atomic
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.published import PRIVACY
from echodiff.runs import Run
from echodiff.settings.command_line import parse, run_main

PROG = "echodiff audit"


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
