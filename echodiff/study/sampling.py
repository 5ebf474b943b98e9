"""Draw the images of a source from a run, by the commands that a person would type."""

import dataclasses
import importlib
import json
import runpy
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from echodiff.data.leaks import find_leaks, load_trained
from echodiff.data.splits import fold_id
from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import shipped, write_json_atomic, write_text_atomic
from echodiff.folders import FolderLock, clear_folder
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame, to_line
from echodiff.published import TRAIN_CONTROLNET
from echodiff.runs import Run
from echodiff.study.candidates import find_patient
from echodiff.study.init_config import RUN, StudyInitConfig

DRAWN = "drawn"
"""Folder of the images that are drawn for a study, one frames folder per source below it."""
REQUEST = "request.json"
INPUT, IMAGES = "input", "frames"
SPARE = 0.05
"""Share of images drawn besides those wanted, in place of near-duplicates."""


def find_place(config: StudyInitConfig, name: str) -> Path:
    """The frames folder of a source; its images are drawn now if it is a run."""
    place = config.sources[name]
    if not place.startswith(RUN):
        return Path(place)
    return draw_run(config, name, Path(place.removeprefix(RUN)))


class Request(NamedTuple):
    """What a run is asked for."""

    record: dict[str, Any]
    """What the images depend on; the same request is not drawn twice."""
    draw: Callable[[], None]


def draw_run(config: StudyInitConfig, name: str, run_dir: Path) -> Path:
    """Draw the images of one source with `generate.py` or `echodiff translate`.

    An interrupted drawing is resumed, a finished one of the same request is used again. InputError
    if the run is unfinished, or lacks --gan-input or prompts.
    """
    run = Run.load(run_dir)
    if not run.is_finished:
        raise InputError(f"--source {name}: {run_dir} is unfinished; run its command again")
    folder = config.study / DRAWN / name
    wanted = config.pool + config.practice
    wanted += max(1, int(SPARE * wanted))
    ask = _ask_translation if run.record.get("command") == "train-gan" else _ask_generation
    request = ask(config, name, run, wanted)
    known = read_record(folder / REQUEST) if (folder / REQUEST).is_file() else None
    if known != request.record:
        _clear(folder)
    elif (folder / IMAGES / METADATA).is_file():
        print(f"{name}: drawn before, in {folder / IMAGES}")
        return folder / IMAGES
    write_json_atomic(folder / REQUEST, request.record)
    print(f"{name}: drawing {wanted} images by {run_dir}", flush=True)
    request.draw()
    return folder / IMAGES


def _ask_generation(config: StudyInitConfig, name: str, run: Run, wanted: int) -> Request:
    """Ask `generate.py` for images of the prompts, or of the masks of --gan-input."""
    folder = config.study / DRAWN / name
    flags = ["--weights", str(run.run_dir), "--num-images", str(wanted), "--seed", str(config.seed)]
    flags += ["--features", "texture", "--guidance", str(config.guidance)]
    flags += ["--lora-scale", str(config.lora_scale), "--batch-size", str(config.batch_size)]
    flags += [] if config.steps is None else ["--steps", str(config.steps)]
    flags += ["--retries", str(config.retries)] if config.retries else []
    has_masks = run.record.get("command") == TRAIN_CONTROLNET
    if has_masks:
        masks = config.input_of(name)
        if masks is None:
            raise InputError(f"--gan-input: {name} is a run of train-controlnet and needs masks")
        flags += ["--masks", str(masks)]
    prompts = folder / "prompts.txt"
    lines = [] if has_masks and not config.prompt_file else _prompts(config)
    flags += ["--prompt-file", str(prompts)] if lines else []
    flags += ["--out", str(folder / IMAGES)]
    record = {"flags": flags, "prompts": lines, "weights": str(run.record.get("weights_sha256"))}

    def draw() -> None:
        if lines:
            write_text_atomic(prompts, "\n".join(lines) + "\n")
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # as it does itself
            runpy.run_path(str(shipped("generate.py")))["main"](flags)

    return Request(record, draw)


def _prompts(config: StudyInitConfig) -> list[str]:
    """The prompts of --prompt-file, or the captions of the real source."""
    if config.prompt_file is not None:
        try:
            return config.prompt_file.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"--prompt-file {config.prompt_file}: is not UTF-8 text") from error
    folder = Path(next(iter(config.sources.values())))
    captions = dict.fromkeys(" ".join(frame.text.split()) for frame in load_frames(folder))
    # What a prompt file reads as a comment or an option is part of these captions.
    texts = [text.replace("|", ",").lstrip("#") for text in captions if text.strip("# ")]
    if not texts:
        raise InputError(f"--prompt-file: {folder} has no captions to draw images for")
    order = np.random.default_rng([config.seed, 1]).permutation(len(texts))
    return [texts[place] for place in order]


def _ask_translation(config: StudyInitConfig, name: str, run: Run, wanted: int) -> Request:
    """Ask `echodiff translate` for translations of some frames of --gan-input."""
    folder, inputs = config.study / DRAWN / name, config.input_of(name)
    if inputs is None and config.design == "paired":
        inputs = Path(config.sources[config.names[0]])
    if inputs is None:
        raise InputError(f"--gan-input: {name} is a run of train-gan and needs frames to translate")
    frames = choose_inputs(run, name, inputs, wanted, config.seed)
    flags = [str(run.run_dir), str(folder / INPUT), "--out", str(folder / IMAGES)]
    flags += ["--batch-size", str(config.batch_size)]
    record = {"flags": flags, "input": str(inputs.resolve()),
              "frames": [frame.file_name for frame in frames],
              "weights": json.dumps(run.record.get("networks_sha256", {}))}  # fmt: skip

    def draw() -> None:
        copy_frames(inputs, frames, folder / INPUT)
        importlib.import_module("echodiff.gan.translate").main(flags)

    return Request(record, draw)


def choose_inputs(run: Run, name: str, inputs: Path, wanted: int, seed: int) -> list[Frame]:
    """Frames to translate: those that the training has not seen first, each patient in turn.

    A frame without a patient is marked by its name, so that two generators' versions of it are
    known to show one heart.
    """
    frames = load_frames(inputs)
    training = load_trained(run)
    seen = find_leaks(inputs, frames, [training]) if training is not None else []
    names = {leak.frame.file_name for leak in seen}
    order = np.random.default_rng([seed, 2]).permutation(len(frames))
    met: dict[str, int] = {}
    ranked = []
    for place, index in enumerate(order):
        frame = frames[index]
        patient = find_patient(inputs, frame)
        met[patient] = met.get(patient, 0) + 1
        ranked.append((frame.file_name in names, met[patient], place, index))
    chosen = sorted(entry[3] for entry in sorted(ranked)[:wanted])
    num_seen = sum(frames[index].file_name in names for index in chosen)
    if num_seen:
        print(f"{name}: {num_seen} of {len(chosen)} frames to translate were in its training")
    return [_mark(inputs, frames[index]) for index in chosen]


def _mark(folder: Path, frame: Frame) -> Frame:
    if fold_id(frame.patient_id or "") or frame.pair_id:
        return frame
    return dataclasses.replace(frame, pair_id=find_patient(folder, frame).removeprefix("pair "))


def copy_frames(source: Path, frames: Sequence[Frame], folder: Path) -> None:
    """Write some frames of a folder, with their masks, as a frames folder."""
    for frame in frames:
        for name in filter(None, (frame.file_name, frame.mask_file_name)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    write_text_atomic(folder / METADATA, "".join(to_line(frame) + "\n" for frame in frames))


def _clear(folder: Path) -> None:
    """Remove the images of another request; a folder that this module did not write is refused."""
    if not folder.exists():
        return
    if not (folder / REQUEST).is_file():
        raise InputError(f"{folder}: was not written by echodiff study; move it away")
    with FolderLock(folder, beside=True):
        clear_folder(folder, lambda _: True, last=REQUEST)
