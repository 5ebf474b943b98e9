"""Training callback that draws the losses logged so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from echodiff.report.charts import draw_losses

if TYPE_CHECKING:
    from echodiff.runs import Run


class LossCurves:
    """Writes `samples/losses.svg`. Comes last, so that it draws what the other callbacks return."""

    has_start = False

    def __init__(self, run: Run, *, every: int) -> None:
        self.run, self.every = run, every

    def __call__(self, trained: object, step: int) -> Mapping[str, float]:
        """Draw the losses logged so far; nothing is logged."""
        draw_losses(self.run)
        return {}
