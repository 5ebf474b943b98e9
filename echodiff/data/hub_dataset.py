"""`echodiff prepare dataset`: read a data set of Hugging Face `datasets`, from a hub or saved.

Rows are read from Arrow tables on disk: `datasets` downloads a hub's data set into its cache first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from echodiff.connection import endpoint, told_in_one_line
from echodiff.data.labels import Table, parse_table, read_labels
from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Shot, Source
from echodiff.errors import InputError
from echodiff.images import has_deep_pixels, read_image_u8
from echodiff.published import PREFIX, HubName, parse_name

_SPLITS = {
    "train": "train", "training": "train", "validation": "val", "valid": "val", "val": "val",
    "dev": "val", "test": "test", "eval": "test",
}  # fmt: skip
"""Splits as `datasets` knows them -> ours."""


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(PrepareConfig):
    """Turn a data set of Hugging Face `datasets` into a frames folder: grey, split by patient.

    SRC is hub:USER/NAME, hub:USER/NAME@REV for a branch, tag or commit, or a folder that
    `save_to_disk` wrote. Columns named view, phase and vendor are used as well.
    """

    name: str | None = None
    """Configuration of the data set, where it has several."""
    image: str = "image"
    """Column of the images."""
    caption: str = "text"
    """Column of the captions; without it, captions come from --captions."""
    mask: str | None = None
    """Column of the masks, images of the same size."""
    mask_labels: str | None = None
    """Meaning of the masks' numbers or colours: camus, acdc, mnms, hvsmr, or a list like 1=LV,2=RV
    or #ff0000=LV,#0000ff=RV. Default: the numbers are those of docs/frames.md."""
    patient: str = "patient_id"
    """Column of the patients. Without it every image counts as a patient of its own."""
    text: str | None = None
    """Text in the pixels: `mask` blackens it outside the sector and skips images with text inside;
    `mask-inside` blackens it everywhere; `refuse` skips images with any text; `keep` does not
    search. Default: text is found, kept and reported."""
    max_value: int | None = None
    """Grey value that becomes white; needed where images have more than 8 bits."""
    modality: str = "echo"
    """echo, mr, ct or pseudo."""
    source: str | None = None
    """Name of the data set, written into every row. Default: the last part of SRC."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_value is not None and self.max_value < 1:
            raise ValueError(f"--max-value must be at least 1, got {self.max_value}")


def find_rows(config: DatasetConfig) -> DataSet:
    """List the rows of every split; pixels are not decoded."""
    splits, home = load_splits(config)
    cases, texts = list[Case](), dict[str, str]()
    has_patients = has_captions = False
    for split, table in splits.items():
        check_columns(config, split, table)
        has_patients |= config.patient in table.column_names
        has_captions |= config.caption in table.column_names
        file = table.cache_files[0]["filename"] if table.cache_files else str(config.src)
        columns = (config.caption, config.patient, "view", "vendor", "phase")
        values = [list_words(table, column) for column in columns]
        for index, (text, patient, view, vendor, phase) in enumerate(zip(*values, strict=True)):
            name = f"row-{len(cases):06d}"
            texts[name] = text
            case = Case(
                name=name,
                path=Path(file),
                alias=name,
                patient_id=patient or None,
                split=_SPLITS.get(split.lower()),
                view=view or None,
                vendor=vendor or None,
                where=(split, index, phase or None),
            )
            cases.append(case)
    if not has_patients:
        warnings.warn(
            f"no column {config.patient} (--patient): every image counts as a patient of its own",
            stacklevel=2,
        )
    name = config.src.as_posix().removeprefix(PREFIX).partition("@")[0]
    return DataSet(
        name=config.source or Path(name).name,
        card="folder",
        modality=config.modality,
        cases=cases,
        read=partial(
            read_row,
            splits=splits,
            home=home,
            image=config.image,
            mask=config.mask,
            labels=parse_table(config.mask_labels),
            max_value=config.max_value,
        ),
        white_level=config.max_value,
        texts=texts if has_captions else {},
    )


def load_splits(config: DatasetConfig) -> tuple[Mapping[str, Any], Path]:
    """Open the data set: its tables by split, with images that are not decoded, and the folder that
    all its files lie in."""
    import datasets

    src = config.src.as_posix()
    if config.name is not None and not src.startswith(PREFIX):
        raise InputError(
            f"--name {config.name}: {src} is a saved data set and has no configurations"
        )
    try:
        with told_in_one_line(src):
            if src.startswith(PREFIX):
                folder = fetch(parse_name(src, "SRC"))
                opened = datasets.load_dataset(str(folder), config.name)
                home = folder.parents[1]  # the files of a snapshot are links into it
            else:
                check_saved(config.src)
                opened, home = datasets.load_from_disk(src), config.src
    except datasets.exceptions.DatasetsError as error:
        raise InputError(f"{src}: {str(error).splitlines()[0]}") from error
    found = opened if isinstance(opened, datasets.DatasetDict) else {"train": opened}
    splits = {}
    for split, table in found.items():
        for column in (config.image, config.mask):
            if isinstance(table.features.get(column), datasets.Image):
                table = table.cast_column(column, datasets.Image(decode=False))
        splits[split] = table
    return splits, home


def fetch(name: HubName) -> Path:
    """Download a data set into the cache of the hub's client; returns its folder there."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            name.repo, revision=name.revision, repo_type="dataset", endpoint=endpoint()
        )
    )


def check_saved(folder: Path) -> None:
    """InputError where `folder` is none that `save_to_disk` wrote."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a data set of a hub is written hub:USER/NAME")
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise InputError(
            f"{folder}: holds no data set that save_to_disk wrote; `echodiff prepare folder` reads "
            "folders of images"
        )


def check_columns(config: DatasetConfig, split: str, table: Any) -> None:
    """InputError where a column that was asked for is missing or holds no images."""
    import datasets

    has = ", ".join(table.column_names)
    for flag, column in (("--image", config.image), ("--mask", config.mask)):
        if column is None:
            continue
        if column not in table.column_names:
            raise InputError(f"{flag}: {split} has no column {column}; it has {has}")
        if not isinstance(table.features[column], datasets.Image):
            raise InputError(f"{flag}: {column} is no column of images in {split}; it has {has}")
    asked = (("--caption", config.caption, "text"), ("--patient", config.patient, "patient_id"))
    for flag, column, default in asked:
        if column != default and column not in table.column_names:
            raise InputError(f"{flag}: {split} has no column {column}; it has {has}")


def list_words(table: Any, column: str) -> list[str]:
    """The texts of a column; numbers and labels become texts, what is unknown the empty one."""
    import datasets

    if column not in table.column_names:
        return [""] * len(table)
    feature = table.features[column]
    if not isinstance(feature, datasets.Value | datasets.ClassLabel):
        raise InputError(f"{column}: holds {feature}, expected one text a row")
    values = table.select_columns([column])[:][column]
    if isinstance(feature, datasets.ClassLabel):
        return ["" if value is None else feature.int2str(value) for value in values]
    return ["" if value is None or value != value else str(value).strip() for value in values]


def read_row(
    case: Case,
    *,
    splits: Mapping[str, Any],
    home: Path,
    image: str,
    mask: str | None,
    labels: Table | None,
    max_value: int | None,
) -> Iterator[Shot]:
    """Read a row as the one frame of its case; its files as those of a folder are read."""
    split, index, phase = case.where
    row = splits[split][index]
    with TemporaryDirectory() as place:
        path = _write_file(row[image], Path(place) / "image", home, case)
        if has_deep_pixels(path) != (max_value is not None):
            deep = "has more than 8 bits; --max-value says what is white"
            flat = "has 8 bits, where --max-value has no meaning"
            raise InputError(f"{case.name}: {deep if max_value is None else flat}")
        with _named(path, case):
            image_u8 = read_image_u8(path, max_value=max_value)
        mask_u8 = None
        if mask is not None:
            path = _write_file(row[mask], Path(place) / "mask", home, case)
            with _named(path, case):
                mask_u8 = read_labels(path, labels)
            if mask_u8.shape != image_u8.shape[:2]:
                raise InputError(f"{case.name}: its mask is {mask_u8.shape}, its image "
                                 f"{image_u8.shape[:2]}")  # fmt: skip
    yield Shot(name="", image_u8=image_u8, mask_u8=mask_u8, phase=phase)


def _write_file(cell: Mapping[str, Any] | None, path: Path, home: Path, case: Case) -> Path:
    """Write the bytes of a cell to `path`, or return the file that it names in `home`."""
    if cell is None:
        raise InputError(f"{case.name}: has no {path.name}")
    if (data := cell["bytes"]) is not None:
        path.write_bytes(data)
        return path
    # A table may name any file of this machine: only its own are read.
    file = Path(str(cell["path"])).resolve()
    if not file.is_relative_to(home.resolve()):
        raise InputError(f"{case.name}: names the file {file}, which is no part of the data set")
    return file


@contextmanager
def _named(path: Path, case: Case) -> Iterator[None]:
    """Errors name the row, not the file that its bytes were written to."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(path), case.name)) from error


SOURCE = Source(DatasetConfig, find_rows)
