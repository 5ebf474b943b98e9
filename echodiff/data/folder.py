"""`echodiff prepare folder`: a folder of pictures, perhaps with masks and captions -> frames."""

import csv
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from echodiff.config import InputError, as_dict, parse, positional
from echodiff.data.descriptions import describe
from echodiff.data.splits import draw_training_frames, parse_fractions, patient_of, split_patients
from echodiff.frames import Frame, FramesWriter
from echodiff.images import (
    IMAGE_SUFFIXES,
    bit_range,
    pad_square,
    read_gray_u8,
    read_mask_u8,
    read_max_value,
    resize_mask,
    resize_u8,
)
from echodiff.runs import compute_fingerprint, sha256_file

VIEW_NAMES = {"4CH": "A4C", "2CH": "A2C"}
"""Views as CAMUS writes them, and as this project does."""

CAPTION_COLUMNS = ("patient_id", "view", "phase", "vendor")

# `datasets` takes such a word in a file name for the name of a split, and drops the other files.
_SPLIT_WORD = re.compile(
    r"(?:^|[-._ 0-9])(train|training|val|valid|validation|dev|test|eval)s?"
    r"(?:ing|uation)?(?:[-._ 0-9]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Turn a folder of pictures into a frames folder: grey, square, split by patient."""

    src: Path = positional()
    """Folder of pictures (PNG, JPEG, TIFF, BMP, WebP; 8 or 16 bits), searched in depth."""
    out: Path
    """Frames folder to write."""
    match: str = "*"
    """Only pictures whose name fits this pattern, such as *_4CH_*."""
    masks: Path | None = None
    """Folder of index masks, one for every picture, of the same name and size."""
    captions: Path | None = None
    """CSV with the columns file_name and text, and perhaps patient_id, view, phase, vendor."""
    describe: bool = False
    """Caption pictures that have none by what the file name and the mask tell."""
    num_captioned: int | None = None
    """Keep the captions of this many train frames, drawn by seed; the others get null text."""
    patient_regex: str | None = None
    """Finds the patient in a file name: the group `patient`, or else the first group; the groups
    `view` and `phase` are used too."""
    split: str = "70/15/15"
    """Shares of train/val/test, counted in patients."""
    size: int | None = None
    """Side of the frames in pixels, 16 to 4096; other shapes are padded with black to a square.
    Null: as they are."""
    spacing_mm: float | None = None
    """Side of a pixel of the source pictures, in mm."""
    max_value: int | None = None
    """Grey value of 16-bit pictures that becomes white. Null: the full scale of the smallest usual
    bit depth that holds all of them."""
    view: str | None = None
    """View of all pictures, such as A4C, where nothing else tells."""
    vendor: str | None = None
    """Scanner of all pictures."""
    modality: str = "echo"
    """echo, mr, ct or pseudo."""
    source: str = "folder"
    """Name of the data set, written into every row."""
    seed: int = 0
    """Seed of the split and of the draw of captioned frames."""
    overwrite: bool = False
    """Replace the frames folder at --out."""

    def __post_init__(self) -> None:
        if self.size is not None and not 16 <= self.size <= 4096:
            raise ValueError(f"--size must lie in 16..4096, got {self.size}")
        if self.num_captioned is not None and self.num_captioned < 0:
            raise ValueError(f"--num-captioned must not be negative, got {self.num_captioned}")
        if self.max_value is not None and self.max_value < 1:
            raise ValueError(f"--max-value must be at least 1, got {self.max_value}")
        if self.spacing_mm is not None and self.spacing_mm <= 0:
            raise ValueError(f"--spacing-mm must be above 0, got {self.spacing_mm}")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}")
        parse_fractions(self.split)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One picture that was found, and what is known of it."""

    path: Path
    mask: Path | None
    frame: Frame
    """Its row, but for what reading the pixels adds."""


def main(argv: list[str]) -> None:
    config = parse(FolderConfig, argv, prog="echodiff prepare folder")
    # Everything is looked at before anything is written.
    sources = assign_splits(find_sources(config), config)
    max_value = check_pictures(sources, config.max_value)
    fingerprint = fingerprint_job(config, sources)
    with FramesWriter(config.out, overwrite=config.overwrite, fingerprint=fingerprint) as writer:
        for source in tqdm(sources, desc="frames", unit="frame"):
            if source.frame.file_name not in writer:
                write_source(writer, source, config, max_value)
    frames = [source.frame for source in sources]
    counts = {split: sum(f.split == split for f in frames) for split in ("train", "val", "test")}
    print(
        f"{len(frames)} frames of {len({patient_of(f) for f in frames})} patients "
        f"({', '.join(f'{split} {count}' for split, count in counts.items())}; "
        f"{sum(bool(f.text) for f in frames)} captioned): {config.out}"
    )


def find_sources(config: FolderConfig) -> list[Source]:
    """Every picture under `src` with its mask, caption and the words of its name."""
    if not config.src.is_dir():
        raise InputError(f"{config.src}: no such folder")
    if config.masks is not None and not config.masks.is_dir():
        raise InputError(f"--masks: {config.masks}: no such folder")
    paths = [path for path in _pictures(config.src) if path.match(config.match)]
    if not paths:
        raise InputError(f"{config.src}: no pictures that fit --match {config.match}")
    captions = {} if config.captions is None else read_captions(config.captions)
    known = {path.relative_to(config.src).as_posix() for path in _pictures(config.src)}
    for name in captions:
        if name not in known:
            raise InputError(f"{config.captions}: {name} names no picture in {config.src}")
    pattern = compile_regex(config.patient_regex)
    masks = {} if config.masks is None else _by_stem(config.masks)
    names = _frame_names(config.src, paths)
    sources = []
    for path in paths:
        place = path.relative_to(config.src)
        mask = masks.get(place.with_suffix("").as_posix())
        if config.masks is not None and mask is None:
            raise InputError(f"{path}: has no mask in {config.masks}")
        words = _words_of_name(path, pattern) | captions.get(place.as_posix(), {})
        frame = Frame(
            file_name=names[path],
            text=words.get("text", ""),
            patient_id=words.get("patient_id"),
            view=words.get("view") or config.view,
            phase=words.get("phase"),
            modality=config.modality,
            vendor=words.get("vendor") or config.vendor,
            source=config.source,
        )
        sources.append(Source(path=path, mask=mask, frame=frame))
    if config.patient_regex is None and not any(s.frame.patient_id for s in sources):
        warnings.warn(
            "no --patient-regex: every picture is taken for a patient of its own", stacklevel=2
        )
    return sources


def assign_splits(sources: list[Source], config: FolderConfig) -> list[Source]:
    """Give every frame the split of its patient; caption, and keep as many captions as asked."""
    fractions = parse_fractions(config.split)
    patients = [patient_of(source.frame) for source in sources]
    homes = split_patients(patients, fractions, seed=config.seed)
    frames = [
        replace(source.frame, split=homes[patient], text=source.frame.text or _text(source, config))
        for source, patient in zip(sources, patients, strict=True)
    ]
    if config.num_captioned is not None:
        drawn = draw_training_frames(
            frames, num_captioned=config.num_captioned, num_regularization=0, seed=config.seed
        )
        kept = {frame.file_name for frame in drawn.captioned}
        frames = [
            frame if frame.split != "train" or frame.file_name in kept else replace(frame, text="")
            for frame in frames
        ]
    return [replace(source, frame=frame) for source, frame in zip(sources, frames, strict=True)]


def check_pictures(sources: list[Source], max_value: int | None) -> int | None:
    """Decode all there is to be read; return the grey value that becomes white in 16-bit ones."""
    largest = 0
    for source in tqdm(sources, desc="check", unit="frame"):
        found = read_max_value(source.path)
        largest = max(largest, found or 0)
        if max_value is not None and largest > max_value:
            raise InputError(f"{source.path}: holds {largest}, above --max-value {max_value}")
        shape = read_gray_u8(source.path).shape
        if source.mask is not None and (mask_shape := read_mask_u8(source.mask).shape) != shape:
            raise InputError(f"{source.mask}: is {mask_shape}, its picture {shape}")
    return max_value if max_value is not None or not largest else bit_range(largest)


def fingerprint_job(config: FolderConfig, sources: list[Source]) -> str:
    """Hash of the settings and of every file that is read.

    Splits, names and the white level depend on all files: a folder begun before they changed
    cannot be gone on with.
    """
    paths = [path for source in sources for path in (source.path, source.mask) if path is not None]
    paths += [] if config.captions is None else [config.captions]
    files = {str(path): sha256_file(path) for path in paths}
    return compute_fingerprint(as_dict(config) | {"out": "", "overwrite": False, "files": files})


def write_source(
    writer: FramesWriter, source: Source, config: FolderConfig, max_value: int | None
) -> None:
    image = read_gray_u8(source.path, max_value=max_value)
    mask = None if source.mask is None else read_mask_u8(source.mask)
    spacing_mm = config.spacing_mm
    if config.size is not None:
        size = (config.size, config.size)
        spacing_mm = spacing_mm and spacing_mm * max(image.shape) / config.size
        image = resize_u8(pad_square(image), size)
        mask = None if mask is None else resize_mask(pad_square(mask), size)
    writer.add(replace(source.frame, spacing_mm=spacing_mm), image, mask)


def read_captions(path: Path) -> dict[str, dict[str, str]]:
    """CSV -> {file name: {text, patient_id, ...}}; what is empty is left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except OSError as error:
        raise InputError(f"--captions: {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    captions: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        if row.get("file_name") is None or row.get("text") is None:
            raise InputError(f"{path}, line {number}: columns file_name and text are needed")
        if row["file_name"] in captions:
            raise InputError(f"{path}, line {number}: {row['file_name']} comes twice")
        found = {key: row[key].strip() for key in ("text", *CAPTION_COLUMNS) if row.get(key)}
        captions[row["file_name"]] = found
    return captions


def compile_regex(pattern: str | None) -> re.Pattern[str] | None:
    """Compile `--patient-regex`; it must have a group."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient-regex: {error}") from error
    if not compiled.groups:
        raise InputError(f"--patient-regex: {pattern!r} has no group, such as (patient\\d+)")
    return compiled


def _words_of_name(path: Path, pattern: re.Pattern[str] | None) -> dict[str, str]:
    if pattern is None:
        return {}
    found = pattern.search(path.name)
    if found is None:
        raise InputError(f"{path}: --patient-regex does not fit")
    words = found.groupdict()
    patient = words.get("patient") or found.group(1)
    view = words.get("view") or ""
    named = {"patient_id": patient, "view": VIEW_NAMES.get(view, view), "phase": words.get("phase")}
    return {key: value for key, value in named.items() if value}


def _text(source: Source, config: FolderConfig) -> str:
    if not config.describe:
        return ""
    mask = None if source.mask is None else read_mask_u8(source.mask)
    return describe(source.frame.view, source.frame.phase, mask)


def _pictures(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and path.name[0] != "."
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in _pictures(folder)}


def _frame_names(src: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """Names as they were, with the folders in them, as PNG; numbers where a name says `test`."""
    paths = list(paths)
    stems = ["__".join(path.relative_to(src).with_suffix("").parts) for path in paths]
    if any(_SPLIT_WORD.search(stem) for stem in stems):
        stems = [f"frame-{number:06d}" for number in range(len(stems))]
    names: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in names:
            raise InputError(f"{path}: {names[stem].name} has the same name but for its suffix")
        names[stem] = path
    return {path: f"images/{stem}.png" for stem, path in names.items()}
