"""`echodiff prepare camus`: read apical echocardiograms of 500 patients, in both layouts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import View
from echodiff.data import labels
from echodiff.data.patient_facts import frame_number, known_facts, read_info
from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Shot, Source
from echodiff.data.volume_files import find_nifti, read_volume
from echodiff.data.volumes import read_mask
from echodiff.errors import InputError

VIEWS = {"2CH": View.A2C, "4CH": View.A4C}
PHASES = ("ED", "ES")
NIFTI = "database_nifti"
SPLIT_OF = {"training": "train", "validation": "val", "testing": "test"}
COLUMNS = {"ef": "EF", "quality": "ImageQuality", "sex": "Sex", "age_years": "Age"}
OLD_COLUMNS = {"ef": "LVef", "edv_ml": "LVedv", "esv_ml": "LVesv"}
WIDER = 1.5
"""Largest ratio of the scan in the first quarter of an image to that in its last quarter. In 219
real frames it is 0.18 to 0.28 from above and 1.00 to 1.04 from the left."""
CAPTION = (
    "{ef}, {lv_shape} left ventricle, {la_size}, {quality} image quality, {view}, {phase}, "
    "{picture}, {age}"
)
"""Without `chambers`, because the right heart is visible but not labelled."""


@dataclass(frozen=True, kw_only=True)
class CamusConfig(PrepareConfig):
    """Turn CAMUS into a frames folder: both apical views at end diastole and end systole.

    SRC is the folder that holds database_nifti and database_split (new layout, .nii.gz), or
    training and testing (old layout, .mhd).
    """

    sequences: bool = False
    """Every frame of the sequences, in the order of time from end of diastole."""
    fold: int | None = None
    """Old layout: subgroup of listSubGroups that `--split official` follows, such as 1. Null:
    training is train and testing is test."""


class Layout(NamedTuple):
    """Locations of the files in one of the two releases."""

    folders: Mapping[Path, str | None]
    """Folders of patient folders, and the split of those that no list names."""
    lists: Mapping[str, Path]
    """Files of patient names, by split."""
    suffix: str
    sequence: str


class Clip(NamedTuple):
    """One view of one patient."""

    stem: Path
    """What the names of its files begin with."""
    suffix: str
    parts: tuple[str, ...]
    """ED and ES, or the name of the sequence."""
    needs_masks: bool
    ed: int = 0
    """Index into the sequence."""
    es: int = 0
    num_frames: int = 0

    def file(self, part: str) -> Path:
        path = self.stem.with_name(f"{self.stem.name}_{part}{self.suffix}")
        return path if self.suffix == ".mhd" else find_nifti(path.with_name(path.name[:-7]))

    def files(self) -> list[Path]:
        """List all files of the clip; the values of an .mhd are in a .raw next to it."""
        parts = [name for part in self.parts for name in (part, f"{part}_gt")]
        paths = [self.file(part) for part in parts]
        return [*paths, *(path.with_suffix(".raw") for path in paths if path.suffix == ".mhd")]


def find_clips(config: CamusConfig) -> DataSet:
    """Find both views of every patient and read their Info files."""
    layout = find_layout(config.src, config.fold)
    splits = {name: split for split, path in layout.lists.items() for name in read_names(path)}
    cases = [
        build_case(folder, view, splits.get(folder.name, split), layout, config.sequences)
        for parent, split in layout.folders.items()
        for folder in sorted(parent.glob("patient*"))
        if folder.is_dir()
        for view in VIEWS
    ]
    return DataSet(
        name="camus",
        card="camus",
        modality="echo",
        cases=cases,
        read=read_clip,
        listings=tuple(layout.lists.values()),
        captions=CAPTION,
    )


def find_layout(src: Path, fold: int | None) -> Layout:
    """Return the release found in a folder."""
    new = next((root for root in (src, src / "CAMUS_public") if (root / NIFTI).is_dir()), None)
    if src.resolve().name == NIFTI:
        new = src.resolve().parent
    if new is not None:
        if fold is not None:
            raise InputError(f"--fold requires the old layout; {src} has the new one")
        stem = str(new / "database_split" / "subgroup_")
        return Layout({new / NIFTI: None}, find_lists(stem), ".nii.gz", "half_sequence")
    folders = {src / "training": "train", src / "testing": "test", src: None}
    if not any(any(folder.glob("patient*")) for folder in folders):
        raise InputError(
            f"{src}: not CAMUS: expected {NIFTI}, training or testing with patients in it"
        )
    if fold is None:
        return Layout(folders, {}, ".mhd", "sequence")
    lists = find_lists(str(src / "listSubGroups" / f"subGroup{fold}_"))
    if not lists:
        raise InputError(f"--fold {fold}: no listSubGroups/subGroup{fold}_*.txt in {src}")
    return Layout(folders, lists, ".mhd", "sequence")


def find_lists(stem: str) -> dict[str, Path]:
    """Find the lists of patient names, by split."""
    lists = {split: Path(f"{stem}{part}.txt") for part, split in SPLIT_OF.items()}
    return {split: path for split, path in lists.items() if path.is_file()}


def read_names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def build_case(
    folder: Path, view: str, split: str | None, layout: Layout, with_sequences: bool
) -> Case:
    """Build the case of one view; an error in its Info file becomes the problem of the case."""
    stem = folder / f"{folder.name}_{view}"
    case = Case(
        name=stem.name,
        path=folder,
        patient_id=folder.name,
        split=split,
        view=VIEWS[view],
        vendor="GE",
    )
    path = folder / f"Info_{view}.cfg"
    try:
        info = read_info(path, needed=("ED", "ES", "NbFrame"))
        num_frames = frame_number(info, "NbFrame", path, first=1, end=1000)
        ed, es = (
            frame_number(info, phase, path, first=1, end=num_frames + 1) - 1 for phase in PHASES
        )
    except InputError as error:
        return replace(case, problem=str(error))
    is_old = layout.suffix == ".mhd"
    clip = Clip(
        stem=stem,
        suffix=layout.suffix,
        parts=(layout.sequence,) if with_sequences else PHASES,
        # The old release kept the masks of its testing patients back; its sequences may lack them.
        needs_masks=not (is_old and (with_sequences or folder.parent.name == "testing")),
        ed=ed,
        es=es,
        num_frames=num_frames,
    )
    facts = known_facts(info, OLD_COLUMNS) | known_facts(info, COLUMNS)
    return replace(case, facts=facts, where=clip, extra_paths=(path, *clip.files()))


def read_clip(case: Case) -> Iterator[Shot]:
    """Read ED and ES, or every frame of the sequence with ED before ES."""
    clip: Clip = case.where
    for part in clip.parts:
        images_u8, masks_u8, spacing_mm = read_pictures(clip, part)
        is_sequence = part not in PHASES
        expected = clip.num_frames if is_sequence else 1
        if len(images_u8) != expected:
            raise InputError(f"{clip.file(part)}: holds {len(images_u8)} frames, not {expected}")
        times = range(len(images_u8))
        for number, time in enumerate(reversed(times) if clip.ed > clip.es else times):
            phase = {clip.ed: "ED", clip.es: "ES"}.get(time, str(number)) if is_sequence else part
            yield Shot(
                name=f"frame-{number:04d}" if is_sequence else part,
                image_u8=images_u8[time],
                mask_u8=None if masks_u8 is None else masks_u8[time],
                phase=phase,
                spacing_mm=spacing_mm,
            )


def read_pictures(
    clip: Clip, part: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, tuple[float, float]]:
    """Read frames (T, H, W), masks of `Label` values, and the height and width of a pixel in mm."""
    path, mask_path = clip.file(part), clip.file(f"{part}_gt")
    volume = read_volume(path)
    images = as_frames(volume.values)
    if images.min() < 0 or images.max() > 255 or (images != np.rint(images)).any():
        raise InputError(f"{path}: grey values are not whole numbers in 0..255")
    check_upright(images, path)
    spacing_mm = volume.spacing_mm[1], volume.spacing_mm[0]
    if not (clip.needs_masks or mask_path.exists()):
        return images.astype(np.uint8), None, spacing_mm
    masks_u8 = as_frames(read_mask(mask_path, labels.CAMUS, image=volume))
    if masks_u8.shape != images.shape:
        raise InputError(f"{mask_path}: is {masks_u8.shape}, its image {images.shape}")
    return images.astype(np.uint8), masks_u8, spacing_mm


def check_upright(images: NDArray[Any], path: Path) -> None:
    """Refuse images (T, H, W) whose sector does not widen downwards. They were saved with other
    axes than the release's, and left and right can no longer be distinguished."""
    lit = (images > 0).any(axis=0)
    for share in (lit.mean(axis=1), lit.mean(axis=0), lit.mean(axis=0)[::-1]):
        quarter = max(1, len(share) // 4)
        if share[:quarter].sum() > WIDER * share[-quarter:].sum():
            raise InputError(
                f"{path}: its sector does not point upwards as in the release; the file was "
                "saved with other axes"
            )


def as_frames(values: NDArray[Any]) -> NDArray[Any]:
    """(X, Y), (X, Y, 1) or (X, Y, T) -> (T, H, W): the files count along a row first."""
    return values.reshape(*values.shape[:2], -1).transpose(2, 1, 0)


SOURCE = Source(CamusConfig, find_clips)
