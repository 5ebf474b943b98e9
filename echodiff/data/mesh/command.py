"""`echodiff prepare mesh`: 3D heart models -> label slices and pseudo images of them."""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.anatomy import View
from echodiff.data.mesh.models import CELLS, SCENES, UNITS_MM, VOLUMES, list_parts, load_model
from echodiff.data.mesh.parts import PartTable, load_part_table
from echodiff.data.mesh.slices import CutHeart, build_heart, draw_slice
from echodiff.data.mesh.views import VIEWS
from echodiff.data.prepare_config import PrepareConfig, split_words
from echodiff.data.records import Case, DataSet, Shot, Source
from echodiff.errors import InputError

THIRDS = ("basal", "mid-ventricular", "apical")
"""Thirds of the long axis, by the position of a short-axis slice."""


@dataclass(frozen=True, kw_only=True)
class MeshConfig(PrepareConfig):
    """Slice 3D heart models into label maps and pseudo images, the source domain of the GANs."""

    size: int | None = 256
    """Side of the frames in pixels, 16 to 4096. The spacing follows from the imaging depth."""
    views: str | None = None
    """Views to slice, separated by commas, from A4C, A2C and SAX. Default: all three."""
    slices: int = 3
    """Slices per model and view, each with its own pose."""
    parts: str | None = None
    """Meaning of the parts: a YAML file of lines such as `*atrium_left*: LA_WALL`, `12: VEIN` or
    `fat: NONE`, or the name of a numbering: labels, rodero, strocchi, hvsmr, mmwhs or
    totalsegmentator. Default: parts are recognised by name, cell tags are those of rodero, voxels
    hold echodiff's labels."""
    unit: str | None = None
    """Unit of the coordinates: mm, cm, m or um. Default: the unit that gives a plausible heart
    size."""
    tag_array: str | None = None
    """Cell array that numbers the parts of a volume mesh. Default: found by its name."""
    complete: bool = True
    """Add what a model lacks: walls around cavities without one, and the pericardium."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices < 1:
            raise ValueError(f"--slices must be at least 1, got {self.slices}")
        if self.unit is not None and self.unit not in UNITS_MM:
            raise ValueError(f"--unit must be one of {', '.join(UNITS_MM)}, got {self.unit}")
        for view in split_words(self.views):
            if view not in VIEWS:
                raise ValueError(f"--views: {view} is not one of {', '.join(VIEWS)}")


def find_models(config: MeshConfig) -> DataSet:
    """Find the models at or under `src`; each model is one patient.

    The .stl and .ply files of a folder are the parts of one model; any other file is a model.
    """
    cases = []
    for number, path in enumerate(list_models(config.src)):
        parts = list_parts(path) if path.is_dir() else []
        inside = path.relative_to(config.src).as_posix() if path != config.src else ""
        name = re.sub(r"\.(nii\.gz|[A-Za-z]+)$", "", inside or path.resolve().name)
        case = Case(
            name=f"model-{number:04d}",
            alias=inside,
            path=path,
            patient_id=name,
            extra_paths=tuple(parts),
            where=(config.seed, zlib.crc32(name.encode())),
        )
        cases.append(case)
    table = load_part_table(config.parts)
    return DataSet(
        name="mesh",
        card="mesh",
        modality="pseudo",
        cases=cases,
        read=partial(read_model, config=config, table=table),
        listings=[] if table.words is None else [Path(str(config.parts))],
    )


def list_models(src: Path) -> list[Path]:
    """List model files, and folders that hold parts; links to folders are not followed."""
    if src.is_file():
        return [src]
    if not src.is_dir():
        raise InputError(f"{src}: no such file or folder")
    folders = {src, *(path for path in src.rglob("*") if path.is_dir() and not path.is_symlink())}
    models = [folder for folder in folders if list_parts(folder)]
    models += [
        path
        for path in src.rglob("*")
        if path.name.lower().endswith(SCENES + CELLS + VOLUMES) and path.is_file()
    ]
    return sorted(models)


def read_model(case: Case, *, config: MeshConfig, table: PartTable) -> Iterator[Shot]:
    """Fill a model's cavities, find its landmarks and slice it."""
    model = load_model(case.path, table, unit=config.unit, tag_array=config.tag_array)
    try:
        heart = build_heart(model)
        for view in VIEWS:
            for number in range(config.slices):
                if config.views is None or view in split_words(config.views):
                    seed = (*case.where, VIEWS.index(view), number)
                    yield _cut(heart, view, seed, f"{view}-{number:03d}", config)
    except InputError as error:
        raise InputError(f"{case.path}: {error}") from error


def _cut(heart: CutHeart, view: View, seed: Sequence[int], name: str, config: MeshConfig) -> Shot:
    piece = draw_slice(heart, view, seed, config.size or 256, complete=config.complete)
    facts = {"record": json.dumps(piece.record, sort_keys=True)}
    if view is View.SAX:
        facts["slice"] = THIRDS[int(3 * piece.record["level"])]
    return Shot(
        name=name,
        image_u8=piece.image_u8,
        mask_u8=piece.mask_u8,
        view=view,
        spacing_mm=(piece.spacing_mm, piece.spacing_mm),
        facts=facts,
    )


SOURCE = Source(MeshConfig, find_models)
