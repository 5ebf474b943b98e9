"""Read 3D heart models into one type that can be cut by a plane."""

import importlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.mesh.parts import TISSUES, PartTable, Tissue, drawing_order, settle
from echodiff.data.mesh.sections import Plane, Vector, fill_section
from echodiff.data.volume_files import read_volume, to_whole
from echodiff.errors import InputError
from echodiff.extras import explain_missing

SCENES = (".glb", ".gltf")
SURFACES = (".stl", ".ply")
CELLS = (".vtu", ".vtk")
VOLUMES = (".nii", ".nii.gz")

UNITS_MM: Mapping[str, float] = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001}
HEART_MM = (50.0, 400.0)
"""Diagonal of a heart's bounding box, from an infant's without great vessels to an adult's with
them. At most one unit fits."""
TAG_ARRAYS = ("elemtag", "tags", "tag", "id", "region", "label", "material")
"""Names of the part numbers in volume meshes."""
MOST_PARTS = 250

Sampler = Callable[[Plane], NDArray[np.uint8]]


@dataclass(frozen=True)
class Model:
    """A heart that can be cut by planes."""

    tissues: tuple[Tissue, ...]
    bounds_mm: Vector
    """(2, 3) smallest and largest coordinates."""
    unit: str
    """Unit of the file that was assumed."""
    sample: Sampler
    """Maps a plane to (H, W): 0 outside all parts, i inside tissues[i - 1]."""


def load_model(path: Path, parts: PartTable, *, unit: str | None, tag_array: str | None) -> Model:
    """Read a model; a folder is one model whose parts are its .stl and .ply files.

    unit: one of `UNITS_MM`; None infers it from the size of the heart.
    """
    if path.is_dir() or path.suffix.lower() in SCENES + SURFACES:
        return load_surfaces(path, parts, unit)
    if path.suffix.lower() in CELLS:
        return load_cells(path, parts, unit, tag_array)
    return load_labels(path, parts, unit)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever the mesh libraries raise for broken files into a one-line InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: damaged, or not a 3D model ({reason})") from error


@contextmanager
def strict_vtk(path: Path) -> Iterator[None]:
    """Turn VTK's messages into errors: VTK prints what is wrong with a file and continues with what
    it could read."""
    core, pyvista = import_extra("vtkmodules.vtkCommonCore", path), import_extra("pyvista", path)
    before, heard = core.vtkOutputWindow.GetInstance(), core.vtkStringOutputWindow()
    core.vtkOutputWindow.SetInstance(heard)
    logging.disable(logging.CRITICAL)  # pyvista repeats the errors there
    try:
        with warnings.catch_warnings(), pyvista.vtk_verbosity("off"):
            warnings.simplefilter("ignore")  # and here
            yield
    finally:
        logging.disable(logging.NOTSET)
        core.vtkOutputWindow.SetInstance(before)
    if "error" in heard.GetOutput().lower():
        raise InputError(f"{path}: damaged or truncated")


def find_unit(extent: float, unit: str | None, path: Path) -> str:
    """Find the unit in which a bounding box with this diagonal has the size of a heart."""
    low, high = HEART_MM
    fitting = [name for name, mm in UNITS_MM.items() if low <= extent * mm < high]
    if not fitting or unit not in (None, *fitting):
        what = f"{unit} does not give" if unit else "no supported unit gives"
        raise InputError(
            f"{path}: its bounding box has a diagonal of {extent:.4g}; {what} a heart of "
            f"{low:g}-{high:g} mm"
        )
    return fitting[0]


# --- surfaces: named parts -------------------------------------------------------------------


def load_surfaces(path: Path, parts: PartTable, unit: str | None) -> Model:
    """Load named triangle meshes, closed or not."""
    meshes = read_meshes(path)
    names = sorted(meshes)
    words = [parts.find_name(name) for name in names]
    for name, word in zip(names, words, strict=True):
        if word is None:
            raise InputError(
                f"{path}: part {name!r} is not recognised; name it with --parts FILE.yaml, such as "
                f"`{name}: LV_WALL` or `{name}: NONE`"
            )
    settled = settle([str(word) for word in words], [_solidity(meshes[name]) for name in names])
    found = [(TISSUES[word], meshes[name]) for word, name in zip(settled, names, strict=True)]
    drawn = [(tissue, mesh) for tissue, mesh in found if tissue is not None]
    if not drawn:
        raise InputError(f"{path}: has no part of a heart")
    drawn = [drawn[place] for place in drawing_order([tissue for tissue, _ in drawn])]
    bounds = _join_bounds([mesh.bounds for _, mesh in drawn])
    unit = find_unit(float(np.linalg.norm(bounds[1] - bounds[0])), unit, path)
    scale = UNITS_MM[unit]
    bodies = [
        (np.asarray(mesh.vertices, np.float64) * scale, np.asarray(mesh.faces, np.int64))
        for _, mesh in drawn
    ]

    def sample(plane: Plane) -> NDArray[np.uint8]:
        found = np.zeros(plane.shape, dtype=np.uint8)
        for number, (vertices, faces) in enumerate(bodies, start=1):
            try:
                found[fill_section(vertices, faces, plane)] = number
            except ValueError as error:
                raise InputError(f"{path}: {drawn[number - 1][0].label.name}: {error}") from error
        return found

    return Model(tuple(tissue for tissue, _ in drawn), bounds * scale, unit, sample)


def read_meshes(path: Path) -> dict[str, Any]:
    """Read {name: trimesh.Trimesh}, placed as in the scene, with vertices shared by triangles."""
    trimesh = import_extra("trimesh", path)
    meshes = {}
    with reading(path):
        if path.suffix.lower() in SCENES:
            scene = trimesh.load_scene(str(path), file_type=path.suffix.lower()[1:])
            for node in scene.graph.nodes_geometry:
                transform, geometry = scene.graph[node]
                meshes[str(node)] = scene.geometry[geometry].copy().apply_transform(transform)
        else:
            for file in list_parts(path) if path.is_dir() else [path]:
                meshes[file.stem] = trimesh.load_mesh(str(file), file_type=file.suffix.lower()[1:])
                check_ply(file, meshes[file.stem])
        for name, mesh in meshes.items():
            if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
                raise InputError(f"{path}: its part {name!r} is not a triangle mesh")
            if not np.isfinite(mesh.vertices).all():
                raise InputError(f"{path}: its part {name!r} has vertices that are not finite")
            mesh.merge_vertices(merge_tex=True, merge_norm=True)
    return meshes


def check_ply(file: Path, mesh: Any) -> None:
    """Refuse a truncated text PLY file, which is otherwise read without an error."""
    with file.open("rb") as opened:
        head = opened.read(4096)
    told = re.match(rb"ply\s.*?element face (\d+)\s", head, re.DOTALL)
    if told is not None and len(mesh.faces) < int(told[1]):
        raise InputError(f"{file}: truncated: {len(mesh.faces)} of {int(told[1])} faces")


def list_parts(folder: Path) -> list[Path]:
    """List the surface files directly in a folder."""
    files = sorted(folder.iterdir())
    return [file for file in files if file.suffix.lower() in SURFACES and file.is_file()]


def _solidity(mesh: Any) -> float:
    """Compute the volume relative to that of the convex hull; 0 for flat or open meshes."""
    return abs(float(mesh.volume)) / float(mesh.convex_hull.volume) if mesh.is_volume else 0.0


def _join_bounds(bounds: Sequence[Vector]) -> Vector:
    low, high = np.min([b[0] for b in bounds], axis=0), np.max([b[1] for b in bounds], axis=0)
    return np.stack([low, high]).astype(np.float64)


# --- volume meshes: numbered cells -----------------------------------------------------------


def load_cells(path: Path, parts: PartTable, unit: str | None, tag_array: str | None) -> Model:
    """Load volume cells such as tetrahedra, each with the number of its part."""
    pyvista = import_extra("pyvista", path)
    with reading(path), strict_vtk(path):
        grid = pyvista.read(str(path))
    if not isinstance(grid, pyvista.UnstructuredGrid) or not grid.n_cells:
        raise InputError(
            f"{path}: has no volume mesh, or is truncated; surfaces must be .glb, .stl or .ply"
        )
    name = _find_tags(path, grid.cell_data, tag_array)
    tags = np.asarray(grid.cell_data[name])
    numbers, place = np.unique(np.rint(tags).astype(np.int64), return_inverse=True)
    tissues, lookup = _number_parts(path, numbers, parts, "rodero")
    index = lookup[place]
    grid.clear_data()
    grid.cell_data["part"] = index
    grid = grid.extract_cells(index > 0)
    points = np.asarray(grid.points, np.float64)
    bounds = _join_bounds([np.stack([points.min(axis=0), points.max(axis=0)])])
    unit = find_unit(float(np.linalg.norm(bounds[1] - bounds[0])), unit, path)
    grid.points = points * UNITS_MM[unit]
    corners = np.asarray(grid.cell_connectivity)
    first = pyvista.convert_array(grid.GetCells().GetOffsetsArray())[:-1]

    def sample(plane: Plane) -> NDArray[np.uint8]:
        height = plane.project(np.asarray(grid.points, np.float64))[corners, 2]
        low, high = np.minimum.reduceat(height, first), np.maximum.reduceat(height, first)
        crossed = grid.extract_cells((low <= 0) & (high >= 0))
        if not crossed.n_cells:
            return np.zeros(plane.shape, dtype=np.uint8)
        found = pyvista.PolyData(plane.points().reshape(-1, 3)).sample(crossed).point_data
        part = np.asarray(found["part"]) * np.asarray(found["vtkValidPointMask"])
        return np.asarray(np.rint(part), np.uint8).reshape(plane.shape)

    return Model(tissues, bounds * UNITS_MM[unit], unit, sample)


def _find_tags(path: Path, arrays: Any, asked: str | None) -> str:
    """Find the cell array with the numbers of the parts."""
    whole = {
        str(name)
        for name in arrays.keys()  # noqa: SIM118 - no mapping
        if np.ndim(arrays[name]) == 1 and (np.rint(arrays[name]) == arrays[name]).all()
    }
    if asked is not None and asked not in whole:
        raise InputError(f"{path}: no cell array {asked!r} of whole numbers; has {sorted(whole)}")
    known = [name for name in sorted(whole) if name.lower() in TAG_ARRAYS]
    if asked is None and not known and len(whole) != 1:
        raise InputError(
            f"{path}: choose the cell array with the numbers of the parts with --tag-array: one of "
            f"{sorted(whole)}"
        )
    return asked or (known[0] if known else next(iter(whole)))


# --- label volumes: numbered voxels ----------------------------------------------------------


def load_labels(path: Path, parts: PartTable, unit: str | None) -> Model:
    """Load voxels with the numbers of parts, as segmentation tools write them."""
    volume = read_volume(path)
    values = volume.values
    if values.ndim != 3 or volume.affine is None:
        reason = "has no affine, so it cannot be distinguished from its mirror image"
        raise InputError(
            f"{path}: {reason if values.ndim == 3 else 'is not a 3D volume of labels'}"
        )
    values = to_whole(values, path)
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > 2**16:
        raise InputError(f"{path}: has grey values instead of labels")
    shifted = (values - low).astype(np.uint16)
    present = np.flatnonzero(np.bincount(shifted.reshape(-1), minlength=span))
    if len(present) > MOST_PARTS:
        raise InputError(f"{path}: has grey values instead of labels")
    tissues, lookup = _number_parts(path, present + low, parts, "labels")
    table = np.zeros(span, dtype=np.uint8)
    table[present] = lookup
    index = table[shifted]
    box = ndimage.find_objects((index > 0).astype(np.uint8))[0]
    corners = np.array([[s.start - 0.5 for s in box], [s.stop - 0.5 for s in box]])
    eight = np.stack(np.meshgrid(*corners.T, indexing="ij"), axis=-1).reshape(8, 3)
    world = eight @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    bounds = np.stack([world.min(axis=0), world.max(axis=0)])
    unit = find_unit(float(np.linalg.norm(bounds[1] - bounds[0])), unit, path)
    to_voxel = np.linalg.inv(volume.affine)

    def sample(plane: Plane) -> NDArray[np.uint8]:
        points = plane.points() / UNITS_MM[unit]
        voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        return np.asarray(
            ndimage.map_coordinates(index, np.moveaxis(voxels, -1, 0), order=0, cval=0), np.uint8
        )

    return Model(tissues, bounds * UNITS_MM[unit], unit, sample)


def _number_parts(
    path: Path, numbers: NDArray[np.integer], parts: PartTable, default: str
) -> tuple[tuple[Tissue, ...], NDArray[np.uint8]]:
    """Return the tissues that occur, and the position of each number among them: from 1, or 0."""
    words = [parts.find_number(int(number), default) for number in numbers]
    if None in words:
        number = numbers[words.index(None)]
        table = "the file" if parts.words is not None else f"table {parts.numbers or default}"
        raise InputError(f"{path}: part {number} is not in {table} of --parts")
    tissues = [TISSUES[str(word)] for word in words]
    present = tuple(dict.fromkeys(tissue for tissue in tissues if tissue is not None))
    if not present:
        raise InputError(f"{path}: has no part of a heart")
    lookup = [0 if tissue is None else present.index(tissue) + 1 for tissue in tissues]
    return present, np.array(lookup, dtype=np.uint8)


def import_extra(name: str, path: Path) -> Any:
    """Import a library of the extra `mesh`; if it is missing, the error says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading it {explain_missing(error) or error}") from error
