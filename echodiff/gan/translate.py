"""`echodiff translate RUN DIR`: run a trained generator over a frames folder."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from echodiff.data.bad_files import BadFiles
from echodiff.data.leaks import TRAINED_ON, as_public_record, find_run, load_trained
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.frames.maker import TRANSLATE
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import of_frames
from echodiff.frames.writer import FramesWriter
from echodiff.images import (
    read_image_u8,
    read_mask_u8,
    read_size,
)
from echodiff.runs import RECORD, Run
from echodiff.settings.checks import Count, check_ranges
from echodiff.settings.command_line import parse, positional

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from echodiff.gan.preprocessing import Values
    from echodiff.gan.weights import LoadedGenerator

PROG = "echodiff translate"
FILES = {False: ("G_A.safetensors", "G.safetensors"), True: ("G_B.safetensors",)}
"""Where a run keeps its generators, by whether the way back is wanted."""
JOB = "translate.json"
"""What translated the frames, and which patients its training has seen."""


@dataclass(frozen=True, kw_only=True)
class TranslateConfig:
    """Translate every frame of a folder; masks, captions and patients are carried over.

    A label slice or pseudo image and the echo made of it are then a labelled pair. The result is
    simulated, and not for diagnosis.
    """

    run: Path = positional()
    """Run folder of `echodiff train-gan`, or a generator file: .safetensors, or a published
    .pth."""
    folder: Path = positional()
    """Frames folder to translate."""
    out: Path
    """Frames folder to write."""
    overwrite: bool = False
    """Replace the frames folder at --out."""
    back: bool = False
    """Use the generator from target to source (CycleGAN only)."""
    split: str | None = None
    """Translate only this split: train, val or test. Default: all rows."""
    resolution: Count | None = None
    """Side to which frames are padded and resized, in pixels. Default: that of the training; 256
    for a published generator; srgan doubles the size of the frames."""
    batch_size: Count = 1
    """Number of frames per forward pass (1 or more)."""
    threads: Count | None = None
    """Number of CPU threads (1 or more). Default: chosen by torch."""
    allow_bad: bool = False
    """Continue even if more than 5 % of the frames cannot be read or written."""

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        check_ranges(self)


def main(argv: list[str]) -> None:
    config = parse(TranslateConfig, argv, prog=PROG)
    weights = find_weights(config)

    import torch

    from echodiff.gan.networks.generators import check_sides
    from echodiff.gan.weights import load_generator
    from echodiff.progress import ProgressBar

    # --- Everything that was given, before anything is written
    loaded = load_generator(weights)
    needs_mask = loaded.facts.get("source_kind") == "mask"
    frames = load_frames(config.folder, require_mask=needs_mask)
    frames = [frame for frame in frames if config.split in (None, frame.split)]
    if not frames:
        raise InputError(f"--split {config.split}: no row of {config.folder} has it")
    check_names(config.folder, frames)
    bad = BadFiles(len(frames), allow=config.allow_bad)
    readable = [frame for frame in frames if is_readable(config.folder, frame, bad)]
    side = config.resolution or loaded.facts.get("resolution", 256)
    if config.resolution is None and loaded.facts.get("method") == "srgan":
        sides = (max(read_size(config.folder / frame.file_name)) for frame in readable)
        side = max(sides, default=side)
    try:
        check_sides(loaded.net, side, side)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"--resolution {side}: {error}") from error
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    settings = {
        "run": config.run.resolve().name,
        "generator": loaded.facts["generator"],
        "direction": "back" if config.back else "forward",
        "resolution": side,
    }
    reader = FrameReader(config.folder, readable, loaded, side)
    read = hash_frames(config.folder, frames, has_masks=True)
    job = {"settings": settings | {"split": config.split}, "weights": loaded.sha256, "frames": read}

    run = find_run(config.run)
    training = None if run is None else load_trained(run)
    record = {
        "weights": str(config.run),
        "weights_sha256": loaded.sha256,
        "source": str(config.folder),
        TRAINED_ON: None if training is None else as_public_record(training),
    }

    # --- Translate what is not there yet
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = loaded.net.to(device).eval()
    with FramesWriter(
        config.out,
        overwrite=config.overwrite,
        command=TRANSLATE,
        fingerprint=job,
        inputs=[config.run, config.folder, *(config.folder / f.file_name for f in frames)],
        beside=(JOB,),
    ) as writer:
        write_json_atomic(config.out / JOB, record)
        missing = [frame for frame in readable if as_png(frame.file_name) not in writer]
        with ProgressBar(total=len(missing), desc="translating", unit="frame") as bar:
            for start in range(0, len(missing), config.batch_size):
                batch = reader.read(missing[start : start + config.batch_size], bad)
                outputs = translate(net, reader, batch)
                for source, image_u8 in zip(batch, outputs, strict=True):
                    row = describe(source.frame, reader, loaded, json.dumps(settings))
                    try:
                        writer.add(row, image_u8, source.mask_u8)
                    except InputError as error:
                        bad.add(source.frame.file_name, str(error))
                    bar.update()
        if not writer.done:
            raise InputError(f"{config.folder}: not one frame could be translated")
    num_bad = len(bad.reasons)
    skipped = f"; {num_bad} of {len(frames)} were bad and skipped" if num_bad else ""
    print(f"{len(frames) - num_bad} frames in {config.out}{skipped}")


def find_weights(config: TranslateConfig) -> Path:
    """The generator's file: given itself, or in a finished run."""
    if config.run.is_file() or config.run.suffix in {".pth", ".safetensors"}:
        if config.back:
            raise InputError("--back: a single file holds one direction; give that of the other")
        return config.run
    run = Run.load(config.run)
    if run.record.get("command") != "train-gan":
        raise InputError(f"{config.run}: is no run of train-gan ({RECORD})")
    if not run.is_finished:
        raise InputError(f"{config.run}: is unfinished; run its command again")
    for name in FILES[config.back]:
        if (config.run / name).is_file():
            return config.run / name
    raise InputError(f"--back: {config.run} has no generator from target to source"
                     if config.back else f"{config.run}: holds no generator")  # fmt: skip


def is_readable(folder: Path, frame: Frame, bad: BadFiles) -> bool:
    """Whether what is needed of every image before the first is translated can be read."""
    try:
        read_size(folder / frame.file_name)
    except (InputError, OSError) as error:
        bad.add(frame.file_name, str(error))
        return False
    return True


class Source(NamedTuple):
    """One frame as a generator takes it, (C, side, side) uint8, and its mask as it is kept."""

    frame: Frame
    image_u8: "NDArray[np.uint8]"
    mask_u8: "NDArray[np.uint8] | None"


class FrameReader:
    """Reads frames and masks of one folder as a generator takes them."""

    def __init__(
        self, folder: Path, frames: list[Frame], loaded: "LoadedGenerator", side: int
    ) -> None:
        self.folder, self.facts, self.side = folder, loaded.facts, side
        self.output_side = side * int(getattr(loaded.net, "scale", 1))
        self.white = of_frames(folder, frames, known=loaded.facts.get("white_level"))

    def read(self, frames: list[Frame], bad: BadFiles) -> "list[Source]":
        """The frames that can be read; the others are counted as bad."""
        sources = []
        for frame in frames:
            try:
                sources.append(Source(frame, self._read_image(frame), self._read_mask(frame)))
            except (InputError, OSError) as error:
                bad.add(frame.file_name, str(error))
        return sources

    def _read_image(self, frame: Frame) -> "NDArray[np.uint8]":
        """One frame (C, side, side) as the generator's training read it."""
        from echodiff.gan.preprocessing import paint_mask, prepare_image, prepare_mask

        channels = self.facts["channels"]
        if self.facts.get("source_kind") != "mask":
            image = read_image_u8(self.folder / frame.file_name, max_value=self.white)
            return prepare_image(image, channels, self.side)
        mask = read_mask_u8(self.folder / str(frame.mask_file_name))
        mask = prepare_mask(mask, self.facts["labels"], self.side)
        return mask if self.facts["generator"] == "patch_cgan" else paint_mask(mask, channels)

    def _read_mask(self, frame: Frame) -> "NDArray[np.uint8] | None":
        """All labels of a frame's mask, in the place and size that its translation has."""
        from echodiff.gan.preprocessing import prepare_mask

        if frame.mask_file_name is None:
            return None
        return prepare_mask(read_mask_u8(self.folder / frame.mask_file_name), (), self.output_side)[
            0
        ]

    def spacing_mm(self, frame: Frame) -> float | None:
        """Side of a pixel of the translation, in mm."""
        if frame.spacing_mm is None:
            return None
        return frame.spacing_mm * max(read_size(self.folder / frame.file_name)) / self.output_side


def translate(
    net: "torch.nn.Module", reader: FrameReader, sources: "list[Source]"
) -> "Iterator[NDArray[np.uint8]]":
    """Translations (H, W) or (H, W, 3) of `sources`, in one pass."""
    import numpy as np
    import torch

    from echodiff.gan.preprocessing import from_values, to_values

    is_conditional = reader.facts["generator"] == "patch_cgan"
    taken: Values = "labels" if is_conditional else "pm1"
    given: Values = "01" if is_conditional else "pm1"
    if not sources:
        return
    images = torch.from_numpy(np.stack([source.image_u8 for source in sources]))
    with torch.inference_mode():
        outputs = net(to_values(images, taken).to(next(net.parameters()).device))
    for source, output in zip(sources, outputs, strict=True):
        if not output.isfinite().all():
            raise InputError(f"{source.frame.file_name}: its translation is not finite")
        yield from_values(output, given)


def describe(frame: Frame, reader: FrameReader, loaded: "LoadedGenerator", settings: str) -> Frame:
    """The row of a translation: what is still true of the frame, and what made it."""
    return dataclasses.replace(
        frame,
        file_name=as_png(frame.file_name),
        mask_file_name=None,
        modality=loaded.facts.get("modality") or frame.modality,
        vendor=None,  # the look is the target's now
        spacing_mm=reader.spacing_mm(frame),
        white_level=None,
        weights=loaded.sha256,
        settings=settings,
    )


def check_names(folder: Path, frames: list[Frame]) -> None:
    """InputError where two frames would become one file."""
    seen: dict[str, str] = {}
    for frame in frames:
        first = seen.setdefault(as_png(frame.file_name), frame.file_name)
        if first != frame.file_name:
            raise InputError(
                f"{folder}: {first} and {frame.file_name} would both become {as_png(first)}"
            )


def as_png(file_name: str) -> str:
    """The name of the PNG that an image becomes."""
    return Path(file_name).with_suffix(".png").as_posix()
