"""Rows of two frames folders: partners where pairs are wanted, and one split for every patient."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from echodiff.data.splits import check_split_column, patient_of, split_patients
from echodiff.errors import InputError
from echodiff.frames.layout import IMAGES
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.gan.gan_config import TrainGanConfig

logger = logging.getLogger(__name__)


class ChosenFrames(NamedTuple):
    """Rows of both domains, those that are trained on and those that are kept apart."""

    source: list[Frame]
    target: list[Frame]
    held_out_source: list[Frame]
    held_out_target: list[Frame]
    is_paired: bool


def choose_frames(config: TrainGanConfig) -> ChosenFrames:
    """Pair the rows where pairs are wanted, and keep whole patients apart, in both domains alike.

    A `split` column of either folder decides for its patients in both; other patients are drawn
    by seed. Chosen rows carry their split.
    """
    folders = config.source, config.target or config.source
    source = load_frames(folders[0], require_mask=config.source_kind == "mask")
    target = source if config.target is None else load_frames(folders[1])
    for folder, frames in zip(folders, (source, target), strict=True):
        modalities = sorted({frame.modality for frame in frames if frame.modality})
        if len(modalities) > 1:
            raise InputError(
                f"{folder}: mixes {' and '.join(modalities)}; each domain needs its own folder"
            )
    is_paired = config.target is None or config.pairing == "paired"
    if config.target is not None and is_paired:
        source, target = pair_frames(folders[0], source, folders[1], target)
    patients = find_patients(source, target, is_paired=is_paired)
    homes = find_homes(folders, (source, target), patients, config.held_out_share, config.seed)
    domains = [
        [dataclasses.replace(frame, split=homes[name]) for frame, name in zip(*both, strict=True)]
        for both in zip((source, target), patients, strict=True)
    ]
    parts = [
        [frame for frame in frames if (frame.split == "train") is wanted]
        for wanted in (True, False)
        for frames in domains
    ]
    chosen = ChosenFrames(parts[0], parts[1], parts[2], parts[3], is_paired)
    for flag, folder, frames in zip(("source", "target"), folders, chosen[:2], strict=True):
        if len(frames) < 2:
            raise InputError(
                f"--{flag} {folder}: {len(frames)} frame to train on, where 2 or more are needed"
            )
    return chosen


def find_patients(
    source: Sequence[Frame], target: Sequence[Frame], *, is_paired: bool
) -> tuple[list[str], list[str]]:
    """The patient of every row, by one name in both domains.

    Rows of two folders with one pair_id show one heart, and so do partners: rows at one place where
    `is_paired`. Their patients are one, also under different names.
    """
    names = [[patient_of(frame) for frame in frames] for frames in (source, target)]
    links = list(zip(*names, strict=True)) if is_paired else []
    if not is_paired:
        links = [
            (name, f"pair {frame.pair_id}")
            for frames, own in zip((source, target), names, strict=True)
            for frame, name in zip(frames, own, strict=True)
            if frame.pair_id
        ]
    numbers = {name: i for i, name in enumerate(sorted({*names[0], *names[1]}))}
    for _, other in links:
        numbers.setdefault(other, len(numbers))
    ends = np.array([[numbers[name] for name in link] for link in links], int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(numbers),) * 2)
    _, groups = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    one_name = {name: first.setdefault(int(groups[i]), name) for name, i in numbers.items()}
    return [one_name[name] for name in names[0]], [one_name[name] for name in names[1]]


def find_homes(
    folders: Sequence[Path],
    domains: Sequence[Sequence[Frame]],
    patients: Sequence[Sequence[str]],
    share: float,
    seed: int,
) -> dict[str, str]:
    """Split of every patient over both folders; InputError where they do not agree."""
    homes: dict[str, str] = {}
    for folder, frames, names in zip(folders, domains, patients, strict=True):
        try:
            has_split = check_split_column(frames)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        for frame, name in zip(frames, names, strict=True) if has_split else ():
            if homes.setdefault(name, str(frame.split)) != frame.split:
                raise InputError(
                    f"{folders[0]} and {folders[1]}: patient {name} is in {homes[name]} and, by "
                    f"{frame.file_name} of {folder}, in {frame.split}: no patient may be in two "
                    "splits"
                )
    others = {name for names in patients for name in names} - homes.keys()
    return homes | split_patients(others, (1 - share, share, 0), seed=seed)


def pair_frames(
    source_dir: Path, source: Sequence[Frame], target_dir: Path, target: Sequence[Frame]
) -> tuple[list[Frame], list[Frame]]:
    """Partners by `pair_id` where every row has one, else by file name without its suffix."""
    has_ids = all(frame.pair_id is not None for frame in [*source, *target])

    def key(frame: Frame) -> str:
        name = PurePosixPath(frame.file_name.removeprefix(f"{IMAGES}/"))
        return str(frame.pair_id) if has_ids else name.with_suffix("").as_posix()

    partners = {key(frame): frame for frame in target}
    if len(partners) < len(target):
        raise InputError(f"{target_dir}: several frames have the same pair_id")
    pairs = [(frame, partners[key(frame)]) for frame in source if key(frame) in partners]
    if not pairs:
        what = "pair_id" if has_ids else "file name"
        raise InputError(f"{source_dir}: no frame has the {what} of one in {target_dir}")
    if len(pairs) < max(len(source), len(target)):
        left = len(source) + len(target) - 2 * len(pairs)
        logger.warning("%d frames without a partner are left out", left)
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
