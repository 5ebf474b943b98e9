"""Identify a job by its settings and input files, and describe how two jobs differ."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from echodiff.settings.fields import flag_of

_SHOWN = 3
"""Settings or files that a message names; the others are counted."""
_LONGEST = 40
"""Characters of a value in a message."""


class Job:
    """Settings and input files that identify a run."""

    def __init__(
        self, command: str, settings: dict[str, Any], data: str | Mapping[str, str] = ""
    ) -> None:
        self.command, self.settings, self.data = command, settings, data
        self.files = {} if isinstance(data, str) else dict(data)
        self.data_sha256 = data if isinstance(data, str) else compute_fingerprint(data)
        told = {"command": command, "data": self.data_sha256} | settings
        self.fingerprint = compute_fingerprint(told)

    def but(self, settings: Mapping[str, Any]) -> "Job":
        """Return the same job with other values of some settings."""
        return Job(self.command, {**self.settings, **settings}, self.data)

    def to_record(self) -> dict[str, Any]:
        """Return the record by which jobs are compared."""
        return {"command": self.command, "settings": self.settings, "frames": self.files}


def compute_fingerprint(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, independent of their order."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_difference(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Describe how two jobs differ, as the end of a sentence; empty if that is unknown.

    Both map a name to a value. `settings` holds values by field, which are reported by their flags;
    other names hold files by path, with a hash.
    """
    parts = list(_list_differences(begun, asked))
    if not parts:
        return ""
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return f". It differs in {', '.join(parts[:_SHOWN])}{more}"


def _list_differences(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    for name in [key for key in asked if key in begun]:
        theirs, ours = begun[name], asked[name]
        if theirs == ours:
            continue
        if not (isinstance(theirs, dict) and isinstance(ours, dict)):
            yield f"{name.replace('_', ' ')} ({_short(theirs)} there, {_short(ours)} here)"
            continue
        for key in dict.fromkeys([*ours, *theirs]):
            there, here = theirs.get(key), ours.get(key)
            if there == here:
                continue
            if name == "settings":
                yield f"{flag_of(key)} ({_short(there)} there, {_short(here)} here)"
            else:
                state = "gone" if key not in ours else "new" if key not in theirs else "changed"
                yield f"{key} ({state})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
