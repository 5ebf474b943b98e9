"""Find and read the frames that the record of a run names.

A `run.json` from elsewhere could name any folder of this machine, and its images would be shown in
a report. So a folder outside the run is read only if most of its frames have the hashes that the
run recorded, which cannot be computed without the frames; otherwise `--data` must name it.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from echodiff.errors import InputError
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.frames.rows import Frame
from echodiff.runs import Run

logger = logging.getLogger(__name__)

_PREFIXES = {"data_dir": "", "source_dir": "source/", "target_dir": "target/"}
"""Keys of `run.json` that name a folder, and the prefix of its frames' names there."""


def find_run_frames(
    run: Run, names: Sequence[str], *, data: Path | None = None, key: str = "data_dir"
) -> tuple[Path, list[Frame]]:
    """Return the frames folder of a run, and its rows of `names`; data: the folder of `--data`.

    InputError if a frame or its row is missing, or if the folder is outside the run and not
    recognised.
    """
    place = str(run.record.get(key, ""))
    if "\0" in place:
        raise InputError(
            f"{run.run_dir}: does not name the folder of its frames; give it with --data"
        )
    folder = run.run_dir / place if data is None else data
    is_trusted = data is not None or _lies_inside(run.run_dir, folder, names)
    if not is_trusted and not run.record.get("frames"):
        raise InputError(_ask(run, folder, "and run.json has no hashes to recognise them by"))
    for name in names:
        if not (folder / name).is_file():
            raise InputError(
                f"{run.run_dir}: its frame {folder / name} is missing; if the run was copied "
                "without its frames, give their folder with --data, or another reference"
            )
    rows = {frame.file_name: frame for frame in load_frames(folder)}
    if missing := [name for name in names if name not in rows]:
        raise InputError(f"{folder}: has no row for {missing[0]}, a frame of {run.run_dir}")
    frames = [rows[name] for name in names]
    num_changed = _count_changed(run, folder, frames, key)
    if not is_trusted and 2 * num_changed > len(frames):
        raise InputError(_ask(run, folder, f"and {num_changed} of {len(frames)} have other hashes"))
    if num_changed and (data is not None or not is_trusted):
        logger.warning(
            "%s: %d of %d frames changed since %s",
            *(folder, num_changed, len(frames), run.run_dir),
        )
    return folder, frames


def _lies_inside(run_dir: Path, folder: Path, names: Sequence[str]) -> bool:
    """Whether the folder and its frames are inside the run, after resolving links."""
    home = run_dir.resolve()
    return all(
        (folder / name).resolve().is_relative_to(home) for name in ("metadata.jsonl", *names)
    )


def _count_changed(run: Run, folder: Path, frames: Sequence[Frame], key: str) -> int:
    """Count the frames whose hash differs from the run's record; 0 if it has no hashes."""
    prefix = _PREFIXES[key]
    known: dict[str, str] = run.record.get("frames") or {}
    if not known:
        return 0
    counts: list[int] = []
    # A translation may use masks alone, a training with masks uses both.
    for has_images, has_masks in ((True, False), (False, True) if prefix else (True, True)):
        found = partial(hash_frames, folder, has_images=has_images, has_masks=has_masks)
        hashes = found(frames)
        left = [f for f in frames if known.get(prefix + f.file_name) != hashes[f.file_name]]
        # Without a split column the training split the rows itself, and ignored some captions.
        for split, has_text in product((None, "train", "val", "test"), (True, False)):
            taken = [replace(f, split=split, text=f.text if has_text else "") for f in left]
            hashes = found(taken)
            left = [f for f in left if known.get(prefix + f.file_name) != hashes[f.file_name]]
        counts.append(len(left))
    return min(counts)


def _ask(run: Run, folder: Path, reason: str) -> str:
    return (
        f"{run.run_dir}: its frames are outside the run, in {folder}, {reason}; to read them "
        f"nevertheless, give --data {folder}"
    )
