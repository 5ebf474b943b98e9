"""Seconds of every stage, in a file of their own: they differ from run to run, unlike the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from echodiff.documents import read_record
from echodiff.files import write_json_atomic

TIMINGS_FILE = "timings.json"


class Timings:
    """Seconds of each training of each arm; every entry is written at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / TIMINGS_FILE
        self._record: dict[str, Any] = read_record(self._path) if self._path.is_file() else {}

    def add(self, arm: str, number: int, **seconds: float) -> None:
        """Add seconds to the entries of one training; a resumed stage adds to what it took."""
        entry = self._record.setdefault(arm, {}).setdefault(f"seed-{number}", {})
        for name, value in seconds.items():
            earlier = entry.get(name, 0.0) if name == "training_seconds" else 0.0
            entry[name] = round(earlier + value, 4)
        write_json_atomic(self._path, self._record)

    def mean(self, arm: str, name: str) -> float | None:
        """Mean over trainings; None where none was measured."""
        known = [one[name] for one in self._record.get(arm, {}).values() if name in one]
        return sum(known) / len(known) if known else None
