"""Write the curves to `metrics.jsonl` of the run folder, and to an accelerate tracker if set."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.runs import Run


PLACES = ("base", "data", "source", "target", "out", "tracker", "mask_labels")
"""Settings that may hold a path."""


class Curves:
    """Log scalars by step on the main process; every other process stays silent."""

    def __init__(
        self,
        run: "Run",
        accelerator: "Accelerator",
        *,
        project: str,
        config: object,
    ) -> None:
        self._run, self._accelerator = run, accelerator
        self._project, self._config = project, config
        self._has_tracker = bool(accelerator.log_with)

    def start(self) -> None:
        """Start the tracker."""
        if self._has_tracker:
            self._accelerator.project_configuration.logging_dir = str(self._run.run_dir / "logs")
            self._accelerator.init_trackers(self._project, config=list_recipe(self._config))

    def log(self, step: int, **values: float) -> None:
        """Write `values` for `step` (optimizer steps done)."""
        if self._accelerator.is_main_process:
            self._run.log(step, **values)
        if self._has_tracker:
            self._accelerator.log(values, step=step)

    def close(self) -> None:
        """Flush and end the tracker."""
        if self._has_tracker:
            self._accelerator.end_training()


def list_recipe(config: object) -> dict[str, float | int | str | bool]:
    """The settings without paths: trackers publish what they are given."""
    return {
        name: value
        for name, value in vars(config).items()
        if name not in PLACES and isinstance(value, bool | int | float | str)
    }
