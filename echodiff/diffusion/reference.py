"""Which real frames a generated set is held against."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from echodiff.config import InputError
from echodiff.diffusion.generate_config import GenerateConfig
from echodiff.frames import load_frames
from echodiff.runs import RECORD, Run

MIN_PHANTOMS = 64


@dataclass(frozen=True)
class Reference:
    """The frames to score against, found but not yet read."""

    source: Path | list[Path] | None
    """A frames folder, or pictures; None stands for phantoms still to be drawn."""
    num_frames: int
    seed: int
    text: str
    """What they are, in words."""

    @contextmanager
    def opened(self) -> Iterator[Path | list[Path]]:
        """Yield the folder or the pictures; phantoms lie in a scratch folder for that long."""
        if self.source is not None:
            yield self.source
            return
        from echodiff.phantom.dataset import write_phantom_frames

        with tempfile.TemporaryDirectory(prefix="echodiff-phantom-") as scratch:
            folder = Path(scratch) / "frames"
            write_phantom_frames(folder, num=self.num_frames, seed=self.seed)
            yield folder


def find_reference(config: GenerateConfig, run: Run | None) -> Reference:
    """Settle what to score against, before anything is drawn.

    --reference wins: a frames folder, or a run folder for its held-out frames. Without it the
    held-out frames of `run`; without those, phantoms in the base's own styles, drawn from --seed.
    """
    given = config.reference
    if given is not None and not (given / RECORD).is_file():
        try:
            num_frames = len(load_frames(given))
        except InputError as error:
            raise InputError(f"--reference {error}") from None
        return Reference(given, num_frames, config.seed, f"{num_frames} frames of {given}")
    if given is not None:
        run = Run.load(given)
    pictures = [] if run is None else held_out_pictures(run)
    if pictures and run is not None:
        text = f"{len(pictures)} held-out frames of {run.run_dir}"
        return Reference(pictures, len(pictures), config.seed, text)
    if given is not None:
        raise InputError(f"--reference {given}: the run kept no frames apart")
    num_frames = max(MIN_PHANTOMS, config.num_images)
    text = f"{num_frames} phantom frames, for want of held-out ones"
    return Reference(None, num_frames, config.seed, text)


def held_out_pictures(run: Run) -> list[Path]:
    """Paths of the frames that `run` never trained on; InputError where they have moved."""
    folder = Path(str(run.record.get("data_folder", "")))
    pictures = [folder / str(name) for name in run.record.get("held_out", [])]
    for path in pictures:
        if not path.is_file():
            raise InputError(f"{run.run_dir}: its held-out frame {path} is not there any more")
    return pictures
