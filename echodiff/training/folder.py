"""Open the run folder of a training, on every process of it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from echodiff.errors import InputError
from echodiff.fingerprints import Job
from echodiff.folders import FolderLock
from echodiff.runs import Run, claim_free
from echodiff.settings.fields import as_dict
from echodiff.training.streams import DRAWN_BY

# Keys that change no result: a run may be gone on with under other values of these.
_INDIFFERENT = (
    "out", "overwrite", "threads", "tracker", "keep", "continue_", "trust", "features_path",
)  # fmt: skip


@contextmanager
def open_run(
    *,
    command: str,
    config: Any,
    stem: str,
    data: Mapping[str, str],
    base_sha256: str,
    mixed_precision: str,
    init_sha256: str = "",
    extended: tuple[str, ...] = (),
    places: tuple[str, ...] = ("data",),
    inputs: Iterable[Path | None] = (),
    root: Path = Path("runs"),
) -> Iterator[Run]:
    """Begin a run in `config.out`, or resume it there; all processes get the same folder.

    Without --out: the unfinished run of the same settings under `root` that no other process works
    on, else the next free `stem-K`. A folder that holds something else, or that another process
    writes, is an InputError, and stays as it is. The folder is locked until the block ends.

    data: a hash of every frame that is trained on; `places` are the settings that say where they
    lie, which then tell nothing. init_sha256: of the weights that are started from, if any.
    extended: settings of the length, which --continue may change. inputs: as in `Run.create`.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    out, overwrite, values = config.out, config.overwrite, as_dict(config)
    extended = extended if config.continue_ else ()
    path: list[Path | None] = [None]
    resumed = False
    lock: FolderLock | None = None
    try:
        if state.is_main_process:
            ignored = (*_INDIFFERENT, *places) if data else _INDIFFERENT
            settings = {name: value for name, value in values.items() if name not in ignored}
            job, inputs = Job(command, settings, data), list(inputs)
            if out is not None:
                # Before the lock too: a folder that is refused is not touched.
                Run.find(out, job, overwrite=overwrite, extended=extended, inputs=inputs)
                lock = FolderLock(out).acquire()
            else:
                found = None if overwrite else _lock_unfinished(root, stem, job)
                lock = found or claim_free(root, stem)
            run = Run.create(
                lock.folder,
                command=command,
                config=values,
                data=data,
                overwrite=overwrite,
                extended=extended,
                ignored=ignored,
                inputs=inputs,
            )
            parts = {"base_sha256": base_sha256, "init_sha256": init_sha256}
            _refuse_other_parts(run, parts, mixed_precision)
            run.update(**parts, mixed_precision=mixed_precision, draws=DRAWN_BY)
            run.write_config(values)
            path, resumed = [run.run_dir], run.is_resumed
        broadcast_object_list(path)
        state.wait_for_everyone()
        if not state.is_main_process:
            assert path[0] is not None
            run = Run.load(path[0])
            run.is_resumed = resumed
        yield run
    finally:
        if lock is not None:
            lock.release()


def _lock_unfinished(root: Path, stem: str, job: Job) -> FolderLock | None:
    """The lock of the first unfinished run of `job` that no other process works on."""
    for record in sorted(root.glob(f"{stem}-*/run.json")):
        with suppress(InputError):  # finished, another run, or in work
            if Run.find(record.parent, job) is not None:
                return FolderLock(record.parent).acquire()
    return None


def _refuse_other_parts(run: Run, parts: Mapping[str, str], mixed_precision: str) -> None:
    if run.is_resumed and run.record.get("draws") != DRAWN_BY and run.checkpoints.exists():
        raise InputError(
            f"{run.run_dir}: was begun by a version that drew other noise; --overwrite starts anew"
        )
    for name, what in (("base_sha256", "on another base"), ("init_sha256", "from other weights")):
        if run.record.get(name, parts[name]) != parts[name]:
            raise InputError(f"{run.run_dir}: was begun {what}; --overwrite starts anew")
    begun_in = run.record.get("mixed_precision", mixed_precision)
    if begun_in != mixed_precision:
        # The launcher or the hardware may have chosen it: then no setting tells them apart.
        raise InputError(
            f"{run.run_dir}: was begun with mixed precision {begun_in}, this is "
            f"{mixed_precision}: start it as before, or --overwrite starts anew"
        )
