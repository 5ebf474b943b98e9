"""Generation job: its settings, what identifies it, and its output folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from echodiff.data.leaks import TRAINED_ON, as_public_record, read_maker
from echodiff.diffusion.sampling.acceleration import Compile
from echodiff.diffusion.sampling.asked_masks import AskedMasks
from echodiff.diffusion.sampling.choosing import CLEAR, check_judged
from echodiff.diffusion.sampling.pipeline import Model
from echodiff.diffusion.sampling.prompts import Prompt, cycle_prompts
from echodiff.diffusion.sampling.reference import Reference, find_training
from echodiff.diffusion.sampling.sampler import Sampler, count_truncated
from echodiff.diffusion.sampling.settings import NO_WEIGHTS, GenerateConfig
from echodiff.errors import InputError
from echodiff.folders import FolderLock
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import Frame
from echodiff.metrics.segmenter import load_segmenter
from echodiff.runs import claim_free, compute_fingerprint, versions
from echodiff.settings.fields import as_dict
from echodiff.training.streams import DRAWN_BY

logger = logging.getLogger(__name__)

JOB = "generate.json"
"""What was drawn and with what, beside the frames; without `finished` the job is still open."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that determines the images of one output folder."""

    out: Path
    num_images: int
    seed: int
    batch_size: int
    compile: Compile
    settings: dict[str, Any]
    fingerprint: str
    identity: dict[str, Any]
    """What the fingerprint is of."""
    record: dict[str, Any]
    retries: int = 0
    """Most further draws of an image."""
    asked: AskedMasks | None = None
    """Masks that the images are asked for."""


def build_sampler(
    config: GenerateConfig,
    prompts: Sequence[Prompt],
    model: Model,
    asked: AskedMasks | None = None,
) -> Sampler:
    """Build the sampler from the settings of the command; InputError for masks that do not fit."""
    control = None
    if asked is not None:
        assert model.masked is not None
        control = asked.control(model.masked.network, model.masked.channels,
                                config.conditioning_scale)  # fmt: skip
    sampler = Sampler(
        model.pipeline,
        cycle_prompts(prompts),
        seed=config.seed,
        steps=config.solver.steps,
        guidance=config.guidance,
        scheduler=config.solver.scheduler,
        resolution=model.resolution,
        exact=config.exact,
        guidance_interval=config.guidance_interval,
        control=control,
    )
    if asked is not None and model.masked is not None:
        asked.check(model.masked.channels, sampler.resolution)
    return sampler


@contextmanager
def open_job(
    config: GenerateConfig,
    sampler: Sampler,
    model: Model,
    state: PartialState,
    asked: AskedMasks | None = None,
) -> Iterator[tuple[Job, FolderLock | None]]:
    """Choose settings and output folder on rank 0, and broadcast them to the other processes.

    Rank 0 holds the folder's lock until the block ends.
    """
    job, lock = None, None
    try:
        if state.is_main_process:
            job = _plan_job(config, sampler, model, asked)
            if config.out is not None:
                lock = FolderLock(config.out).acquire()
            else:
                lock = _lock_out(Path("generated"), config.stem, job.fingerprint)
            job = dataclasses.replace(job, out=lock.folder)
        settled: Job = broadcast_object_list([job])[0]
        yield settled, lock
    finally:
        if lock is not None:
            lock.release()


def _plan_job(
    config: GenerateConfig, sampler: Sampler, model: Model, asked: AskedMasks | None
) -> Job:
    num_cut = count_truncated(model.pipeline, sorted({prompt.text for prompt in sampler.prompts}))
    if num_cut:
        logger.warning("%d prompts are longer than the text encoder reads: cut", num_cut)
    # Captions of masks are drawn with their masks, and fewer of both by request.
    is_of_file = config.prompt_file is not None
    not_drawn = find_not_drawn(sampler.prompts, config.count) if is_of_file else []
    if not_drawn:
        logger.warning(
            "%d of %d prompts are never drawn: --num-images %d takes the first of the cycle",
            *(len(not_drawn), len(set(sampler.prompts)), config.count),
        )
    settings = {
        "steps": config.solver.steps,
        "guidance": config.guidance,
        "guidance_interval": list(config.guidance_interval),
        "lora_scale": model.lora_scale,
        "scheduler": config.solver.scheduler,
        "exact": config.exact,
        "resolution": sampler.resolution,
        "dtype": str(model.pipeline.unet.dtype).removeprefix("torch."),
        "base_sha256": model.base_sha256,
    }
    if model.masked is not None:
        settings |= {
            "kind": model.masked.kind,
            "conditioning_scale": config.conditioning_scale,
            "lora_sha256": model.masked.lora_sha256,
        }
    if config.retries:
        check_judged(_list_rows(config, sampler, asked), config.retries)
        segmenter_sha256 = load_segmenter(config.segmenter).sha256
        settings |= {
            "retries": config.retries, "clear": CLEAR, "segmenter_sha256": segmenter_sha256,
        }  # fmt: skip
    if asked is not None and asked.asked:
        settings["labels"] = [label.name for label in sorted(asked.asked)]
    drawn_by = {"noise": DRAWN_BY, "seed": config.seed, "num_images": config.count}
    identity = {
        "settings": {**settings, **drawn_by},
        "weights": model.weights_sha256,
        "prompts": {
            f"prompt {number}": dataclasses.asdict(prompt)
            for number, prompt in enumerate(sampler.prompts, start=1)
        },
        **({} if asked is None else asked.to_identity()),
    }
    training = find_training(model)
    fingerprint = compute_fingerprint(identity)
    record = {
        "fingerprint": fingerprint,
        "config": as_dict(config) | {"num_images": config.count},
        "base": model.base,
        "base_sha256": model.base_sha256,
        "weights": model.weights,
        "weights_sha256": model.weights_sha256,
        TRAINED_ON: None if training is None else as_public_record(training),
        "settings": settings,
        "prompts_not_drawn": not_drawn,
        "float32": "ieee",  # `start_processes`
        "versions": versions(),
    }
    return Job(
        out=Path(),
        num_images=config.count,
        seed=config.seed,
        batch_size=config.batch_size,
        # Compiled code rounds in other ways, and `auto` goes by how much is left to draw.
        compile="none" if config.exact else config.compile,
        settings=settings,
        fingerprint=fingerprint,
        identity=identity,
        record=record,
        retries=config.retries,
        asked=asked,
    )


def _list_rows(
    config: GenerateConfig, sampler: Sampler, asked: AskedMasks | None
) -> Iterator[Frame]:
    """What every image is to show."""
    for index in range(config.count):
        row = Frame(file_name="", text=sampler.prompt_of(index).text, modality="echo")
        yield row if asked is None else asked.fill_row(row, index, sampler.resolution)


def find_not_drawn(cycle: Sequence[Prompt], num_images: int) -> list[str]:
    """Return the prompts that no image of the set uses, in the order of the file."""
    drawn = set(cycle[:num_images])
    return [prompt.text for prompt in dict.fromkeys(cycle) if prompt not in drawn]


def list_inputs(config: GenerateConfig, model: Model, reference: Reference) -> list[Path]:
    """List all local inputs, which must not be, contain or lie in the output."""
    inputs = [*map(Path, (model.base, model.weights, *config.features))]
    given = (config.prompt_file, config.masks, config.reference)
    inputs += [path for path in given if path is not None]
    inputs += [Path(config.lora)] if config.lora not in (None, NO_WEIGHTS) else []
    if model.run is not None:
        inputs.append(model.run.run_dir / str(model.run.record.get("data_dir", "")))
    return [*inputs, *(reference.source or ())]


def _lock_out(root: Path, stem: str, fingerprint: str) -> FolderLock:
    """Lock the unfinished job with these settings under `root`, else the next free name."""
    for path in sorted(root.glob(f"{stem}-*/{JOB}")):
        with suppress(InputError):  # damaged, or another process draws it
            record = read_maker(path)
            if record.get("fingerprint") == fingerprint and "finished" not in record:
                return FolderLock(path.parent).acquire()
    return claim_free(root, stem)


def is_drawn(job: Job, overwrite: bool) -> bool:
    """Whether all frames of this job are written, so that only scores are missing."""
    path = job.out / JOB
    if overwrite or not path.is_file() or not (job.out / METADATA).is_file():
        return False
    record = read_maker(path)
    return record.get("fingerprint") == job.fingerprint and "finished" not in record
