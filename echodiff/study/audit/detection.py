"""Can the source be told from a few measurements? Cross-validated AUC, interval, permutation p.

The classifier is a ridge regression on one column per level of each measurement: numbers are cut at
their quantiles, words are counted. Its predictions are linear in the labels, so that a thousand
permutations are *refitted*, not approximated, by one matrix product.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Value = float | str | None
Array = NDArray[np.float64]

NUM_FOLDS = 5
NUM_PERMUTATIONS = 499
MIN_IMAGES = 8
"""Fewest images of a source of which anything can be said."""
_NUM_BINS = 8
_MAX_LEVELS = 60
"""Most values of one measurement that get a column each, the frequent ones first."""
_MAX_COLUMNS = 400
_AT_ONCE = 250


@dataclass(frozen=True)
class Evidence:
    """Measurements on which one attempt rests; rows are images, or showings of images."""

    name: str
    """What is attempted, such as `headers`."""
    rows: Sequence[Mapping[str, Value]]
    labels: Sequence[str]
    """Source of each row."""
    patients: Sequence[Hashable]
    """Rows of one patient are in one fold, and are counted as one."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """Resolution of a measurement: smaller differences mean nothing, and noise of this standard
    deviation hides them. 0 where a name is missing."""
    is_gated: bool = True
    """Whether the audit fails by it; the content of the images is shown for information."""
    clusters: Sequence[Hashable] | None = None
    """Rows whose labels are permuted together. Default: those of one source and patient."""


@dataclass(frozen=True)
class Detection:
    """How well the source was told."""

    name: str
    auc: float
    """Mean over sources of one against the rest: 0.5 is chance, 1 certainty."""
    low: float
    high: float
    """Interval at the level that holds for all attempts together."""
    p: float
    """Of the permutation test, one-sided."""
    num_images: int
    num_patients: int
    by_source: Mapping[str, float]
    """AUC of each source against the rest."""
    strongest: str
    """The measurement that tells most by itself; empty if nothing was measured that differs."""
    is_gated: bool


def detect(evidence: Evidence, *, level: float, generator: np.random.Generator) -> Detection:
    """Try to tell the source; `level` is that of the interval, such as 0.95."""
    names = list(dict.fromkeys(evidence.labels))
    labels = np.array([names.index(label) for label in evidence.labels])
    columns = build_columns(evidence, generator)
    groups = _number(evidence.patients)
    folds = choose_folds(groups, generator)
    patients = int(groups.max()) + 1
    if not columns:
        even = dict.fromkeys(names, 0.5)
        return Detection(evidence.name, 0.5, 0.5, 0.5, 1.0, len(labels), patients, even, "",
                         evidence.is_gated)  # fmt: skip
    features = np.hstack(list(columns.values()))
    truth = np.eye(len(names))[labels]
    scores = predict(features, truth[:, None], folds)[:, 0]
    aucs, spread = score_folds(scores, truth, folds, groups)
    clusters = evidence.clusters or list(zip(evidence.labels, evidence.patients, strict=True))
    permuted = permute_labels(labels, _number(clusters), generator)
    null = np.concatenate(
        [
            _mean_auc(features, np.eye(len(names))[permuted[:, start : start + _AT_ONCE]], folds)
            for start in range(0, NUM_PERMUTATIONS, _AT_ONCE)
        ]
    )
    strongest = _find_strongest(columns, truth, folds, groups)
    auc = float(aucs.mean())
    reach = NormalDist().inv_cdf(0.5 + level / 2) * spread
    p = (1 + int((null >= auc - 1e-12).sum())) / (1 + len(null))
    return Detection(
        evidence.name, auc, max(0.0, auc - reach), min(1.0, auc + reach), p, len(labels), patients,
        dict(zip(names, aucs.tolist(), strict=True)), strongest, evidence.is_gated,
    )  # fmt: skip


def build_columns(evidence: Evidence, generator: np.random.Generator) -> dict[str, Array]:
    """Columns (N, levels) of every measurement that is not the same for all rows."""
    names = list(dict.fromkeys(name for row in evidence.rows for name in row))
    columns: dict[str, Array] = {}
    for name in names:
        values = [row.get(name) for row in evidence.rows]
        sd = evidence.noise.get(name, 0.0)
        if sd:
            draws = generator.normal(0, sd, len(values))
            values = [v + d if isinstance(v, int | float) else v
                      for v, d in zip(values, draws.tolist(), strict=True)]  # fmt: skip
        encoded = _encode(values)
        if encoded is not None:
            columns[name] = encoded
    kept, total = {}, 0
    for name in sorted(columns, key=lambda name: columns[name].shape[1]):
        total += columns[name].shape[1]
        if total <= _MAX_COLUMNS:
            kept[name] = columns[name]
    return kept


def _encode(values: Sequence[Value]) -> Array | None:
    """One column per level, standardised; None if all values are equal or all differ in words."""
    counts = Counter(values)
    if len(counts) < 2:
        return None
    numbers = [v for v in values if isinstance(v, int | float)]
    parts = [np.array([v == level for v in values], dtype=float)
             for level, count in counts.most_common(_MAX_LEVELS) if count > 1]  # fmt: skip
    if len({*numbers}) > 1 and len(counts) > _NUM_BINS:
        filled = np.array([v if isinstance(v, int | float) else np.nan for v in values])
        cuts = np.unique(np.quantile(numbers, np.arange(1, _NUM_BINS) / _NUM_BINS))
        bins = np.digitize(np.nan_to_num(filled, nan=np.inf), cuts)
        bins[np.isnan(filled)] = -1
        ranks = np.where(np.isnan(filled), 0.5, rankdata(filled, nan_policy="omit") / len(values))
        frequent = [part for part in parts if part.sum() > len(values) / _NUM_BINS]
        parts = [ranks, *(np.asarray(bins == b, dtype=float) for b in np.unique(bins)), *frequent]
    if not parts:
        return None
    stacked = np.stack(parts, axis=1)
    stacked = stacked[:, stacked.std(axis=0) > 0]
    return (stacked - stacked.mean(axis=0)) / stacked.std(axis=0) if stacked.size else None


def choose_folds(groups: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Fold (N,) of each row; whole patients, as even as they allow."""
    sizes = np.bincount(groups)
    order = sorted(generator.permutation(len(sizes)).tolist(), key=lambda g: -sizes[g])
    load, home = [0] * min(NUM_FOLDS, len(sizes)), np.zeros(len(sizes), dtype=np.int64)
    for group in order:
        home[group] = load.index(min(load))
        load[home[group]] += int(sizes[group])
    return np.asarray(home[groups])


def predict(features: Array, targets: Array, folds: NDArray[np.int64]) -> Array:
    """Ridge predictions of rows of a fold by the other folds.

    features (N, D), targets (N, P, S); returns (N, P, S). The penalty is the number of columns.
    """
    flat = targets.reshape(len(features), -1)
    scores = np.zeros_like(flat, dtype=float)
    penalty = features.shape[1] * np.eye(features.shape[1])
    for fold in np.unique(folds):
        held, rest = folds == fold, folds != fold
        if not rest.any():
            continue
        train = features[rest]
        solved = np.linalg.solve(train.T @ train + penalty, train.T)
        centred = flat[rest] - flat[rest].mean(axis=0)
        scores[held] = (features[held] @ solved) @ centred
    return scores.reshape(targets.shape)


def score_folds(
    scores: Array, truth: Array, folds: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[Array, float]:
    """AUC (S,) of each source against the rest within folds, and the standard error of their mean.

    The error is DeLong's (Biometrics 44, 837, 1988), summed by patient as in Obuchowski (Biometrics
    53, 567, 1997). Rows of different folds are not compared: they were scored by different fits.
    """
    aucs, influence = np.zeros(truth.shape[1]), np.zeros(len(scores))
    for source in range(truth.shape[1]):
        is_one = truth[:, source] > 0
        shares, total = [], 0.0
        for fold in np.unique(folds):
            inside = folds == fold
            ones, rest = np.flatnonzero(inside & is_one), np.flatnonzero(inside & ~is_one)
            if not len(ones) or not len(rest):
                continue
            wins = _placements(scores[ones, source], scores[rest, source])
            weight = float(len(ones) * len(rest))
            shares.append((weight, ones, rest, wins))
            total += weight
        if not shares:
            aucs[source] = 0.5
            continue
        aucs[source] = sum(weight * wins[0].mean() for weight, _, _, wins in shares) / total
        for weight, ones, rest, (of_ones, of_rest) in shares:
            part = weight / total / truth.shape[1]
            influence[ones] += part * (of_ones - aucs[source]) / len(ones)
            influence[rest] += part * (of_rest - aucs[source]) / len(rest)
    per_patient = np.bincount(groups, weights=influence)
    return aucs, float(np.sqrt((per_patient**2).sum()))


def permute_labels(
    labels: NDArray[np.int64], clusters: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Labels (N, NUM_PERMUTATIONS), permuted between clusters, each of which has one label."""
    of_cluster = labels[np.unique(clusters, return_index=True)[1]]
    draws = [generator.permutation(of_cluster) for _ in range(NUM_PERMUTATIONS)]
    return np.stack(draws, axis=1)[clusters]


def _mean_auc(features: Array, truth: Array, folds: NDArray[np.int64]) -> Array:
    """Mean AUC (P,) of permuted labels (N, P, S)."""
    scores = predict(features, truth, folds)
    won, pairs = np.zeros(truth.shape[1:]), np.zeros(truth.shape[1:])
    for fold in np.unique(folds):
        inside = folds == fold
        ranks = rankdata(scores[inside], axis=0)
        ones = truth[inside].sum(axis=0)
        rest = inside.sum() - ones
        won += (ranks * truth[inside]).sum(axis=0) - ones * (ones + 1) / 2
        pairs += ones * rest
    return np.asarray(np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5).mean(axis=1))


def _placements(ones: Array, rest: Array) -> tuple[Array, Array]:
    """Share of the other set that each score beats (for `ones`) or loses to (for `rest`)."""
    both = np.concatenate([ones, rest])
    overall = rankdata(both)
    of_ones = (overall[: len(ones)] - rankdata(ones)) / len(rest)
    of_rest = 1 - (overall[len(ones) :] - rankdata(rest)) / len(ones)
    return of_ones, of_rest


def _find_strongest(
    columns: Mapping[str, Array],
    truth: Array,
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> str:
    best, name_of_best = 0.0, ""
    for name, column in columns.items():
        scores = predict(column, truth[:, None], folds)[:, 0]
        auc = float(score_folds(scores, truth, folds, groups)[0].mean())
        if auc > best:
            best, name_of_best = auc, name
    return name_of_best


def _number(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
