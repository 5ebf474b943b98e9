"""How the look of a set of frames differs from that of real ones, and what is plainly wrong in it.

Works on rows of `appearance.describe_appearance`. A mirrored heart, a wrong finding or a copy is
not seen here; blur, another scanner, another sector and colour are.
"""

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.appearance import (
    COLOUR,
    COLUMNS,
    NUM_RINGS,
    SECTOR,
    SPECTRUM,
    VERSION,
    sha256,
)
from echodiff.metrics.faithfulness import compute_share
from echodiff.metrics.feature_set import Array
from echodiff.metrics.resampling import MIN_GROUPS, Z_95, Groups, count_groups, sample_halves
from echodiff.metrics.score import Mean, Pixels, Score, by_name
from echodiff.metrics.score_name import Kind
from echodiff.metrics.scores import NUM_HALVES

_PLACE = {name: number for number, name in enumerate(COLUMNS)}

SPREAD_BEYOND = 0.5
"""Of the reference's range, how far beyond its ends a frame may lie: a new patient often does."""
VISIBLE_COLOUR = 2.3
"""CIELAB distance that is just visible (Mahy et al. 1994): a grey reference has no range."""
SECTOR_TOLERANCE = 0.05
_DRIFTS = {
    Kind.COLOUR_DRIFT: (COLOUR, VISIBLE_COLOUR),
    Kind.SECTOR_DRIFT: (SECTOR, SECTOR_TOLERANCE),
}
"""What is compared, and by how much it may leave the range of the reference."""
SECTOR_ALARM_SHARE = 0.05
"""Odd sectors may be rare in a good set; one colour frame among grey ones is always a fault."""


def score_appearance(
    generated: Array,
    reference: Array,
    groups_generated: Groups,
    groups_reference: Groups,
    *,
    seed: int,
) -> tuple[dict[str, Score], dict[str, str], list[str]]:
    """Compare rows of `describe_appearance`, (N, K) and (M, K): scores, what was left out, alarms.

    - `speckle_snr`, the `sector_*`, `balance`, `chroma`: means over frames, beside `real`.
    - `spectrum_deviation`: of the ring where the mean power (geometric, over frames) is furthest
      from that of the reference, the deviation in per cent, with its sign; `bands` has the ratio
      of every ring. `real` is the size of the same between two random halves of the reference.
    - `colour_drift`, `sector_drift`: share of frames with a colour, or a sector, beyond the range
      of the reference; `real` is the same of one half of the reference against the other.
      Intervals are Wilson's, since half-samples of no event have no spread.

    Frames where a number is NaN are left out of its mean and counted in `num_without`. Sets of
    different sizes get an alarm and no speckle and spectrum. Empty sets have no scores.
    """
    if not len(generated) or not len(reference):
        return {}, {}, []
    draws = np.random.default_rng(seed)
    ours, real = (
        sample_halves(groups, NUM_HALVES if count_groups(groups) >= MIN_GROUPS else 0, draws)
        for groups in (groups_generated, groups_reference)
    )
    sizes, alarms = _compare_sizes(generated, reference), []
    kinds = [*map(Kind, SECTOR), Kind.BALANCE, Kind.CHROMA]
    scores, left_out = list[Score](), dict[str, str]()
    if sizes:
        alarms.append(sizes)
        left_out |= dict.fromkeys(("speckle_snr", "spectrum_deviation"), "sets of other sizes")
    else:
        kinds.insert(0, Kind.SPECKLE_SNR)
        scores.append(_score_spectrum(generated, reference, ours, real))
    counts, source = (len(generated), len(reference)), _source()
    for kind in kinds:
        x, y = generated[:, _PLACE[kind]], reference[:, _PLACE[kind]]
        if np.isnan(x).all() or np.isnan(y).all():
            left_out[str(kind)] = "no frame of one of the sets has it"
            continue
        num_without = int(np.isnan(x).sum()), int(np.isnan(y).sum())
        scores.append(Score.of_look(kind, _average(x, ours), counts, source, _average(y, real),
                                    num_without))  # fmt: skip
    colour, sector = (
        _score_drift(kind, generated, reference, real)
        for kind in (Kind.COLOUR_DRIFT, Kind.SECTOR_DRIFT)
    )
    scores += [colour, sector]
    return (
        by_name(scores),
        left_out,
        alarms + _find_drift_alarms(generated, reference, colour, sector),
    )


def _find_drift_alarms(
    generated: Array, reference: Array, colour: Score, sector: Score
) -> list[str]:
    alarms = []
    if colour.frames:
        frames = list(colour.frames)
        chroma = generated[:, _PLACE["chroma"]]
        alarms.append(
            f"colour drift: {len(frames)} of {len(generated)} generated frames have "
            f"colours that the reference has not (chroma up to {chroma[frames].max():.0f}"
            f", reference {reference[:, _PLACE['chroma']].max():.0f})"
        )
    is_sure = sector.low is not None and sector.low > (sector.real or 0)
    if sector.value > SECTOR_ALARM_SHARE and is_sure:
        alarms.append(
            f"sector: {len(sector.frames or ())} of {len(generated)} generated frames have a "
            f"sector unlike any of the reference"
        )
    return alarms


def _compare_sizes(generated: Array, reference: Array) -> str | None:
    ours, theirs = ({(int(h), int(w)) for h, w in one[:, :2]} for one in (generated, reference))
    if ours <= theirs:
        return None
    height, width = min(ours - theirs)
    other = min(theirs)
    return (
        f"sizes: generated frames of {width} x {height}, reference of {other[1]} x {other[0]} "
        f"pixels; speckle and spectrum compare frames of one size"
    )


def _score_spectrum(generated: Array, reference: Array, ours: Array, real: Array) -> Score:
    rings = [_PLACE[name] for name in SPECTRUM]
    x, y = generated[:, rings], reference[:, rings]
    log_ratio = x.mean(axis=0) - y.mean(axis=0)
    worst = int(np.abs(log_ratio).argmax())
    lows: list[float | None] = [None] * NUM_RINGS
    highs = lows
    if len(ours) and len(real):
        draws = _average_rows(x, ours) - _average_rows(y, real)
        reach = Z_95 * np.std(draws, axis=0, ddof=1)
        lows, highs = ((10 ** (log_ratio + end)).tolist() for end in (-reach, reach))
    low, high = (None if end is None else 100 * (end - 1) for end in (lows[worst], highs[worst]))
    halves = np.abs(_average_rows(y, real) - _average_rows(y, 1 - real)).max(axis=1)
    value = float(100 * (10 ** log_ratio[worst] - 1))
    return Score.of_spectrum(
        Mean(value, low, high), (len(generated), len(reference)), _source(),
        real=float(100 * (10 ** halves.mean() - 1)) if len(halves) else None,
        band=SPECTRUM[worst],
        bands=[
            {
                "cycles_per_px": [ring / (2 * NUM_RINGS), (ring + 1) / (2 * NUM_RINGS)],
                "ratio": float(10 ** log_ratio[ring]),
                "low": lows[ring],
                "high": highs[ring],
            }
            for ring in range(NUM_RINGS)
        ],
    )  # fmt: skip


def _score_drift(kind: Kind, generated: Array, reference: Array, real: Array) -> Score:
    names, tolerance = _DRIFTS[kind]
    columns = [_PLACE[name] for name in names]
    x, y = generated[:, columns], reference[:, columns]
    is_beyond = _is_beyond(x, y, tolerance)
    share = compute_share(int(is_beyond.sum()), len(x))
    halves = [_is_beyond(y[half == 0], y[half > 0], tolerance).mean() for half in real]
    return Score.of_drift(
        kind, share, (len(generated), len(reference)), _source(),
        real=float(np.mean(halves)) if halves else None,
        frames=np.flatnonzero(is_beyond).tolist(),
    )  # fmt: skip


def _is_beyond(values: Array, reference: Array, tolerance: float) -> NDArray[np.bool_]:
    """(N,) whether a row leaves the range of the reference, or has no number to compare."""
    known = reference[~np.isnan(reference).any(axis=1)]
    if not len(known):
        return np.asarray(~np.isnan(values).any(axis=1))
    low, high = known.min(axis=0), known.max(axis=0)
    reach = SPREAD_BEYOND * (high - low) + tolerance
    is_inside = (values >= low - reach) & (values <= high + reach)
    return np.asarray(~is_inside.all(axis=1))


def _average(values: Array, halves: Array) -> Mean:
    is_known = ~np.isnan(values)
    mean = float(values[is_known].mean())
    known = halves[:, is_known]
    known = known[known.any(axis=1)]
    if len(known) < 2:
        return Mean(mean, None, None)
    reach = Z_95 * float(np.std(_average_rows(values[is_known], known), ddof=1))
    return Mean(mean, mean - reach, mean + reach)


def _average_rows(values: Array, chosen: Array) -> Array:
    """Means of the chosen rows of (N,) or (N, K) in each of (R, N) choices."""
    return np.asarray((chosen @ values).T / chosen.sum(axis=1)).T


def _source() -> Pixels:
    return Pixels("none", VERSION, sha256())
