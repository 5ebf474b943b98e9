"""Sets of images: the masks and styles that they are drawn for, and the frames folder of each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echodiff.anatomy import Label
from echodiff.data.leaks import TRAINED_ON, as_public_record, load_trained
from echodiff.files import write_json_atomic
from echodiff.frames.maker import GENERATE
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import from_pm1, read_mask_u8
from echodiff.progress import ProgressBar
from echodiff.runs import Run
from echodiff.segmentation.labelled_frames import encode_labels
from echodiff.survey.arm_trainer import encode_masks
from echodiff.survey.frames import vendor_of
from echodiff.training.streams import Stream, build_stream, sample_normal

DRAWN_AT_ONCE = 16
RECORD = "generate.json"
MIXED = "mixed"
"""Vendor column of images drawn in a mixture of styles."""
REACH = 2.0
"""Distance of random styles from the mean of the training styles, over that of mixtures of them."""
OWN, SYNTHETIC, RANDOM_STYLES = "own", "synthetic", "random-styles"
"""Titles of sets: held-out masks in their own styles; training masks in their own styles, and in
random ones."""


@dataclass(frozen=True)
class Asked:
    """What the images of one set are drawn for."""

    title: str
    folder: Path
    """Frames folder of the masks."""
    rows: tuple[Frame, ...]
    """One per image."""
    styles: NDArray[np.float32]
    """(N, V) weights of the training vendors; they sum to 1."""
    vendors: tuple[str, ...]
    """Vendor column of every image."""
    words: tuple[str, ...]
    """Vendor of every image as its caption names it; of a mixture the strongest."""
    num_steps: int
    """Sampler steps, where the arm has any."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def captions(self) -> list[str]:
        """Captions with the scanner in words, for arms that read them."""
        return [write_words(row, vendor) for row, vendor in zip(self.rows, self.words, strict=True)]


class Draws(Protocol):
    """Draws images: a generator trained here, or a ControlNet."""

    @property
    def weights_sha256(self) -> str: ...
    @property
    def run_dir(self) -> Path: ...
    @property
    def decoder_sha256(self) -> str: ...

    def draw_set(self, asked: Asked, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Images (S, S) of some rows; each depends on the seed of the training and its row."""
        ...


def write_words(row: Frame, vendor: str) -> str:
    """The caption of a row with `vendor` for its scanner: that of the row, if named, is left out.

    `echodiff prepare` writes the scanner of an MR frame as the last clause of its caption.
    """
    own = f"{row.vendor} scanner"
    clauses = [clause for clause in row.text.split(", ") if clause and clause != own]
    return ", ".join([*clauses, f"{vendor} scanner"])


def ask_own(
    title: str, folder: Path, frames: Sequence[Frame], known: Sequence[str], num: int, steps: int
) -> Asked:
    """`num` images, each in the style of the vendor of its mask: all masks in turn, or, of more
    masks than images, some that are spread over them, so that no patient or vendor comes last."""
    step = max(1.0, len(frames) / num)
    rows = tuple(frames[int(place * step) % len(frames)] for place in range(num))
    vendors = tuple(vendor_of(row) for row in rows)
    places = [known.index(name) for name in vendors]
    styles = np.eye(len(known), dtype=np.float32)[places]
    return Asked(title, folder, rows, styles, vendors, vendors, steps)


def ask_vendor(asked: Asked, vendor: str, known: Sequence[str]) -> Asked:
    """The same masks, all in the style of one vendor: style transfer at fixed anatomy."""
    styles = np.zeros_like(asked.styles)
    styles[:, known.index(vendor)] = 1
    vendors = (vendor,) * len(asked)
    return replace(
        asked, title=name_style(vendor, known), styles=styles, vendors=vendors, words=vendors
    )


def name_style(vendor: str, known: Sequence[str]) -> str:
    """Title of the set in the style of a vendor, which may have any name."""
    return f"style-{known.index(vendor)}-{re.sub(r'[^0-9A-Za-z]+', '-', vendor)[:40]}"


def ask_random_styles(asked: Asked, known: Sequence[str], *, seed: int) -> Asked:
    """The same masks in styles drawn apart from the anatomy: mixtures of the training vendors,
    uniform over all of them, stretched about their mean by `REACH`.

    A mixture is a scanner between those of the training; a stretched one may lie beyond them, as a
    new scanner does, and has weights below 0 and above 1. They sum to 1.
    """
    mean = 1 / asked.styles.shape[1]
    mixtures = [build_stream(seed, Stream.MASK, row).dirichlet(np.ones(asked.styles.shape[1]))
                for row in range(len(asked))]  # fmt: skip
    drawn = [mean + REACH * (weights - mean) for weights in mixtures]
    return replace(
        asked, title=RANDOM_STYLES, styles=np.array(drawn, np.float32),
        vendors=(MIXED,) * len(asked),
        words=tuple(known[int(np.argmax(weights))] for weights in drawn),
    )  # fmt: skip


def ask_steps(asked: Asked, num_steps: int) -> Asked:
    """The same images with another number of sampler steps."""
    return replace(asked, title=f"steps-{num_steps}", num_steps=num_steps)


def write_set(out: Path, asked: Asked, source: Draws, *, seed: int) -> float | None:
    """Draw the images of a set that `out` lacks; seconds an image, None where it lacked none.

    The folder is a frames folder like those of `generate.py`: rows name patient, view and phase of
    the mask, and the record beside them what the generator was trained on.
    """
    if (out / "metadata.jsonl").is_file():
        return None
    record = _describe(asked, source)
    with FramesWriter(
        out, command=GENERATE, fingerprint={"settings": record["settings"]}, beside=(RECORD,)
    ) as writer:
        write_json_atomic(out / RECORD, record)
        start, num_drawn = time.perf_counter(), 0
        title = f"{out.parts[-3]} {asked.title}"
        with ProgressBar(total=len(asked), desc=title, unit="image") as bar:
            for place in range(0, len(asked), DRAWN_AT_ONCE):
                # Always the same batches: the last bits of an image depend on the size of its own.
                rows = range(place, min(place + DRAWN_AT_ONCE, len(asked)))
                if missing := [row for row in rows if _name(row) not in writer]:
                    images = source.draw_set(asked, rows)
                    num_drawn += len(rows)
                    for row in missing:
                        mask = read_mask_u8(asked.folder / str(asked.rows[row].mask_file_name))
                        image = images[row - place]
                        writer.add(_build_row(asked, row, record, seed), image, mask)
                bar.update(len(rows))
    return (time.perf_counter() - start) / num_drawn if num_drawn else None


def draw_batch(
    draw: Any,
    asked: Asked,
    rows: Sequence[int],
    labels: Sequence[Label],
    *,
    noise_shape: tuple[int, ...],
    mask_side: int | None,
    seed: int,
) -> list[NDArray[np.uint8]]:
    """Draw some rows by `draw(noise, mask, style, num_steps)`, with the noise of each row."""
    noise = torch.stack(
        [sample_normal(build_stream(seed, Stream.IMAGE, row), noise_shape) for row in rows]
    )
    masks = np.stack(
        [read_mask_u8(asked.folder / str(asked.rows[row].mask_file_name)) for row in rows]
    )
    given = torch.from_numpy(encode_labels(masks, labels))
    mask = encode_masks(given, len(labels), mask_side or given.shape[-1])
    images: Tensor = draw(noise, mask, torch.from_numpy(asked.styles[[*rows]]), asked.num_steps)
    return [from_pm1(image) for image in images[:, 0].numpy()]


def _name(row: int) -> str:
    return f"{row:06d}.png"


def _describe(asked: Asked, source: Draws) -> dict[str, Any]:
    trained = load_trained(Run.load(source.run_dir))
    hashes = {"weights_sha256": source.weights_sha256}
    if source.decoder_sha256:
        hashes["decoder_sha256"] = source.decoder_sha256
    return {
        "weights": str(source.run_dir),
        **hashes,
        "settings": {"title": asked.title, "num_steps": asked.num_steps, "num": len(asked),
                     **hashes},
        TRAINED_ON: None if trained is None else as_public_record(trained),
    }  # fmt: skip


def _build_row(asked: Asked, row: int, record: dict[str, Any], seed: int) -> Frame:
    """A row of a generated image: it is the heart of its mask."""
    of_mask = asked.rows[row]
    extra = {"mask": of_mask.mask_file_name, "mask_source": of_mask.source}
    return Frame(
        file_name=_name(row), text=asked.captions[row], prompt=asked.captions[row],
        patient_id=of_mask.patient_id, view=of_mask.view, phase=of_mask.phase,
        modality=of_mask.modality, pair_id=of_mask.pair_id, spacing_mm=of_mask.spacing_mm,
        vendor=asked.vendors[row], seed=seed, weights=str(record["weights_sha256"]),
        settings=json.dumps({"style": [round(float(one), 4) for one in asked.styles[row]],
                             "num_steps": asked.num_steps}),
        extra={name: value for name, value in extra.items() if value is not None},
    )  # fmt: skip
