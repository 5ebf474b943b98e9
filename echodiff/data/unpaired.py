"""`echodiff prepare unpaired`: read trainA, trainB, testA, testB into OUT/a and OUT/b."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Shot, Source
from echodiff.errors import InputError
from echodiff.images import find_max_value, list_pictures, read_image_u8

SPLIT_OF = {"train": "train", "val": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class UnpairedConfig(PrepareConfig):
    """Turn unpaired images of two domains into two frames folders, OUT/a and OUT/b.

    The defaults fit a public set of CT and MR slices of the brain (data_cards/ct-mri-brain.md).
    Every caption and row says that they show brains, not hearts.
    """

    captions: str = "plain"
    """`none`, `plain` (organ and modality), a template with fields in braces, a .txt file with one,
    or a .csv with the columns file_name and text."""
    text: str | None = None
    """Text in the pixels, as in `prepare folder`. Default: text is found, kept and reported."""
    split: str = "official"
    """`official` (from the folder names), or shares of train/val/test."""
    modality_a: str = "ct"
    """Modality of trainA and testA."""
    modality_b: str = "mr"
    """Modality of trainB and testB."""
    organ: str = "brain"
    """Organ shown, named in every caption."""
    source: str = "ct-mri-brain"
    """Name of the data set, written into every row."""


def find_domains(config: UnpairedConfig) -> list[DataSet]:
    """Find the images of both domains."""
    return [find_domain(config, domain) for domain in ("a", "b")]


def find_domain(config: UnpairedConfig, domain: str) -> DataSet:
    """Find the images of trainA, valA and testA, or of the folders that end in B.

    The data set does not tell which slices are of one patient. Each counts as a patient of its
    own, so only the official split can be relied on to separate patients.
    """
    if not config.src.is_dir():
        raise InputError(f"{config.src}: no such folder")
    cases = []
    for word, split in SPLIT_OF.items():
        folder = config.src / f"{word}{domain.upper()}"
        if not folder.is_dir():
            if word == "train":
                raise InputError(f"{folder}: no such folder")
            continue
        for number, path in enumerate(list_pictures(folder).pictures):
            case = Case(
                name=f"{split[:2]}{number:05d}",
                alias=f"{folder.name}/{path.relative_to(folder).as_posix()}",
                path=path,
                patient_id=None,
                split=split,
            )
            cases.append(case)
    white_level = find_max_value(case.path for case in cases)
    return DataSet(
        name=config.source,
        folder=domain,
        card="ct-mri-brain" if config.source == "ct-mri-brain" else "folder",
        modality=config.modality_a if domain == "a" else config.modality_b,
        cases=cases,
        read=partial(read_picture, max_value=white_level),
        white_level=white_level,
        captions=f"{{modality}} of the {config.organ}",
    )


def read_picture(case: Case, *, max_value: int | None) -> Iterator[Shot]:
    """Read an image as the one frame of its case."""
    yield Shot(name="", image_u8=read_image_u8(case.path, max_value=max_value))


SOURCE = Source(UnpairedConfig, find_domains)
