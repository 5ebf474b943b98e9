"""Choose the real frames that a generated set is compared with."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from echodiff.data.leaks import TrainedOn, find_run, load_trained
from echodiff.data.reference import (
    RealFrames,
    choose_held_out,
    choose_reference,
    drop_trained,
    refuse_trained,
)
from echodiff.data.splits import warn_without_patient
from echodiff.diffusion.sampling.settings import NO_WEIGHTS, GenerateConfig
from echodiff.errors import InputError
from echodiff.runs import Run

if TYPE_CHECKING:
    from echodiff.diffusion.sampling.pipeline import Model

logger = logging.getLogger(__name__)

MIN_PHANTOMS = 64
SMALLEST_PHANTOM, LARGEST_PHANTOM = 64, 1024


@dataclass(frozen=True)
class Reference:
    """Reference frames, found but not read yet."""

    source: list[Path] | None
    """Pictures; None stands for phantoms still to be drawn."""
    num_frames: int
    text: str
    """What they are, in words."""
    resolution: int
    """Side of phantoms still to be drawn, pixels."""
    seed: int
    """Of phantoms still to be drawn."""

    @contextmanager
    def opened(self) -> Iterator[Path | list[Path]]:
        """Yield the folder or the images; phantoms are kept in a temporary folder meanwhile."""
        if self.source is not None:
            yield self.source
            return
        from echodiff.phantom.dataset import write_phantom_frames

        with tempfile.TemporaryDirectory(prefix="echodiff-phantom-") as scratch:
            folder = Path(scratch) / "frames"
            size = min(max(self.resolution, SMALLEST_PHANTOM), LARGEST_PHANTOM)
            write_phantom_frames(folder, num=self.num_frames, seed=self.seed, size=size)
            yield folder


def find_reference(
    config: GenerateConfig, model: Model, resolution: int, *, is_quiet: bool = False
) -> Reference:
    """Choose the reference before anything is drawn.

    --reference takes precedence: a frames folder, or a run folder for its held-out frames. The
    default is the held-out frames of the model's run, or phantoms in the styles of the base, drawn
    from --seed. Frames and patients that the model was trained on are refused. is_quiet: suppress
    warnings, because one of several processes prints them.
    """
    real = _choose_real(config, model.run)
    if config.data is not None and (real is None or real.folder != config.data):
        raise InputError(f"--data {config.data}: no frames of a run are read here")
    if real is None:
        if config.split is not None:
            raise InputError(f"--split {config.split}: requires --reference")
        num_frames = max(MIN_PHANTOMS, config.count)
        text = f"{num_frames} phantom frames, for want of held-out ones"
        return Reference(None, num_frames, text, resolution, config.seed)
    training = find_training(model)
    trainings = [training] if training else []
    if model.run is not None and real.source.resolve() == model.run.run_dir.resolve():
        real = drop_trained(real, trainings, is_quiet=is_quiet)
    else:
        refuse_trained(real, trainings)
        if training is None and model.weights != NO_WEIGHTS and not is_quiet:
            logger.warning(
                "cannot check whether the reference was used for training: no run.json names the "
                "training frames of %s",
                model.weights,
            )
    if not is_quiet:
        warn_without_patient(real.source, real.frames)
    return Reference(real.paths, len(real.frames), real.text, resolution, config.seed)


def find_training(model: Model) -> TrainedOn | None:
    """Return what the adapter was trained on; None without a record or an adapter."""
    run = model.run or (None if model.weights == NO_WEIGHTS else find_run(Path(model.weights)))
    return None if run is None else load_trained(run)


def held_out_pictures(run: Run) -> list[Path]:
    """Return the paths of the frames for final scores of `run`; InputError if they moved."""
    return choose_held_out(run).paths


def _choose_real(config: GenerateConfig, run: Run | None) -> RealFrames | None:
    """Choose the real frames of --reference, else of the run; None without both."""
    if config.reference is not None:
        return choose_reference(config.reference, config.split, data=config.data)
    if run is None or not run.record.get("held_out"):
        return None
    return choose_held_out(run, config.split, data=config.data)
