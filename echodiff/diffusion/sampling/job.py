"""Generation job: choose its output folder, and fill it with images."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from echodiff.data.leaks import TRAINED_ON, as_public_record, read_maker
from echodiff.diffusion.sampling.acceleration import Compile
from echodiff.diffusion.sampling.asked_masks import AskedMasks
from echodiff.diffusion.sampling.pipeline import Model
from echodiff.diffusion.sampling.prompts import Prompt, cycle_prompts
from echodiff.diffusion.sampling.reference import Reference, find_training
from echodiff.diffusion.sampling.sampler import Sampler, count_truncated, plan_batches
from echodiff.diffusion.sampling.settings import NO_WEIGHTS, GenerateConfig
from echodiff.diffusion.sampling.sheet import SHEET
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.folders import FolderLock
from echodiff.frames.layout import IMAGES, METADATA
from echodiff.frames.maker import GENERATE, GENERATED
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_gray_u8
from echodiff.progress import ProgressBar
from echodiff.runs import claim_free, compute_fingerprint, versions
from echodiff.settings.fields import as_dict
from echodiff.training.streams import DRAWN_BY

logger = logging.getLogger(__name__)

JOB = "generate.json"
"""What was drawn and with what, beside the frames; without `finished` the job is still open."""
WAITING_IMAGES = 256
"""Most images drawn but not yet written; drawing waits from there on, as for a slow disk."""


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
        asked=asked,
    )


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


def draw_frames(
    job: Job,
    sampler: Sampler,
    state: PartialState,
    *,
    overwrite: bool,
    lock: FolderLock | None,
    inputs: Sequence[Path],
) -> None:
    """Draw the missing images of a job, each process its share.

    The remaining batches are assigned in turn, so any number of processes draws the same set.
    """
    start = time.monotonic()
    writer = FramesWriter(
        job.out,
        overwrite=overwrite and state.is_main_process,
        command=GENERATE,
        fingerprint=job.identity,
        shard=state.process_index,
        inputs=inputs,
        beside=(JOB, SHEET, "metrics.json", "report.html"),
        lock=lock,
    )
    with _opened(writer, job, state):
        missing = [i for i in range(job.num_images) if file_name(i) not in writer]
        missing = broadcast_object_list([missing])[0]
        batches = plan_batches(missing, job.batch_size, sampler.exact)
        mine = batches[state.process_index :: state.num_processes]
        with (
            written_meanwhile(writer) as add,
            sampler.accelerated(job.compile, mine),
            ProgressBar(
                total=job.num_images,
                initial=job.num_images - len(missing),
                desc="drawing",
                unit="image",
                disable=not state.is_main_process,
            ) as bar,
        ):
            for number, batch in enumerate(mine):
                for index, image_u8 in sampler.sample(batch):
                    frame, mask_u8 = describe(job, index, sampler.prompt_of(index)), None
                    if job.asked is not None:
                        frame = job.asked.fill_row(frame, index, sampler.resolution)
                        mask_u8 = job.asked.labels(index, sampler.resolution)
                    add(frame, image_u8, mask_u8)
                # All processes draw as fast as this one, near enough for a bar.
                done = batches[number * state.num_processes : (number + 1) * state.num_processes]
                bar.update(sum(len(batch) for batch in done))
    if state.is_main_process:
        record_job(job, seconds=round(time.monotonic() - start, 1), num_drawn=len(missing))


@contextmanager
def written_meanwhile(
    writer: FramesWriter,
) -> Iterator[Callable[[Frame, NDArray[np.uint8], NDArray[np.uint8] | None], None]]:
    """Yield `writer.add` running in a thread, which compresses and writes images in order while the
    next batch is drawn.

    An error is raised at the next call, or at the end of the block; images still waiting are
    dropped.
    """
    waiting: deque[Future[Frame]] = deque()

    def add(
        frame: Frame, image_u8: NDArray[np.uint8], mask_u8: NDArray[np.uint8] | None = None
    ) -> None:
        while waiting and (waiting[0].done() or len(waiting) == WAITING_IMAGES):
            waiting.popleft().result()
        waiting.append(thread.submit(writer.add, frame, image_u8, mask_u8))

    with ThreadPoolExecutor(1) as thread:
        try:
            yield add
            while waiting:
                waiting.popleft().result()
        except BaseException:
            thread.shutdown(cancel_futures=True)
            raise


def measure_drift(job: Job, model: Model, sampler: Sampler) -> str:
    """Draw one image again, alone, and describe the difference; empty if it cannot differ."""
    if job.batch_size == 1 or sampler.exact or model.is_reproducible:
        return ""
    index = min(job.batch_size, job.num_images) - 1
    together = read_gray_u8(job.out / IMAGES / file_name(index))
    ((_, alone),) = sampler.sample([index])
    difference = np.abs(together.astype(np.int16) - alone)
    return (
        f"drift: an image drawn alone differs by up to {difference.max()} grey levels "
        f"in {(difference > 0).mean():.1%} of its pixels; --exact removes that"
    )


def describe(job: Job, index: int, prompt: Prompt) -> Frame:
    """Build the row of image `index`."""
    own: dict[str, Any] = {} if prompt.guidance is None else {"guidance": prompt.guidance}
    own |= {"negative": prompt.negative} if prompt.negative else {}
    return Frame(
        file_name=file_name(index),
        text=prompt.text,
        prompt=prompt.text,
        modality="echo",
        source=GENERATED,
        seed=job.seed,
        weights=str(job.record["weights_sha256"]),
        settings=json.dumps({**job.settings, **own, "index": index}),
    )


def file_name(index: int) -> str:
    """Return the file name of image `index`; names sort by index up to a million."""
    return f"{index:06d}.png"


def record_job(job: Job, **fields: Any) -> None:
    """Set fields of the job's record; `finished` marks that the scores are written as well."""
    path = job.out / JOB
    record = read_maker(path)
    write_json_atomic(path, record | fields)


@contextmanager
def _opened(writer: FramesWriter, job: Job, state: PartialState) -> Iterator[None]:
    """Open the shard of this process; rank 0 opens its own first and joins all at the end."""
    is_recorded = False
    try:
        with ExitStack() as stack:
            with state.main_process_first():
                stack.enter_context(writer)
                if state.is_main_process:
                    is_recorded = True
                    write_json_atomic(job.out / JOB, job.record)
            # Nobody appends a row while another still reads what is there.
            state.wait_for_everyone()
            yield
            state.wait_for_everyone()
    except BaseException:
        if is_recorded and not writer.is_begun:
            (job.out / JOB).unlink(missing_ok=True)
        raise
