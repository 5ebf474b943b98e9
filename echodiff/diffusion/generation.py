"""One job of drawing: which model, into which folder, and the loop that fills it."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from echodiff.config import InputError, as_dict
from echodiff.diffusion.base import base_sha256, load_base, num_unet_parameters
from echodiff.diffusion.generate_config import NO_WEIGHTS, GenerateConfig
from echodiff.diffusion.lora import find_lora, load_lora
from echodiff.diffusion.prompts import Prompt, cycle_prompts
from echodiff.diffusion.sample import Sampler, count_truncated, plan_batches
from echodiff.files import write_json_atomic
from echodiff.frames import METADATA, Frame, FramesWriter, load_frames
from echodiff.images import contact_sheet, read_gray_u8, write_image
from echodiff.runs import RECORD, Run, compute_fingerprint, newest_finished_run, next_free, versions
from echodiff.training.precision import choose_precision, choose_threads

logger = logging.getLogger(__name__)

SHEET = "sheet.png"
SHEET_IMAGES = 64
JOB = "generate.json"
"""What was drawn and with what, beside the frames; without `finished` the job is still open."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Base and adapter, loaded and ready, with what identifies them."""

    pipeline: Any
    base: str
    base_sha256: str
    run: Run | None
    """The training run the adapter comes from, where it is one."""
    weights: str
    """Run folder or file of the adapter; `none` for the bare base."""
    weights_sha256: str
    """Of the adapter; of the base where there is no adapter."""
    resolution: int | None
    """Side in pixels; None is the base's own."""
    is_reproducible: bool
    """fp32 on a CPU: an image is the same to one grey level in any batch."""

    @property
    def name(self) -> str:
        """What drew the images, for a person."""
        return self.base if self.weights == NO_WEIGHTS else f"{self.base} with {self.weights}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that decides the pictures of one output folder."""

    out: Path
    num_images: int
    seed: int
    batch_size: int
    settings: dict[str, Any]
    fingerprint: str
    record: dict[str, Any]


def start_processes() -> PartialState:
    """Join the processes of `accelerate launch`; alone where there is none."""
    state = PartialState()
    choose_threads(None, state.num_processes)
    return state


def load_model(config: GenerateConfig, device: torch.device) -> Model:
    """Load what --base and --weights ask for onto `device`; everything that does not fit is refused
    here, before anything is written."""
    path = find_weights(config.weights)
    run = Run.load(path) if path is not None and (path / RECORD).is_file() else None
    trained_on = {} if run is None else run.record
    base = config.base or str(trained_on.get("base") or "tiny")
    digest = base_sha256(base)
    if trained_on.get("base_sha256") not in (None, digest):
        logger.warning("--base %s: not the base %s was trained on", base, path)
    precision = choose_precision(
        config.mixed_precision, num_parameters=num_unet_parameters(base), device=device
    )
    pipeline = load_base(base, precision.weight_dtype)
    weights_sha256 = digest
    if path is not None:
        weights_sha256 = load_lora(pipeline, path)
        if precision.weight_dtype == torch.float32:
            # Merged into the base the adapter costs nothing; in 16 bit its small updates would be
            # rounded away, so there it stays beside it.
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()
    for network in (pipeline.unet, pipeline.vae):
        # Convolutions are a third faster so, on CPUs and GPUs alike.
        network.to(memory_format=torch.channels_last)
    resolution = config.resolution or trained_on.get("resolution")
    return Model(
        pipeline=pipeline.to(device),
        base=base,
        base_sha256=digest,
        run=run,
        weights=NO_WEIGHTS if path is None else str(path),
        weights_sha256=weights_sha256,
        resolution=None if resolution is None else int(resolution),
        is_reproducible=device.type == "cpu" and precision.weight_dtype == torch.float32,
    )


def find_weights(weights: str | None) -> Path | None:
    """The run folder or file of --weights; None is the bare base."""
    if weights == NO_WEIGHTS:
        return None
    if weights is None:
        return newest_finished_run(command="train_lora")
    path = Path(weights)
    try:
        find_lora(path)
    except InputError as error:
        raise InputError(f"--weights {error}") from None
    return path


def build_sampler(config: GenerateConfig, prompts: Sequence[Prompt], model: Model) -> Sampler:
    """The sampler of a command's settings."""
    return Sampler(
        model.pipeline,
        cycle_prompts(prompts),
        seed=config.seed,
        steps=config.steps,
        guidance=config.guidance,
        scheduler=config.scheduler,
        resolution=model.resolution,
        exact=config.exact,
    )


def plan_job(config: GenerateConfig, sampler: Sampler, model: Model, state: PartialState) -> Job:
    """Settle settings and output folder: rank 0 looks at the disk, the others are told."""
    job = _plan_job(config, sampler, model) if state.is_main_process else None
    settled: Job = broadcast_object_list([job])[0]
    return settled


def _plan_job(config: GenerateConfig, sampler: Sampler, model: Model) -> Job:
    num_cut = count_truncated(model.pipeline, sorted({prompt.text for prompt in sampler.prompts}))
    if num_cut:
        logger.warning("%d prompts are longer than the text encoder reads: cut", num_cut)
    settings = {
        "steps": config.steps,
        "guidance": config.guidance,
        "scheduler": config.scheduler,
        "exact": config.exact,
        "resolution": sampler.resolution,
        "dtype": str(model.pipeline.unet.dtype).removeprefix("torch."),
        "base_sha256": model.base_sha256,
    }
    identity = {
        **settings,
        "weights_sha256": model.weights_sha256,
        "seed": config.seed,
        "num_images": config.num_images,
        "prompts": [dataclasses.asdict(prompt) for prompt in sampler.prompts],
    }
    fingerprint = compute_fingerprint(identity)
    record = {
        "fingerprint": fingerprint,
        "config": as_dict(config),
        "base": model.base,
        "base_sha256": model.base_sha256,
        "weights": model.weights,
        "weights_sha256": model.weights_sha256,
        "settings": settings,
        "versions": versions(),
    }
    return Job(
        out=config.out or find_out(Path("generated"), config.prompt_file.stem, fingerprint),
        num_images=config.num_images,
        seed=config.seed,
        batch_size=config.batch_size,
        settings=settings,
        fingerprint=fingerprint,
        record=record,
    )


def find_out(root: Path, stem: str, fingerprint: str) -> Path:
    """The open job of these settings under `root`, else the next free name."""
    for path in sorted(root.glob(f"{stem}-*/{JOB}")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("fingerprint") == fingerprint and "finished" not in record:
            return path.parent
    return next_free(root, stem)


def is_drawn(job: Job, overwrite: bool) -> bool:
    """Whether all frames of this very job are there, so that only the scores are missing."""
    path = job.out / JOB
    if overwrite or not path.is_file() or not (job.out / METADATA).is_file():
        return False
    record = json.loads(path.read_text(encoding="utf-8"))
    return record.get("fingerprint") == job.fingerprint and "finished" not in record


def draw_frames(job: Job, sampler: Sampler, state: PartialState, *, overwrite: bool) -> None:
    """Fill the job's folder, each process its share of what is missing.

    The batches left are dealt round by round, so any number of processes draws the same set.
    """
    start = time.monotonic()
    with _open_writer(job, state, overwrite) as writer:
        missing = [i for i in range(job.num_images) if file_name(i) not in writer]
        missing = broadcast_object_list([missing])[0]
        batches = plan_batches(missing, job.batch_size, sampler.exact)
        mine = batches[state.process_index :: state.num_processes]
        with tqdm(
            total=job.num_images,
            initial=job.num_images - len(missing),
            desc="drawing",
            unit="image",
            disable=not state.is_main_process,
        ) as bar:
            for number, batch in enumerate(mine):
                for index, image_u8 in sampler.sample(batch):
                    writer.add(describe(job, index, sampler.prompt_of(index)), image_u8)
                # All processes draw as fast as this one, near enough for a bar.
                done = batches[number * state.num_processes : (number + 1) * state.num_processes]
                bar.update(sum(len(batch) for batch in done))
    if state.is_main_process:
        record_job(job, seconds=round(time.monotonic() - start, 1), num_drawn=len(missing))


def write_sheet(job: Job) -> None:
    """Contact sheet of the first images, their prompts above them."""
    frames = load_frames(job.out)[:SHEET_IMAGES]
    sheet = contact_sheet(
        [read_gray_u8(job.out / frame.file_name) for frame in frames],
        columns=8,
        labels=[frame.text for frame in frames],
        cell=max(128, min(256, int(job.settings["resolution"]))),
    )
    write_image(job.out / SHEET, sheet)


def measure_drift(config: GenerateConfig, model: Model, sampler: Sampler) -> str:
    """Draw one image in a batch and alone; say how far they differ, or nothing where none can."""
    if config.batch_size == 1 or config.exact or model.is_reproducible:
        return ""
    indices = range(min(config.batch_size, config.num_images))
    together = dict(sampler.sample(indices))[indices[-1]]
    alone = dict(sampler.sample(indices[-1:]))[indices[-1]]
    difference = np.abs(together.astype(np.int16) - alone)
    return (
        f"drift: an image drawn alone differs by up to {difference.max()} grey levels "
        f"in {(difference > 0).mean():.1%} of its pixels; --exact removes that"
    )


def describe(job: Job, index: int, prompt: Prompt) -> Frame:
    """The row of image `index`."""
    own: dict[str, Any] = {} if prompt.guidance is None else {"guidance": prompt.guidance}
    own |= {"negative": prompt.negative} if prompt.negative else {}
    return Frame(
        file_name=file_name(index),
        text=prompt.text,
        prompt=prompt.text,
        modality="echo",
        source="generated",
        seed=job.seed,
        weights=str(job.record["weights_sha256"]),
        settings=json.dumps({**job.settings, **own, "index": index}),
    )


def file_name(index: int) -> str:
    """Picture of image `index`; sorted by name is sorted by index up to a million."""
    return f"{index:06d}.png"


def record_job(job: Job, **fields: Any) -> None:
    """Set fields of the job's record; `finished` closes it: the scores are there too."""
    path = job.out / JOB
    record = json.loads(path.read_text(encoding="utf-8"))
    write_json_atomic(path, record | fields)


@contextmanager
def _open_writer(job: Job, state: PartialState, overwrite: bool) -> Iterator[FramesWriter]:
    """This process's shard of the folder: rank 0 opens it first and joins it when all are done."""
    writer = FramesWriter(
        job.out,
        overwrite=overwrite and state.is_main_process,
        fingerprint=job.fingerprint,
        shard=state.process_index,
    )
    with ExitStack() as stack:
        with state.main_process_first():
            stack.enter_context(writer)
            if state.is_main_process:
                for name in (SHEET, "metrics.json", "report.html"):  # of a set overwritten
                    (job.out / name).unlink(missing_ok=True)
                write_json_atomic(job.out / JOB, job.record)
        # Nobody appends a row while another still reads what is there.
        state.wait_for_everyone()
        yield writer
        state.wait_for_everyone()
