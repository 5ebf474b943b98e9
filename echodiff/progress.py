"""Progress bars: live on a terminal, one line each where the output goes to a file or a pipe."""

import sys
from typing import Any

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[type-arg]  # tqdm is generic in its stubs alone
    """A tqdm bar that writes one line, when it closes, if stderr is not a terminal.

    Takes what tqdm takes. The log of a batch job then has no carriage returns.
    """

    is_live, disable = False, True  # until tqdm has set up the bar: an interrupt may come before

    def __init__(self, *args: Any, **options: Any) -> None:
        self.is_live = sys.stderr.isatty()
        if not self.is_live:
            options["delay"] = float("inf")  # tqdm shows nothing before that many seconds
            options["bar_format"] = "{desc}: {n_fmt} of {total_fmt} in {elapsed} ({rate_fmt})"
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.is_live:
            super().display(msg, pos)

    def clear(self, nolock: bool = False) -> None:
        if self.is_live:
            super().clear(nolock)

    def close(self) -> None:
        """Close the bar; if stderr is not a terminal, write its line, unless an error ended it."""
        is_told = not (self.disable or self.is_live) and sys.exc_info()[0] is None
        line = str(self) if is_told else ""
        super().close()
        if line:
            self.write(line, file=sys.stderr)
