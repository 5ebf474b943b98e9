"""Scores of pictures that have a target each: translation, and pictures drawn over a mask.

Pictures are 8 bit and every error is in grey levels of 0..255, so `data_range` is 255 in each
score: an SSIM or a PSNR means nothing without it. Where either picture of a pair has colour, both
are compared as RGB. Averages are over pairs; intervals take whole patients.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from echodiff.data.splits import fold_id
from echodiff.errors import InputError
from echodiff.frames.layout import IMAGES
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.images import read_image_u8, read_mask_u8
from echodiff.metrics.resampling import (
    MIN_GROUPS,
    Z_95,
    Groups,
    build_groups,
    count_groups,
    sample_halves,
)
from echodiff.metrics.score import Mean, Pixels, Score, by_name
from echodiff.metrics.score_name import PAIRED
from echodiff.metrics.scores import NUM_HALVES

DATA_RANGE = 255
SIGMA_PX = 1.5
"""Of SSIM's Gaussian window, which is 11 x 11 pixels."""
WINDOW_PX = 11
NAMES = tuple(map(str, PAIRED))


class Pairing(NamedTuple):
    """Pictures that belong together, and what was left alone."""

    pairs: list[tuple[Path, Path]]
    """Generated, target."""
    groups: Groups
    """Patient of each pair; pairs with one target and no patient are a group."""
    masks: list[Path] | None
    """Index masks of the targets; None where not every target has one."""
    unpaired: list[str]
    """Pictures of either folder without a partner."""


def find_pairs(
    generated: Path, target: Path, target_frames: Sequence[Frame] | None = None
) -> Pairing:
    """Pair two frames folders by `pair_id` where every row of both has one, else by file name.

    target_frames: the rows of `target` that count; None: all.

    File names are compared without `images/` and without their suffix. Several generated frames
    may have one target, as samples over one mask do; a generated frame with two targets is an
    InputError, and so are folders without any pair.
    """
    ours = load_frames(generated)
    theirs = load_frames(target) if target_frames is None else target_frames
    by_pair_id = all(frame.pair_id is not None for frame in [*ours, *theirs])
    key = _pair_id if by_pair_id else _stem
    targets: dict[str, Frame] = {}
    for frame in theirs:
        other = targets.setdefault(key(frame), frame)
        if other is not frame:
            raise InputError(
                f"{target}: {other.file_name} and {frame.file_name} are both {key(frame)}: "
                f"a generated frame has one target"
            )
    paired = [(frame, targets[key(frame)]) for frame in ours if key(frame) in targets]
    if not paired:
        name = "pair_id" if by_pair_id else "file name"
        raise InputError(f"{generated}: no frame has the {name} of one in {target}")
    used = {key(frame) for frame, _ in paired}
    masks = [truth.mask_file_name for _, truth in paired]
    return Pairing(
        pairs=[(generated / f.file_name, target / truth.file_name) for f, truth in paired],
        groups=build_groups([
            ("patient", fold_id(truth.patient_id or frame.patient_id or ""))
            if truth.patient_id or frame.patient_id
            else ("target", truth.file_name)
            for frame, truth in paired
        ]),
        masks=[target / name for name in masks if name] if all(masks) else None,
        unpaired=[
            *(str(generated / frame.file_name) for frame in ours if key(frame) not in used),
            *(str(target / frame.file_name) for frame in theirs if key(frame) not in used),
        ],
    )  # fmt: skip


def compute_pair(
    image_u8: NDArray[np.uint8],
    target_u8: NDArray[np.uint8],
    mask: NDArray[np.generic] | None = None,
) -> dict[str, float]:
    """SSIM, PSNR (dB, both readings), MAE (grey levels) and MSE (their squares) of two pictures.

    image_u8, target_u8: (H, W) or (H, W, 3), at least 11 x 11 and alike in size. mask: (H, W),
    only pixels that are not 0 count; for SSIM the mean of its map there, whose windows reach 5
    pixels further. ValueError where sizes differ or no pixel counts.

    - `ssim`: Wang et al., IEEE TIP 2004, as published: Gaussian window of sigma 1.5, K = 0.01 and
      0.03, L = 255; the map without the 5 pixels at the border that a window does not fit in.
    - `psnr`: 10 log10(255^2 / MSE), infinite where the pictures are the same.
    - `psnr_mixed`: 10 log10(255^2 / MSE of the same pictures in 0..1), an 8-bit peak over a
      normalised error. It is `psnr` + 48.13 dB whatever the pictures, and is here only to read
      papers that report it, such as the 52.344 dB of an MSE of 0.37901. (Pictures in -1..1 have
      four times the MSE, so that mixture is 42.11 dB above `psnr`.)
    """
    image, target = _alike(image_u8, target_u8)
    if min(image.shape[:2]) < WINDOW_PX:
        raise ValueError(f"{_size(image)}: SSIM needs {WINDOW_PX} x {WINDOW_PX} pixels")
    counts, inside = _find_counting(image.shape[:2], mask)
    ssim_map = structural_similarity(
        image,
        target,
        data_range=DATA_RANGE,
        channel_axis=2 if image.ndim == 3 else None,
        gaussian_weights=True,
        sigma=SIGMA_PX,
        use_sample_covariance=False,
        full=True,
    )[1]
    error = (image - target)[counts]
    mse = float(np.mean(error**2))
    peak = 10 * np.log10(DATA_RANGE**2 / mse) if mse else np.inf
    mixed = 10 * np.log10(DATA_RANGE**2 / (mse / DATA_RANGE**2)) if mse else np.inf
    return {
        "ssim": float(np.mean(ssim_map[inside])),
        "psnr": float(peak),
        "psnr_mixed": float(mixed),
        "mae": float(np.mean(np.abs(error))),
        "mse": mse,
    }


def score_pairs(
    pairs: Sequence[tuple[Path, Path]],
    groups: Groups,
    *,
    masks: Sequence[Path] | None = None,
    seed: int,
    white_level: int | None = None,
) -> tuple[dict[str, Score], dict[str, str]]:
    """Means over pairs (generated, target), with intervals, and the reasons for what is left out.

    groups: (N,) patient of each pair. `values` holds every pair's own number, in order. One pair
    is in memory at a time. Identical pictures have an infinite PSNR, which no mean survives, and
    a mean over the others would hide the best: with one such pair both readings of the PSNR are
    left out, and `num_identical` says how many there are beside what remains.
    Pictures of more than 8 bits are scaled by the white level of their folder, targets by
    `white_level` where it is given. InputError names the files of a pair that does not fit
    together.
    """
    if len(groups) != len(pairs) or (masks is not None and len(masks) != len(pairs)):
        raise ValueError(f"{len(pairs)} pairs, {len(groups)} groups, {len(masks or ())} masks")
    if not pairs:
        return {}, dict.fromkeys(NAMES, "there are no pairs")
    whites = (
        find_white_level([generated for generated, _ in pairs]),
        find_white_level([target for _, target in pairs], known=white_level),
    )
    found = []
    for number, (generated, target) in enumerate(pairs):
        mask = None if masks is None else read_mask_u8(masks[number])
        image = read_image_u8(generated, max_value=whites[0])
        truth = read_image_u8(target, max_value=whites[1])
        try:
            found.append(compute_pair(image, truth, mask))
        except ValueError as error:
            where = "" if masks is None else f", mask {masks[number]}"
            raise InputError(f"{generated} and {target}{where}: {error}") from error
    generator = np.random.default_rng(seed)
    num_halves = NUM_HALVES if count_groups(groups) >= MIN_GROUPS else 0
    halves = sample_halves(groups, num_halves, generator)
    num_identical = sum(one["mse"] == 0 for one in found)
    scores, left_out = [], {}
    for kind in PAIRED:
        values = np.array([one[kind] for one in found])
        if not np.isfinite(values).all():
            left_out[str(kind)] = f"infinite: {num_identical} of {len(pairs)} pairs are identical"
            continue
        scores.append(Score.of_pairs(
            kind, _average(values, halves), Pixels("none"), data_range=DATA_RANGE,
            is_masked=masks is not None, num_identical=num_identical, values=values.tolist(),
        ))  # fmt: skip
    return by_name(scores), left_out


def _average(values: NDArray[np.float64], halves: NDArray[np.float64]) -> Mean:
    low = high = None
    mean = float(values.mean())
    if len(halves):
        spread = np.std(halves @ values / halves.sum(axis=1), ddof=1)
        low, high = mean - Z_95 * float(spread), mean + Z_95 * float(spread)
    return Mean(mean, low, high)


def _find_counting(
    shape: tuple[int, ...], mask: NDArray[np.generic] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels that count, and those of them around which SSIM's window fits in the picture."""
    counts = np.ones(shape, bool) if mask is None else np.asarray(mask) != 0
    if counts.shape != shape:
        raise ValueError(f"the mask is {_size(counts)}, the picture {shape[1]} x {shape[0]}")
    edge = WINDOW_PX // 2
    inside = np.zeros_like(counts)
    inside[edge:-edge, edge:-edge] = counts[edge:-edge, edge:-edge]
    if not inside.any():
        raise ValueError(f"the mask leaves no pixel, {edge} from the border")
    return counts, inside


def _alike(
    image_u8: NDArray[np.uint8], target_u8: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64, grey, or as RGB where either has colour."""
    if image_u8.shape[:2] != target_u8.shape[:2]:
        raise ValueError(f"sizes differ, {_size(image_u8)} and {_size(target_u8)}")
    image, target = image_u8.astype(np.float64), target_u8.astype(np.float64)
    if image.ndim != target.ndim:
        image, target = (
            np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one
            for one in (image, target)
        )
    return image, target


def _size(image: NDArray[np.generic]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _pair_id(frame: Frame) -> str:
    assert frame.pair_id is not None
    return frame.pair_id


def _stem(frame: Frame) -> str:
    name = PurePosixPath(frame.file_name.removeprefix(f"{IMAGES}/"))
    return name.with_suffix("").as_posix()
