"""A set of frames read once: its features, what its captions state, what repeats."""

import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.anatomy import Finding
from echodiff.captions.findings import Presence, read_findings
from echodiff.captions.language import describe_cyrillic
from echodiff.data.splits import known_patient
from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.maker import share_of_firsts
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.images import pad_square, read_image_u8, to_gray_u8
from echodiff.metrics.appearance import describe_appearance
from echodiff.metrics.faithfulness import Faithfulness, compute_faithfulness
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.features import FeatureNetwork, load_features
from echodiff.metrics.inception import InceptionMissing
from echodiff.metrics.intact import Anatomy, Judged, Reader, choose_sample, judge_frames
from echodiff.metrics.resampling import Groups, build_groups
from echodiff.processes import map_in_order
from echodiff.progress import ProgressBar
from echodiff.system import num_cores

logger = logging.getLogger(__name__)

READ_AT_ONCE = 64
"""Images that go through a network together, and that one process reads at a time."""
NUM_READERS = min(4, num_cores())
"""Processes that read a large set: describing the look of a frame is many small steps, which
threads of one process only take in turn."""


@dataclass(frozen=True)
class Measured:
    """A set of frames after one reading of its images."""

    name: str
    """Its folder."""
    groups: Groups
    """(N,) patient of each frame; a generated frame is a patient of its own."""
    features: dict[str, FeatureSet]
    """By network; all with these groups."""
    faithfulness: Faithfulness | None
    """Captions and findings of the classifier, if the tiny network is requested."""
    digests: tuple[str, ...]
    """SHA-256 of each image's pixels, as the networks see them."""
    paths: tuple[Path, ...]
    is_lossy: NDArray[np.bool_]
    """(N,) whether the file of each image is lossy, such as JPEG."""
    appearance: NDArray[np.float64]
    """Rows of `appearance.describe_appearance`, (N, K), colours included."""
    white_level: int | None = None
    """White level by which images of more than 8 bits were read."""
    anatomy: Anatomy | None = None
    """Anatomy of every frame, if a segmenter is given."""
    first_draws: float | None = None
    """Share of sound first draws, of images that were chosen by their anatomy."""

    def __len__(self) -> int:
        return len(self.digests)

    def in_features(self, network: str) -> FeatureSet:
        return self.features[network]


@dataclass(frozen=True)
class Networks:
    """Feature networks, opened, and what a reader must know about which ones."""

    opened: tuple[FeatureNetwork, ...]
    notes: tuple[str, ...]


def load_networks(
    names: Sequence[str], *, trust: bool = False, modules: Path | None = None
) -> Networks:
    """Open feature networks; `tiny` stands in for a missing Inception, and a note says so.

    trust, modules: as in `load_features`.
    """
    networks: dict[str, FeatureNetwork] = {}
    notes = []
    for name in names:
        try:
            network = load_features(name, trust=trust, modules=modules)
        except InceptionMissing as error:
            notes.append(f"{error}; FD(tiny) is reported instead of FID")
            sys.stderr.write(f"{notes[-1]}\n")
            continue
        if network.name in networks:
            raise InputError(
                f"--features {','.join(names)}: two networks called {network.name}, and scores "
                "go by that name: rename one or leave it out"
            )
        networks[network.name] = network
    if notes and "tiny" not in networks:
        networks["tiny"] = load_features("tiny")
    return Networks(tuple(networks.values()), tuple(notes))


def measure_frames(
    source: Path | Sequence[Path],
    networks: Sequence[FeatureNetwork],
    *,
    name: str | None = None,
    num_readers: int = 1,
    white_level: int | None = None,
    segmenter: Reader | None = None,
    most_judged: int | None = None,
) -> Measured:
    """Read the images, a few at a time, and keep what the scores need of them.

    They are read as training reads them: one white level for the folder (`white_level`: that of the
    training they are compared with, where the rows state none), and padded to a square with black,
    since a network's own resize would stretch the heart. name: what the set is called, else
    its folder. num_readers: processes that read a
    thousand images or more; a script that uses several is started again in each of them, so
    its work belongs under `if __name__ == "__main__"`. segmenter: labels the
    frames whose anatomy is judged. most_judged: most frames of which it is, drawn at random; None
    is all of them.
    """
    place, paths, rows = _find_frames(source)
    name = name or place
    max_value = find_white_level(source, known=white_level)
    tiny = None
    if any(network.name == "tiny" for network in networks):
        from echodiff.metrics.tiny_features import load_tiny_features

        tiny = load_tiny_features()
    features: dict[str, list[NDArray[np.float64]]] = {network.name: [] for network in networks}
    probabilities: list[NDArray[np.float64]] = []
    digests: list[str] = []
    appearance: list[NDArray[np.float64]] = []
    lossy: list[bool] = []
    judged: list[Judged] = []
    sample = choose_sample(rows, most_judged)
    parts = [paths[start : start + READ_AT_ONCE] for start in range(0, len(paths), READ_AT_ONCE)]
    read = map_in_order(partial(_read, max_value=max_value), parts, workers=num_readers)
    with ProgressBar(
        total=len(paths), desc=f"features of {Path(name).name}", unit="frame"
    ) as progress:
        for images, looks, losses in read:
            appearance += looks
            lossy += losses
            if segmenter is not None:
                here = slice(len(judged), len(judged) + len(images))
                judged += judge_frames(images, rows[here], segmenter, sample[here])
            digests += [_digest(image) for image in images]
            for network in networks:
                features[network.name].append(network(images))
            if tiny is not None:
                probabilities.append(tiny.findings_of(features["tiny"][-1]))
            progress.update(len(images))
    if sentence := describe_cyrillic([_text_of(row) for row in rows if row is not None]):
        logger.warning("%s: %s", name, sentence)
    groups = build_groups([None if row is None else known_patient(row) for row in rows])
    return Measured(
        name=name,
        groups=groups,
        features={
            # Out of the list, so that the parts are gone when the next network's are joined.
            network.name: FeatureSet(np.concatenate(features.pop(network.name)), groups)
            for network in networks
        },
        faithfulness=None
        if tiny is None
        else compute_faithfulness(
            np.concatenate(probabilities), tiny.thresholds, [_stated_findings(r) for r in rows]
        ),
        digests=tuple(digests),
        paths=tuple(paths),
        is_lossy=np.array(lossy),
        appearance=np.array(appearance),
        white_level=max_value,
        anatomy=None if segmenter is None else Anatomy(tuple(judged), segmenter),
        first_draws=share_of_firsts(row for row in rows if row is not None),
    )


def _read(
    paths: Sequence[Path], max_value: int | None
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float64]], list[bool]]:
    """Images as the networks see them, their rows of `describe_appearance`, lossy or not."""
    pictures = [read_image_u8(path, max_value=max_value) for path in paths]
    images = [pad_square(to_gray_u8(picture)) for picture in pictures]
    looks = [describe_appearance(picture) for picture in pictures]
    return images, looks, [_is_lossy(path) for path in paths]


def _is_lossy(path: Path) -> bool:
    """Whether a readable image is in a lossy file."""
    with Image.open(path) as picture:
        kind, packed = picture.format, str(picture.info.get("compression", ""))
    if kind == "WEBP":
        # The kind of the first chunk with pixels: VP8 or VP8L, after the header where extended.
        return b"VP8L" not in path.read_bytes()[:1024]
    return kind in {"JPEG", "MPO", "JPEG2000", "AVIF"} or "jpeg" in packed


def _find_frames(
    source: Path | Sequence[Path],
) -> tuple[str, list[Path], list[Frame | None]]:
    """Name, images and rows of a frames folder, or of some images in frames folders."""
    if isinstance(source, str | Path):
        folder = Path(source)
        frames = load_frames(folder)
        return str(source), [folder / frame.file_name for frame in frames], [*frames]
    paths = [Path(path) for path in source]
    if not paths:
        raise InputError("--reference: no frames given")
    rows: dict[Path, Frame] = {}
    folders = {next((f for f in path.parents if (f / METADATA).is_file()), None) for path in paths}
    for found in folders - {None}:
        assert found is not None
        rows |= {found / frame.file_name: frame for frame in load_frames(found)}
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing}: no such image")
    return str(paths[0].parent), paths, [rows.get(path) for path in paths]


def _stated_findings(row: Frame | None) -> dict[Finding, Presence]:
    """What is known of a frame: by its prompt, else its column of findings, else its caption."""
    if row is None:
        return {}
    if row.prompt is None and row.findings is not None:
        names = set(row.findings)
        return {f: Presence.PRESENT if f in names else Presence.ABSENT for f in Finding}
    return read_findings(_text_of(row))


def _text_of(row: Frame) -> str:
    return row.text if row.prompt is None else row.prompt


def _digest(image_u8: NDArray[np.uint8]) -> str:
    return hashlib.sha256(str(image_u8.shape).encode() + image_u8.tobytes()).hexdigest()
