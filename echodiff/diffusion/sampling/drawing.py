"""Fill the folder of a generation job with images."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from echodiff.data.leaks import read_maker
from echodiff.diffusion.sampling.choosing import Chooser
from echodiff.diffusion.sampling.job import JOB, Job
from echodiff.diffusion.sampling.pipeline import Model
from echodiff.diffusion.sampling.prompts import Prompt
from echodiff.diffusion.sampling.sampler import Sampler, plan_batches
from echodiff.diffusion.sampling.sheet import SHEET
from echodiff.files import write_json_atomic
from echodiff.folders import FolderLock
from echodiff.frames.layout import IMAGES
from echodiff.frames.maker import ATTEMPT, GENERATE, GENERATED, REFUSED, attempt_of
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_gray_u8
from echodiff.metrics.segmenter import Segmenter
from echodiff.progress import ProgressBar

WAITING_IMAGES = 256
"""Most images drawn but not yet written; drawing waits from there on, as for a slow disk."""


def draw_frames(
    job: Job,
    sampler: Sampler,
    segmenter: Segmenter,
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

    def row_of(index: int, **choice: Any) -> Frame:
        frame = describe(job, index, sampler.prompt_of(index), choice)
        return frame if job.asked is None else job.asked.fill_row(frame, index, sampler.resolution)

    chooser = Chooser(sampler, segmenter, job.retries, row_of)
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
                for one in chooser.sample(batch):
                    mask_u8 = None
                    if job.asked is not None:
                        mask_u8 = job.asked.labels(one.index, sampler.resolution)
                    choice: dict[str, Any] = {}
                    if one.is_judged:
                        choice = {ATTEMPT: one.attempt, REFUSED: one.is_refused}
                    add(row_of(one.index, **choice), one.image_u8, mask_u8)
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
    first_batch = load_frames(job.out)[: job.batch_size]
    # Further draws are of the refused ones alone, so that these may have been drawn alone as well.
    firsts = [index for index, row in enumerate(first_batch) if not attempt_of(row)]
    if not firsts:
        return ""
    index = firsts[-1]
    together = read_gray_u8(job.out / IMAGES / file_name(index))
    ((_, alone),) = sampler.sample([index])
    difference = np.abs(together.astype(np.int16) - alone)
    return (
        f"drift: an image drawn alone differs by up to {difference.max()} grey levels "
        f"in {(difference > 0).mean():.1%} of its pixels; --exact removes that"
    )


def describe(job: Job, index: int, prompt: Prompt, choice: Mapping[str, Any]) -> Frame:
    """Build the row of image `index`. choice: which of its draws it is, where there are several."""
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
        settings=json.dumps({**job.settings, **own, **choice, "index": index}),
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
