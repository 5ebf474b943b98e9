"""Whether an audit allows the push: what `echodiff audit` left in the run folder says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echodiff.documents import Kinds, check_kinds
from echodiff.errors import InputError
from echodiff.published import hash_images

KINDS: Kinds = {
    "verdict": str, "passed": bool, "weights_sha256": str, "sets": list[dict[str, Any]],
    "reduced": list[str],
}  # fmt: skip
_OF_SET: Kinds = {"sha256": str, "passed": bool, "verdict": str}


def check_audit(path: Path, audit: Mapping[str, Any]) -> None:
    """InputError for a privacy.json without a verdict, or with fields of other kinds."""
    try:
        check_kinds(audit, KINDS)
        for one in audit.get("sets", []):
            check_kinds(one, _OF_SET)
            if missing := sorted(_OF_SET.keys() - one.keys()):
                raise InputError(f"a set has no {missing[0]!r}")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    for name in ("verdict", "passed"):
        if name not in audit:
            raise InputError(f"{path}: has no {name}: audit again")


def object_to_weights(audit: Mapping[str, Any] | None) -> list[str]:
    """Reasons against a push of weights: no audit of them, a failed one, or a reduced one."""
    if audit is None:
        return [
            "these weights were not audited: `echodiff audit RUN --out DIR` measures what they "
            "tell of the frames that they were trained on"
        ]
    if not audit["passed"]:
        return [f"the privacy audit of these weights: {audit['verdict']}"]
    if reduced := audit.get("reduced"):
        return [f"the privacy audit of these weights was reduced: {'; '.join(reduced)}"]
    return []


def object_to_images(audit: Mapping[str, Any] | None, folder: Path) -> list[str]:
    """Reasons against a push of images: no search for copies among them, or one that found some."""
    found = find_set(audit, folder)
    if found is None:
        return [
            "these images were not audited: `echodiff audit RUN --generated DIR --out DIR` looks "
            "for copies of training frames among them"
        ]
    return [] if found["passed"] else [f"the privacy audit of these images: {found['verdict']}"]


def find_set(audit: Mapping[str, Any] | None, folder: Path) -> Mapping[str, Any] | None:
    """The entry of an audit on the images of a folder, recognised by their contents."""
    if audit is None or not audit.get("sets"):
        return None
    digest = hash_images(folder)
    found: Mapping[str, Any] | None = next(
        (one for one in audit["sets"] if one["sha256"] == digest), None
    )
    return found
