"""All numbers of a study: the content of analysis.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from echodiff.study.analysis.agreement import describe_agreement, describe_reliability
from echodiff.study.analysis.as_published import repeat_published
from echodiff.study.analysis.covariates import (
    describe_diagnoses,
    describe_experience,
    describe_ticks,
    describe_times,
)
from echodiff.study.analysis.model import describe_model
from echodiff.study.analysis.multireader import describe_multireader, describe_multireader_pairs
from echodiff.study.analysis.ratings import Ratings, Study
from echodiff.study.analysis.reader_auc import (
    compare_pairs,
    compare_sources,
    describe_aucs,
    describe_means,
)
from echodiff.study.analysis.verdict import write_diagnosis_verdict, write_verdict

MIN_EXACT = 6
"""Readers with whom a two-sided sign-flip test can reach p < 0.05: 2 / 2^6."""


def analyse(study: Study, *, margin: float, seed: int) -> dict[str, Any]:
    """Run every analysis of a study. margin: of the AUC, for equivalence."""
    result: dict[str, Any] = {"verdict": "", "notes": [*study.notes]}
    if study.ratings is not None:
        realism = analyse_realism(study.ratings, margin=margin, seed=seed)
        result["notes"] += realism.pop("notes")
        result |= realism
    if study.diagnoses is not None:
        result["diagnosis"] = describe_diagnoses(study.diagnoses, seed=seed)
        sentence = write_diagnosis_verdict(result["diagnosis"])
        result["verdict"] = " ".join(filter(None, [result["verdict"], sentence]))
    return result


def analyse_realism(ratings: Ratings, *, margin: float, seed: int) -> dict[str, Any]:
    """Run the analyses of scores of realism."""
    once = ratings.without_repeats()
    compared = compare_sources(once, seed=seed)
    aucs = describe_aucs(compared, margin=margin, seed=seed)
    num_readers = len(ratings.readers)
    notes = []
    if num_readers < MIN_EXACT:
        notes.append(f"with {num_readers} readers the smallest possible p of the main test is "
                     f"{2 / 2**num_readers:.3g}: it cannot show a difference")  # fmt: skip
    missing = {*ratings.sources[1:]} - {one.source for one in compared}
    notes += [f"no reader rated both {name} and real images" for name in sorted(missing)]
    return {
        "verdict": write_verdict(aucs, num_readers=num_readers, num_ratings=len(once)),
        "design": describe_design(ratings),
        "notes": notes,
        "as_published": repeat_published(once, seed=seed),
        "main": {"auc": aucs, "pairs": compare_pairs(once, seed=seed),
                 "means": describe_means(once)},
        "multireader": describe_multireader(once),
        "multireader_pairs": describe_multireader_pairs(once),
        "model": describe_model(once),
        "agreement": describe_agreement(once, seed=seed),
        "reliability": describe_reliability(ratings, seed=seed),
        "experience": describe_experience(once, seed=seed),
        "readers": describe_readers(ratings),
        "ticks": describe_ticks(once),
        "times": describe_times(once),
    }  # fmt: skip


def describe_design(ratings: Ratings) -> dict[str, Any]:
    """Count readers, ratings, images, images that several readers rated, and repeats."""
    once = ratings.without_repeats()
    raters = np.bincount(once.image, minlength=len(ratings.images))
    per_source = [len(np.unique(once.image[once.source == row]))
                  for row in range(len(ratings.sources))]  # fmt: skip
    return {
        "num_readers": len(ratings.readers),
        "num_ratings": len(once),
        "num_repeats": len(ratings) - len(once),
        "num_images": dict(zip(ratings.sources, per_source, strict=True)),
        "num_shared_images": int((raters >= 2).sum()),
        "num_patients": len({*ratings.patients}),
        "real": ratings.sources[0],
    }


def describe_readers(ratings: Ratings) -> list[dict[str, Any]]:
    """Experience and number of ratings of each reader."""
    counts = np.bincount(ratings.without_repeats().reader, minlength=len(ratings.readers))
    return [
        {
            "reader": name,
            "num_ratings": int(counts[row]),
            "experience_years": _known(ratings.experience_years[row]),
            "weekly_readings": _known(ratings.weekly_readings[row]),
        }
        for row, name in enumerate(ratings.readers)
    ]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def stamp(value: Any, inputs: str) -> Any:
    """Return the same with the hash of the input next to every number that names its method."""
    if isinstance(value, Mapping):
        stamped = {key: stamp(inner, inputs) for key, inner in value.items()}
        return stamped | {"input": inputs} if "method" in value else stamped
    if isinstance(value, list):
        return [stamp(item, inputs) for item in value]
    return value
