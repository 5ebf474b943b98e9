"""Do 95 % intervals hold the truth, is p uniform, does the collapse alarm fire when it should?

    python benchmarks/calibration.py [--repeats 2000] [--counts 40,100,400,800] [--processes 2]

Both sets are drawn from Gaussians whose MMD^2 and KID are known in closed form: 64 features, power-
law spectrum. The generator is shifted by a little ("hint") or clearly ("shift"), or has half the
variance ("collapse"). p and the alarm are looked at with real against real, p by patients.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core instead: the matrices are small

import numpy as np

from echodiff.metrics.coverage import find_collapse, score_coverage
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.kernel import (
    build_rbf_kernel,
    compute_bandwidth,
    compute_permutation_p,
    cubic_kernel,
)
from echodiff.metrics.resampling import sample_permutations
from echodiff.metrics.scores import (
    NUM_HALVES,
    NUM_PERMUTATIONS,
    Draws,
    compute_kernel_repeats,
    halves_of,
)

NUM_FEATURES = 64
SPECTRUM = 1.0 / np.arange(1, NUM_FEATURES + 1)
VARIANCES = SPECTRUM * NUM_FEATURES / SPECTRUM.sum()
CASES = {"hint": (0.25, 1.0), "shift": (1.0, 1.0), "collapse": (0.0, 0.5)}
"""Shift of the first four features, in units of 0.6 standard deviations; factor of variances."""


class Network:
    name, sha256, resize, frechet_name = "simulated", "-", "none", "fd_simulated"


def make_shift(size):
    shift = np.zeros(NUM_FEATURES)
    shift[:4] = 0.6 * size * np.sqrt(VARIANCES[:4])
    return shift


def sample_set(rng, num, *, shift=0.0, factor=1.0, patients=None):
    """num frames; with patients, frames of one share half of their variance."""
    own = rng.standard_normal((num, NUM_FEATURES))
    groups = np.arange(num)
    if patients is not None:
        groups = np.arange(num) % patients
        own = (own + rng.standard_normal((patients, NUM_FEATURES))[groups]) / np.sqrt(2.0)
    return FeatureSet(shift + own * np.sqrt(factor * VARIANCES), groups)


def true_mmd2(bandwidth, shift, factor):
    """MMD^2 of N(shift, factor V) and N(0, V) under the RBF kernel."""

    def expect(difference, variances):
        scaled = 1.0 + variances / bandwidth**2
        exponent = -0.5 * np.sum(difference**2 / (bandwidth**2 + variances))
        return np.prod(scaled) ** -0.5 * np.exp(exponent)

    zero = np.zeros(NUM_FEATURES)
    return (
        expect(zero, 2.0 * VARIANCES)
        + expect(zero, 2.0 * factor * VARIANCES)
        - 2.0 * expect(shift, (1.0 + factor) * VARIANCES)
    )


def true_kid(shift, factor):
    """The same under (x.y / D + 1)^3, by the moments of Gaussian forms."""
    d = NUM_FEATURES
    a, b = VARIANCES, factor * VARIANCES
    within_reference = 1.0 + 3.0 * np.sum(a * a) / d**2
    across = 1.0 + 3.0 * (np.sum(a * b) + np.sum(shift * a * shift)) / d**2
    mean, spread = shift @ shift / d, np.sum(shift * b * shift) / d**2
    product = (
        (shift @ shift) * (np.sum(b * b) + np.sum(shift * b * shift))
        + 2.0 * np.sum(shift * b * b * shift)
    ) / d**3
    within_generated = (
        (1.0 + mean) ** 3
        + 3.0 * (1.0 + mean) * spread
        + 3.0 * ((np.sum(b * b) + np.sum(shift * b * shift)) / d**2 + product)
    )
    return within_reference + within_generated - 2.0 * across


def without_floor(generated_halves, reference_halves):
    """Draws of half-samples alone."""
    none = np.zeros((0, reference_halves.shape[1]))
    return Draws(generated_halves, reference_halves, none, none,
                 np.zeros((0, generated_halves.shape[1])))  # fmt: skip


def hold_truths(generated, reference, truths, rng):
    """Whether the interval of each kernel holds the truth, for one simulated pair of sets.

    truths: (kernel, truth) by name.
    """
    halves = halves_of(generated, rng), halves_of(reference, rng)
    all_rows = len(generated) + len(reference)
    tests = {name: (kernel, np.zeros((0, all_rows))) for name, (kernel, _) in truths.items()}
    repeats = compute_kernel_repeats(generated, reference, tests, without_floor(*halves))
    ends = [repeats[name]["interval"] for name in truths]
    return [low <= truth <= high
            for (_, truth), (low, high) in zip(truths.values(), ends, strict=True)]  # fmt: skip


def measure_cover(count, case, repeats, seed):
    """Share of intervals of MMD^2 and of KID that hold the truth."""
    rng = np.random.default_rng([seed, count])
    size, factor = CASES[case]
    shift = make_shift(size)
    held = []
    for _ in range(repeats):
        reference = sample_set(rng, count)
        generated = sample_set(rng, count, shift=shift, factor=factor)
        bandwidth = compute_bandwidth(reference.features)
        truths = {
            "mmd": (build_rbf_kernel(bandwidth), true_mmd2(bandwidth, shift, factor)),
            "kid": (cubic_kernel, true_kid(shift, factor)),
        }
        held.append(hold_truths(generated, reference, truths, rng))
    return np.mean(held, axis=0)


def measure_p(count, repeats, seed):
    """Shares of p at most 0.01, 0.05, 0.1, 0.5 of real against real, 40 frames from 10 patients."""
    rng = np.random.default_rng([seed, count, 1])
    sample = partial(sample_set, rng, count, patients=count // 4)
    draws = without_floor(np.zeros((0, count)), np.zeros((0, count)))
    p = []
    for _ in range(repeats):
        generated, reference = sample(), sample()
        kernel = build_rbf_kernel(compute_bandwidth(reference.features))
        dealt = sample_permutations(generated.groups, reference.groups, NUM_PERMUTATIONS, rng)
        found = compute_kernel_repeats(generated, reference, {"mmd": (kernel, dealt)}, draws)["mmd"]
        p.append(compute_permutation_p(float(found["value"][0]), found["permuted"]))
    return [np.mean(np.array(p) <= level) for level in (0.01, 0.05, 0.1, 0.5)]


def measure_alarms(count, factor, repeats, seed):
    """Share of generators of this variance that the alarm calls collapsed."""
    rng = np.random.default_rng([seed, count, 2])
    fired = []
    for i in range(repeats):
        sets = sample_set(rng, count, factor=factor), sample_set(rng, count)
        scores, _ = score_coverage(*sets, Network(), seed=i)
        fired.append(find_collapse(scores, Network()) is not None)
    return np.mean(fired)


def report(job):
    """One line of the result; `job`: (what, count, case, repeats, seed)."""
    what, count, case, repeats, seed = job
    if what == "cover":
        mmd, kid = measure_cover(count, case, repeats, seed)
        return (f"n {count} {case}: interval of MMD^2 holds the truth in {mmd:.3f}, "
                f"of KID in {kid:.3f}")  # fmt: skip
    if what == "alarm":
        collapsed, honest = (measure_alarms(count, factor, repeats, seed) for factor in (0.5, 1.0))
        return f"n {count}: collapse alarm: half the variance {collapsed:.3f}, honest {honest:.3f}"
    shares = " ".join(f"{share:.3f}" for share in measure_p(count, repeats, seed))
    return f"n {count}: p at most .01 .05 .1 .5 in {shares}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="simulated pairs of sets")
    parser.add_argument("--counts", default="40,100,400,800", help="frames a side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="measure so much side by side")
    args = parser.parse_args()
    counts = [int(count) for count in args.counts.split(",")]
    print(f"{args.repeats} repeats, {NUM_FEATURES} features, {NUM_HALVES} half-samples, "
          f"seed {args.seed}", flush=True)  # fmt: skip
    rest = args.repeats, args.seed
    jobs = [(what, count, None, *rest) for count in counts for what in ("alarm", "p")
            if count <= 100]  # fmt: skip
    jobs += [("cover", count, case, *rest) for count in counts for case in CASES]
    with ProcessPoolExecutor(args.processes) as processes:
        for line in processes.map(report, jobs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
