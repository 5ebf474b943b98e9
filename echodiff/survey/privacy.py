"""The privacy axis beside copies: what `echodiff audit` says of an arm, where it can be asked."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from echodiff.documents import read_record
from echodiff.survey.controlnet import CONTROLNET, run_inner

AUDIT = "echodiff.audit.command"
RESULT = "privacy.json"
NOT_HERE = "not measured: this version has no echodiff audit"
NOT_READ = "not measured: echodiff audit does not read the weights of this arm"


def audit_arm(
    arm: str, run_dir: Path, generated: Path, out: Path, threads: int | None
) -> dict[str, Any]:
    """Audit the weights of an arm; `verdict` says what came out, or why nothing was measured.

    generated: a set of its images; out: folder for the audit; threads: as in --threads.
    """
    if arm != CONTROLNET:
        return {"is_measured": False, "verdict": NOT_READ}
    try:
        is_there = importlib.util.find_spec(AUDIT) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        return {"is_measured": False, "verdict": NOT_HERE}
    if not (out / RESULT).is_file():
        words = [str(run_dir), "--generated", str(generated), "--out", str(out),
                 "--attempts", "0"]  # fmt: skip
        if threads is not None:
            words += ["--threads", str(threads)]
        status = run_inner(importlib.import_module(AUDIT).main, words)
        if status not in (0, 1) or not (out / RESULT).is_file():
            return {
                "is_measured": False,
                "verdict": "not measured: echodiff audit refused this run",
            }
    verdict = read_record(out / RESULT).get("verdict")
    return {"is_measured": True, "verdict": str(verdict)}
