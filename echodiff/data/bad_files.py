"""Report, skip and count files that cannot be read or written, up to a share."""

import sys

from echodiff.errors import InputError
from echodiff.progress import ProgressBar

MOST_BAD = 0.05
"""Share of bad files above which a data set is not trusted."""


class BadFiles:
    """Bad files among `num_files`; more than `MOST_BAD` are an InputError unless allowed."""

    def __init__(self, num_files: int, *, allow: bool) -> None:
        self.num_files, self.allow = num_files, allow
        self.reasons: dict[str, str] = {}
        """What is wrong, by name."""

    def add(self, name: str, reason: str) -> None:
        """Report in one line that `name` is skipped, and why."""
        self.reasons[name] = reason
        if len(self.reasons) > MOST_BAD * self.num_files and not self.allow:
            raise InputError(
                f"{reason} ({len(self.reasons)} of {self.num_files} files are bad, more than "
                f"{MOST_BAD:.0%}; --allow-bad skips them)"
            )
        ProgressBar.write(f"skipped: {reason}", file=sys.stderr)
