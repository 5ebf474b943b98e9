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
SMALLEST_PHANTOM, LARGEST_PHANTOM = 64, 1024


@dataclass(frozen=True)
class Reference:
    """The frames to score against, found but not yet read."""

    source: Path | list[Path] | None
    """A frames folder, or pictures; None stands for phantoms still to be drawn."""
    num_frames: int
    text: str
    """What they are, in words."""
    resolution: int
    """Side of phantoms still to be drawn, pixels."""
    seed: int
    """Of phantoms still to be drawn."""

    @contextmanager
    def opened(self) -> Iterator[Path | list[Path]]:
        """Yield the folder or the pictures; phantoms lie in a scratch folder for that long."""
        if self.source is not None:
            yield self.source
            return
        from echodiff.phantom.dataset import write_phantom_frames

        with tempfile.TemporaryDirectory(prefix="echodiff-phantom-") as scratch:
            folder = Path(scratch) / "frames"
            size = min(max(self.resolution, SMALLEST_PHANTOM), LARGEST_PHANTOM)
            write_phantom_frames(folder, num=self.num_frames, seed=self.seed, size=size)
            yield folder


def find_reference(config: GenerateConfig, run: Run | None, resolution: int) -> Reference:
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
        text = f"{num_frames} frames of {given}"
        return Reference(given, num_frames, text, resolution, config.seed)
    if given is not None:
        run = Run.load(given)
    pictures = [] if run is None else held_out_pictures(run)
    if pictures and run is not None:
        text = f"{len(pictures)} held-out frames of {run.run_dir}"
        return Reference(pictures, len(pictures), text, resolution, config.seed)
    if given is not None:
        raise InputError(f"--reference {given}: the run kept no frames apart")
    num_frames = max(MIN_PHANTOMS, config.num_images)
    text = f"{num_frames} phantom frames, for want of held-out ones"
    return Reference(None, num_frames, text, resolution, config.seed)


def held_out_pictures(run: Run) -> list[Path]:
    """Paths of the frames that `run` never trained on; InputError where they have moved."""
    # A run that drew its own phantoms names their folder relative to itself.
    folder = run.run_dir / str(run.record.get("data_dir", ""))
    pictures = [folder / str(name) for name in run.record.get("held_out", [])]
    for path in pictures:
        if not path.is_file():
            raise InputError(
                f"{run.run_dir}: its held-out frame {path} is not there: a run that was copied has "
                "no frames with it; --reference FOLDER names others to score against"
            )
    return pictures
