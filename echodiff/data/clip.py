"""`echodiff prepare dicom`: ultrasound clips -> frames, without identifiers and screen furniture.

Geometry tags are those of DICOM PS3.3 C.8.5.5 (US Region Calibration Module).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image
from tqdm import tqdm

from echodiff.config import InputError, as_dict, parse, positional
from echodiff.data.splits import parse_fractions, split_patients
from echodiff.frames import Frame, FramesWriter
from echodiff.images import pad_square, resize_u8
from echodiff.runs import compute_fingerprint, sha256_file

SPATIAL_2D = 1
"""Region Spatial Format of a B-mode picture (the others are M-mode, Doppler and graphics)."""
CENTIMETRES = 3
"""Physical Units code."""
COLOUR_DIFFERENCE = 20
"""Grey levels between two channels from which a pixel is taken for screen graphics or Doppler."""
GRAPHICS_SHARE = 0.02
"""Share of the picture above which steady colour is Doppler rather than graphics."""
ACTIVE_RANGE = 10
"""Grey levels a pixel must vary over a clip to be tissue rather than a label."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Turn ultrasound DICOM clips into a frames folder: grey, cropped to the sector, anonymous."""

    src: Path = positional()
    """DICOM file, or folder of them, searched in depth."""
    out: Path
    """Frames folder to write."""
    every: int = 1
    """Take every so-manieth frame of a clip, from the first."""
    size: int | None = 256
    """Side of the frames in pixels, 16 to 4096; null: the side of the sector's box."""
    view: str | None = None
    """View of all clips, such as A4C."""
    caption: str = ""
    """Text of every frame; null text when empty."""
    split: str = "70/15/15"
    """Shares of train/val/test, counted in patients."""
    seed: int = 0
    """Seed of the split."""
    overwrite: bool = False
    """Replace the frames folder at --out."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"--every must be at least 1, got {self.every}")
        if self.size is not None and not 16 <= self.size <= 4096:
            raise ValueError(f"--size must lie in 16..4096, got {self.size}")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}")
        parse_fractions(self.split)


class Region(NamedTuple):
    """Box of the B-mode picture in the stored pixels, end exclusive, and the size of a pixel."""

    left: int
    top: int
    right: int
    bottom: int
    spacing_mm: float | None
    stretch: float
    """Height of a pixel over its width."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip as it is kept: no dates, names, numbers or texts of the file come along."""

    images_u8: NDArray[np.uint8]
    """(T, H, W), square pixels, black outside the sector."""
    spacing_mm: float | None
    vendor: str | None


def main(argv: list[str]) -> None:
    config = parse(ClipConfig, argv, prog="echodiff prepare dicom")
    paths = find_dicom(config.src)
    patients = number_patients(paths)
    homes = split_patients(patients.values(), parse_fractions(config.split), seed=config.seed)
    # Every clip is decoded before the folder is opened: a bad one leaves nothing behind.
    for path in tqdm(paths, desc="check", unit="clip"):
        load_clip(path)
    settings = as_dict(config) | {"out": "", "overwrite": False}
    # Names and patients are numbered over all files, so the files tell one job from another.
    settings["files"] = {str(path): sha256_file(path) for path in paths}
    num_frames = 0
    with FramesWriter(
        config.out, overwrite=config.overwrite, fingerprint=compute_fingerprint(settings)
    ) as writer:
        for number, path in enumerate(tqdm(paths, desc="clips", unit="clip")):
            clip = load_clip(path)
            for index in range(0, len(clip.images_u8), config.every):
                name = f"clip-{number:04d}_frame-{index:04d}.png"
                if name in writer:
                    continue
                image, spacing_mm = fit(clip.images_u8[index], clip.spacing_mm, config.size)
                frame = Frame(
                    file_name=name,
                    text=config.caption,
                    patient_id=patients[path],
                    view=config.view,
                    phase=str(index),
                    modality="echo",
                    vendor=clip.vendor,
                    spacing_mm=spacing_mm,
                    split=homes[patients[path]],
                    source="dicom",
                )
                writer.add(frame, image)
            num_frames += len(range(0, len(clip.images_u8), config.every))
    print(f"{num_frames} frames of {len(paths)} clips, {len(homes)} patients: {config.out}")


def find_dicom(src: Path) -> list[Path]:
    """The file itself, or every file under the folder that begins as DICOM files do."""
    if not src.exists():
        raise InputError(f"{src}: no such file or folder")
    if src.is_file():
        return [src]
    paths = [path for path in sorted(src.rglob("*")) if path.is_file() and _is_dicom(path)]
    if not paths:
        raise InputError(f"{src}: no DICOM files")
    return paths


def number_patients(paths: list[Path]) -> dict[Path, str]:
    """Give patients numbers in the order of their files; their own identifiers stay behind.

    Files belong together by Patient ID, failing that by study; a file with neither stands alone.
    """
    keys: dict[Path, str] = {}
    for path in paths:
        tags = _read(path, stop_before_pixels=True)
        keys[path] = str(tags.get("PatientID") or tags.get("StudyInstanceUID") or path)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()), start=1)}
    return {path: f"patient-{numbers[key]:04d}" for path, key in keys.items()}


def load_clip(path: Path) -> Clip:
    """Read an ultrasound DICOM file as grey frames cropped to the sector."""
    from pydicom.pixels import pixel_array

    dataset = _read(path)
    if "PixelData" not in dataset:
        raise InputError(f"{path}: holds no picture")
    try:
        pixels = np.asarray(pixel_array(dataset))
    except (AttributeError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        # What pydicom and its decoders raise on missing tags, formats and cut-off streams.
        raise InputError(f"{path}: {error}") from error
    has_colour = int(dataset.SamplesPerPixel) == 3
    if pixels.ndim == (3 if has_colour else 2):
        pixels = pixels[None]
    gray = _to_gray(pixels, dataset) if not has_colour else _drop_colour(pixels)
    try:
        region = find_region(dataset, gray.shape[1:])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    boxed = gray[:, region.top : region.bottom, region.left : region.right]
    sector = find_sector(boxed)
    rows, columns = np.flatnonzero(sector.any(1)), np.flatnonzero(sector.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    images = np.stack([np.where(sector, image, 0)[box] for image in boxed]).astype(np.uint8)
    if abs(region.stretch - 1) > 0.01:
        height = round(images.shape[1] * region.stretch)
        images = np.stack([resize_u8(image, (height, images.shape[2])) for image in images])
    vendor = str(dataset.get("Manufacturer") or "") or None
    return Clip(images_u8=images, spacing_mm=region.spacing_mm, vendor=vendor)


def find_region(dataset: Any, shape: tuple[int, ...]) -> Region:
    """The largest B-mode region of the file, in its stored pixels.

    Exports that shrink the pixels often leave the region's tags as they were: a region that
    reaches outside the picture is divided by the smallest whole number that brings it inside, and
    its pixels are that much larger. InputError where tags are missing or make no sense.
    """
    height, width = shape
    regions = [
        region
        for region in dataset.get("SequenceOfUltrasoundRegions", [])
        if region.get("RegionSpatialFormat") == SPATIAL_2D
    ]
    if not regions:
        ratio = dataset.get("PixelAspectRatio") or (1, 1)
        if not (isinstance(ratio, Sequence) and len(ratio) == 2 and min(map(float, ratio)) > 0):
            raise InputError(f"PixelAspectRatio {ratio} is not two numbers above 0")
        return Region(0, 0, width, height, None, float(ratio[0]) / float(ratio[1]))
    boxes = [_find_box(region) for region in regions]
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    largest = areas.index(max(areas))
    tags, (x0, y0, x1, y1) = regions[largest], boxes[largest]
    shrink = max(1, -(-(x1 + 1) // width), -(-(y1 + 1) // height))
    left, right, top, bottom = x0 // shrink, x1 // shrink + 1, y0 // shrink, y1 // shrink + 1
    if not (left < right and top < bottom):
        raise InputError(f"the ultrasound region ({x0}, {y0})-({x1}, {y1}) is empty")
    spacing_mm, stretch = None, 1.0
    units = {tags.get("PhysicalUnitsXDirection"), tags.get("PhysicalUnitsYDirection")}
    if units == {CENTIMETRES}:
        across, down = abs(_number(tags, "PhysicalDeltaX")), abs(_number(tags, "PhysicalDeltaY"))
        if not (across > 0 and down > 0):
            raise InputError(f"the ultrasound region's pixels measure {across} x {down} cm")
        spacing_mm, stretch = 10 * across * shrink, down / across
    return Region(left, top, right, bottom, spacing_mm, stretch)


def find_sector(clip_u8: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(T, H, W) -> (H, W): where the scan is, by what moves (or, in one frame, what is not black).

    Labels and scales inside the box stand still and lie apart; the largest connected part that
    moves is the tissue, and a sector is convex.
    """
    lively = clip_u8[0] if len(clip_u8) == 1 else np.ptp(clip_u8, axis=0)
    active = ndimage.binary_opening(lively > ACTIVE_RANGE, iterations=1)
    active = ndimage.binary_closing(active, iterations=4)
    parts, num_parts = ndimage.label(active)
    if num_parts == 0:
        return np.ones(clip_u8.shape[1:], dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(convex_hull_image(parts == sizes.argmax()), dtype=bool)


def fit(
    image_u8: NDArray[np.uint8], spacing_mm: float | None, size: int | None
) -> tuple[NDArray[np.uint8], float | None]:
    """Pad (H, W) to a square, resize it to `size`, and say how large its pixels are then."""
    square = pad_square(image_u8)
    if size is None:
        return square, spacing_mm
    scaled = spacing_mm and spacing_mm * len(square) / size
    return resize_u8(square, (size, size)), scaled


def _read(path: Path, *, stop_before_pixels: bool = False) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            # Clinical files break many small rules, of which pydicom warns; a cut-off one is bad.
            warnings.simplefilter("ignore", UserWarning)
            warnings.filterwarnings("error", message="End of file", category=UserWarning)
            return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError as error:
        raise InputError(f"{path}: not a DICOM file") from error
    except (EOFError, ValueError, UserWarning) as error:
        raise InputError(f"{path}: damaged or cut short ({error})") from error


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _find_box(tags: Any) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a region as its tags say, both ends in it."""
    names = (f"RegionLocation{end}" for end in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
    x0, y0, x1, y1 = (int(_number(tags, name)) for name in names)
    return x0, y0, x1, y1


def _number(tags: Any, name: str) -> float:
    if tags.get(name) is None:
        raise InputError(f"the ultrasound region has no {name}")
    return float(tags[name].value)


def _to_gray(pixels: NDArray[Any], dataset: Any) -> NDArray[np.uint8]:
    full = 2 ** int(dataset.BitsStored) - 1
    scaled = np.rint(pixels.astype(np.float32) * (255 / full)).clip(0, 255)
    is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    return np.asarray(255 - scaled if is_inverted else scaled).astype(np.uint8)


def _drop_colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W, 3) -> (T, H, W) luma (ITU-R 601); screen graphics become black.

    Graphics, such as the orientation mark, are coloured in every frame and small; colour Doppler
    comes and goes, or fills much of the picture, and stays as grey.
    """
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    gray = np.asarray(np.rint(pixels.astype(np.float32) @ weights), dtype=np.uint8)
    is_coloured = (np.ptp(pixels, axis=-1) > COLOUR_DIFFERENCE).all(axis=0)
    if is_coloured.mean() < GRAPHICS_SHARE:
        gray[:, ndimage.binary_dilation(is_coloured, iterations=2)] = 0
    return gray
