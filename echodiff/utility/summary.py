"""Sum the results of all arms up: means, differences, the worth of synthetic frames, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label, Phase
from echodiff.data.splits import patient_of
from echodiff.frames.rows import Frame
from echodiff.metrics.resampling import Groups, build_groups
from echodiff.segmentation.label_names import name_label
from echodiff.segmentation.overlap import MEASURES
from echodiff.utility.arms import ALL
from echodiff.utility.contrasts import (
    Contrast,
    average_patients,
    average_table,
    compare_arms,
)
from echodiff.utility.trainings import Trained
from echodiff.utility.utility_config import HELD_COLUMNS
from echodiff.utility.worth import Worth, measure_worth

Array = NDArray[np.float64]
REAL = "real"


def summarise(
    trained: Mapping[str, Trained], frames: Sequence[Frame], labels: Sequence[Label], *, seed: int
) -> dict[str, Any]:
    """`arms`, `contrasts`, `worth` and `verdict` of utility.json.

    frames: of the test, in the order of the results.
    """
    groups = build_groups([patient_of(frame) for frame in frames])
    tables = {name: _average_dice(one, groups) for name, one in trained.items()}
    contrasts = compare_arms(tables, list_pairs(trained))
    worth = _measure_worths(trained, tables, seed)
    return {
        "verdict": write_verdict(worth, contrasts),
        "worth": [asdict(one) | {"sentence": one.write_verdict()} for one in worth],
        "contrasts": [asdict(one) for one in contrasts],
        "arms": {name: _describe_arm(one, frames, groups, labels)
                 for name, one in trained.items()},
    }  # fmt: skip


def list_pairs(trained: Mapping[str, Trained]) -> list[tuple[str, str]]:
    """Arms that are compared: with synthetic frames against without, and others against all real
    frames."""
    arms = {name: one.arm for name, one in trained.items()}
    alone = {arm.share: name for name, arm in arms.items()
             if arm.share and not arm.synthetic and not arm.is_classical}  # fmt: skip
    pairs = []
    for name, arm in arms.items():
        if arm.synthetic and arm.ratio is None and arm.share:
            pairs.append((name, alone[arm.share]))
        elif arm.synthetic or arm.is_classical:
            pairs.append((name, alone[ALL]))
    return pairs


def write_verdict(worth: Sequence[Worth], contrasts: Sequence[Contrast]) -> str:
    """One sentence with its interval: the worth at the smallest share of real patients, of every
    set; else the first difference."""
    if worth:
        least = min(one.share for one in worth)
        return " ".join(one.write_verdict() for one in worth if one.share == least)
    if not contrasts:
        return ""
    one = contrasts[0]
    interval = "no interval"
    if one.low is not None and one.high is not None:
        interval = f"95 % interval {one.low:+.3f} to {one.high:+.3f}"
    return f"Mean Dice of {one.first} less {one.second}: {one.value:+.3f} ({interval})."


def _average_dice(one: Trained, groups: Groups) -> Array:
    """(S, P) mean Dice over labels."""
    values = np.stack([result.values[:, :, 0] for result in one.results])
    is_known = np.isfinite(values)
    means = np.where(is_known, values, 0.0).sum(axis=2) / np.maximum(1, is_known.sum(axis=2))
    return average_patients(np.where(is_known.any(axis=2), means, np.nan), groups)


def _measure_worths(
    trained: Mapping[str, Trained], tables: Mapping[str, Array], seed: int
) -> list[Worth]:
    """What every set is worth beside every share of the real patients below all of them."""
    alone = sorted(
        ((one.num_real, name) for name, one in trained.items()
         if one.arm.share and not one.arm.synthetic and not one.arm.is_classical),
    )  # fmt: skip
    curve = {num: tables[name] for num, name in alone}
    num_of = {trained[name].arm.share: num for num, name in alone}
    if len(curve) < 2:
        return []
    return [
        measure_worth(
            curve, tables[name], num_real=num_of[one.arm.share], share=one.arm.share,
            synthetic=one.arm.synthetic, num_synthetic=one.num_synthetic, seed=seed,
        )
        for name, one in trained.items()
        if one.arm.synthetic and one.arm.ratio is None and 0 < one.arm.share < ALL
    ]  # fmt: skip


def _describe_arm(
    one: Trained, frames: Sequence[Frame], groups: Groups, labels: Sequence[Label]
) -> dict[str, Any]:
    values = np.stack([result.values for result in one.results])
    sets: dict[str, NDArray[np.bool_]] = {"all": np.ones(len(frames), bool)}
    sets |= {str(phase): np.array([frame.phase == phase for frame in frames]) for phase in Phase}
    for column in HELD_COLUMNS:
        for value in sorted({getattr(frame, column) or "" for frame in frames} - {""}):
            sets[f"{column} {value}"] = np.array([getattr(f, column) == value for f in frames])
    return {
        "share": one.arm.share,
        "synthetic": one.arm.synthetic,
        "ratio": one.arm.ratio,
        "classical": one.arm.is_classical,
        "num_real": one.num_real,
        "num_synthetic": one.num_synthetic,
        "runs": list(one.runs),
        "unit": one.results[0].unit,
        "frames": {
            name: _describe_frames(values[:, rows], groups[rows], labels)
            for name, rows in sets.items() if rows.any()
        },
        "ejection": _describe_ejection(one),
    }  # fmt: skip


def _describe_frames(values: Array, groups: Groups, labels: Sequence[Label]) -> dict[str, Any]:
    """Means with intervals of some frames, over labels (Dice) and by label."""
    groups = build_groups(groups.tolist())
    is_known = np.isfinite(values[..., 0])
    of_frames = np.where(is_known, values[..., 0], 0.0).sum(axis=2) / np.maximum(
        1, is_known.sum(axis=2)
    )
    found: dict[str, Any] = {
        "n": values.shape[1],
        "dice": _describe_mean(np.where(is_known.any(axis=2), of_frames, np.nan), groups),
    }
    for place, label in enumerate(labels):
        own = values[:, :, place]
        if not np.isfinite(own).any():
            continue
        found[name_label(label)] = {
            measure: _describe_mean(own[..., column], groups)
            for column, measure in enumerate(MEASURES)
        } | {"num_missed": float((own[..., 0] == 0).sum(axis=1).mean())}
    return found


def _describe_mean(values: Array, groups: Groups) -> dict[str, Any]:
    table = average_patients(values, groups)
    mean, _ = average_table(table)
    return asdict(mean) | {"num_patients": int(np.isfinite(table).all(axis=0).sum())}


def _describe_ejection(one: Trained) -> dict[str, Any] | None:
    """Error of the ejection fraction in points: bias and mean absolute error; None without both
    phases of a view in any patient."""
    patients = sorted({name for result in one.results for name in result.ejection})
    if not patients:
        return None
    pairs = [[result.ejection[name] for name in patients] for result in one.results]
    errors = np.array([
        [np.nan if found is None or truth is None else found - truth for found, truth in row]
        for row in pairs
    ])  # fmt: skip
    num_missed = int(np.isnan(errors).any(axis=0).sum())
    if num_missed == len(patients):
        return {"num_patients": 0, "num_missed": num_missed, "bias": None, "absolute": None}
    return {
        "num_patients": len(patients) - num_missed,
        "num_missed": num_missed,
        "bias": asdict(average_table(errors)[0]),
        "absolute": asdict(average_table(np.abs(errors))[0]),
    }
