"""The privacy axis beside copies: what `echodiff audit` says of an arm, where it can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from echodiff.documents import read_record
from echodiff.survey.survey_config import CONTROLNET

RESULT = "privacy.json"
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C has ended."""
NOT_READ = "not measured: echodiff audit does not read the weights of this arm"


def audit_arm(
    arm: str, run_dir: Path, generated: Path, out: Path, threads: int | None
) -> dict[str, Any]:
    """Audit the weights of an arm; `verdict` says what came out, or why nothing was measured.

    generated: a set of its images; out: folder for the audit; threads: as in --threads.
    """
    if arm != CONTROLNET:
        return {"is_measured": False, "verdict": NOT_READ}
    if not (out / RESULT).is_file():
        from echodiff.audit.command import main

        words = [str(run_dir), "--generated", str(generated), "--out", str(out),
                 "--attempts", "0"]  # fmt: skip
        if threads is not None:
            words += ["--threads", str(threads)]
        status = main(words)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        if status not in (0, 1) or not (out / RESULT).is_file():
            return {
                "is_measured": False,
                "verdict": "not measured: echodiff audit refused this run",
            }
    verdict = read_record(out / RESULT).get("verdict")
    return {"is_measured": True, "verdict": str(verdict)}
