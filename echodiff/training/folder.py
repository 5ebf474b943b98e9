"""Open the run folder of a training, on every process of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echodiff.config import InputError
from echodiff.runs import Run, next_free
from echodiff.training.streams import DRAWN_BY

# Keys that change no result: a run may be gone on with under other values of these.
_INDIFFERENT = ("out", "overwrite", "threads", "tracker", "keep")


def open_run(
    *,
    command: str,
    config: Mapping[str, Any],
    out: Path | None,
    stem: str,
    data_sha256: str,
    base_sha256: str,
    mixed_precision: str,
    overwrite: bool,
    root: Path = Path("runs"),
) -> Run:
    """Begin a run in `out`, or go on with it there; all processes get the same folder.

    Without `out`: the unfinished run of the same settings under `root`, else the next free
    `stem-K`. A folder that holds something else is an InputError, and stays as it is.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    path: list[Path | None] = [None]
    resumed = False
    if state.is_main_process:
        options: dict[str, Any] = {
            "command": command,
            "config": config,
            "data": data_sha256,
            # With the data's hash known, where they lie says nothing.
            "ignored": (*_INDIFFERENT, "data") if data_sha256 else _INDIFFERENT,
        }
        if out is None and not overwrite:
            out = _find_unfinished(root, stem, options)
        run = Run.create(out or next_free(root, stem), overwrite=overwrite, **options)
        if run.record.get("base_sha256", base_sha256) != base_sha256:
            raise InputError(f"{run.run_dir}: was begun on another base; --overwrite starts anew")
        begun_in = run.record.get("mixed_precision", mixed_precision)
        if begun_in != mixed_precision:
            # The launcher or the hardware may have chosen it: then no setting tells them apart.
            raise InputError(
                f"{run.run_dir}: was begun with mixed precision {begun_in}, this is "
                f"{mixed_precision}: start it as before, or --overwrite starts anew"
            )
        if run.is_resumed and run.record.get("draws") != DRAWN_BY and run.checkpoints.exists():
            raise InputError(
                f"{run.run_dir}: was begun by a version that drew other noise; --overwrite starts "
                "anew"
            )
        run.update(base_sha256=base_sha256, mixed_precision=mixed_precision, draws=DRAWN_BY)
        path, resumed = [run.run_dir], run.is_resumed
    broadcast_object_list(path)
    state.wait_for_everyone()
    if state.is_main_process:
        return run
    assert path[0] is not None
    loaded = Run.load(path[0])
    loaded.is_resumed = resumed
    return loaded


def _find_unfinished(root: Path, stem: str, options: Mapping[str, Any]) -> Path | None:
    for record in sorted(root.glob(f"{stem}-*/run.json")):
        try:
            if Run.create(record.parent, **options).is_resumable:
                return record.parent
        except InputError:
            continue  # finished, or another run: not the one looked for
    return None
