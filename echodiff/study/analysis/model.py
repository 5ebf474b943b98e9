"""Ordinal mixed model of the scores: sources, readers, and readers by sources; order of trials."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from echodiff.errors import InputError
from echodiff.study.analysis.ordinal import OrdinalFit, Term, compare_nested, fit_ordinal
from echodiff.study.analysis.ratings import Floats, Ratings

TRIALS = 10.0
"""Trials that the coefficient of the order is about."""
READER, INTERACTION = "reader", "reader:source"
METHOD = "cumulative logit with random reader and reader:source, Laplace; Wald interval"


def describe_model(ratings: Ratings) -> dict[str, Any]:
    """Fit the model without sources, with sources, and with sources and order; describe them.

    Coefficients are log odds of a higher score than a real image gets. A model without a finite
    estimate is left out.
    """
    try:
        return _describe_models(ratings)
    except InputError as error:
        return {"left_out": str(error)}


def _describe_models(ratings: Ratings) -> dict[str, Any]:
    terms = build_terms(ratings)
    sources = build_sources(ratings)
    order = {"trial": (ratings.trial - ratings.trial.mean()) / TRIALS}
    null = fit_ordinal(ratings.score, {}, terms)
    fitted = fit_ordinal(ratings.score, sources, terms)
    readers_alone = fit_ordinal(ratings.score, sources, terms[:1])
    result = {
        "coefficients": [_describe(fitted, name, len(ratings.readers)) for name in sources],
        "thresholds": dict(zip(
            [f"{low}|{high}" for low, high in itertools.pairwise(fitted.levels)],
            map(float, fitted.thresholds), strict=True)),
        "variances": dict(fitted.variances),
        "log_likelihood": fitted.log_likelihood,
        "p_sources": compare_nested(null, fitted),
        "p_interaction": compare_nested(readers_alone, fitted) / 2,
        "n": fitted.num_ratings,
        "num_readers": len(ratings.readers),
        "method": METHOD,
    }  # fmt: skip
    if np.ptp(ratings.trial) > 0:
        try:
            ordered = fit_ordinal(ratings.score, {**sources, **order}, terms)
        except InputError as error:
            return result | {"order": {"left_out": str(error)}}
        result["order"] = {
            **_describe(ordered, "trial", len(ratings.readers)),
            "p_ratio": compare_nested(fitted, ordered),
            "trials": TRIALS,
        }
    return result


def build_terms(ratings: Ratings) -> list[Term]:
    """Random terms of readers, and of readers by sources, without empty groups."""
    cell = ratings.reader * len(ratings.sources) + ratings.source
    return [Term(name=READER, group=np.unique(ratings.reader, return_inverse=True)[1]),
            Term(name=INTERACTION, group=np.unique(cell, return_inverse=True)[1])]  # fmt: skip


def build_sources(ratings: Ratings) -> Mapping[str, Floats]:
    """Columns that are 1 for ratings of a generated source."""
    return {ratings.sources[row]: (ratings.source == row).astype(float)
            for row in ratings.generated}  # fmt: skip


def _describe(fit: OrdinalFit, name: str, num_readers: int) -> dict[str, Any]:
    p, low, high = fit.test(name)
    is_known = bool(np.isfinite(fit.errors[name]))
    return {
        "name": name,
        "value": fit.coefficients[name],
        "low": low if is_known else None,
        "high": high if is_known else None,
        "error": fit.errors[name] if is_known else None,
        "p": p if is_known else None,
        "n": fit.num_ratings,
        "unit": f"ratings of {num_readers} readers",
        "method": METHOD,
    }
