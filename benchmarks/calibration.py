"""Do 95 % intervals hold the truth, is p uniform, does the collapse alarm fire when it should?

    python benchmarks/calibration.py --out counts.json [--repeats 1000] [--counts 40,100,400,800]
        [--pools FOLDER] [--only TEXT]
    python benchmarks/calibration.py --out counts.json --table
    python benchmarks/calibration.py --alarms [--repeats 2000]

Sets are drawn from Gaussians of 64 features with a power-law spectrum, also with heavy tails and
in clips of four frames a patient, whose MMD^2 and KID are known in closed form. With --pools they
are drawn from features of phantom frames, with replacement: the truth is that of the whole pool.
FOLDER/NAME.npy (N, D) are the real ones, FOLDER/NAME-other.npy those of another scanner style;
--make-pools 3000 writes them, for `tiny`, `texture` and an Inception with random weights.

A generator is the reference itself ("null"), shifted by a little ("hint") or clearly ("shift"), or
has half ("half") or a tenth ("collapse") of the variance; in a pool a tenth or all of its frames
are of the other style, or it knows half of the frames, the most usual ones, or 20 frames. Counts of
every cell are kept in --out, so that a run can be stopped and resumed.
"""

import argparse
import json
import os
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core instead: the matrices are small

import numpy as np
from scipy.special import gammaincinv

from echodiff.files import written_beside
from echodiff.metrics.coverage import find_collapse, score_coverage
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.kernel import (
    build_pairs,
    build_rbf_kernel,
    compute_bandwidth,
    compute_permutation_p,
    cubic_kernel,
)
from echodiff.metrics.resampling import sample_permutations
from echodiff.metrics.scores import (
    NUM_PERMUTATIONS,
    STANDARDISED,
    Draws,
    compute_kernel_repeats,
    standardise,
)

NUM_FEATURES = 64
EFFECTS = {
    "null": (0.0, 1.0), "hint": (0.25, 1.0), "shift": (1.0, 1.0), "half": (0.0, 0.5),
    "collapse": (0.0, 0.1),
}  # fmt: skip
"""Shift of the first four features, in units of 0.6 standard deviations; factor of variances."""
AT_ONCE = 25
"""Repeats of a cell that share a seed: a run that was stopped goes on after the last of them."""


class Network:
    name, sha256, resize, frechet_name = "simulated", "-", "none", "fd_simulated"


@dataclass(frozen=True)
class Gaussians:
    """Both sets from Gaussians, or from Student's t if `tail` is its degrees of freedom."""

    exponent: float = 1.0
    tail: float | None = None
    frames: int = 1
    """Frames of one patient, which share half of their variance. In both sets."""

    @cached_property
    def variances(self):
        spectrum = np.arange(1.0, NUM_FEATURES + 1) ** -self.exponent
        return spectrum * NUM_FEATURES / spectrum.sum()

    def make_shift(self, effect):
        shift = np.zeros(NUM_FEATURES)
        shift[:4] = 0.6 * EFFECTS[effect][0] * np.sqrt(self.variances[:4])
        return shift

    def sample(self, rng, num, effect="null"):
        noise = rng.standard_normal((num, NUM_FEATURES))
        groups = np.arange(num)
        if self.frames > 1:
            groups = np.arange(num) % (num // self.frames)
            hearts = rng.standard_normal((num // self.frames, NUM_FEATURES))
            noise = (noise + hearts[groups]) / np.sqrt(2.0)
        if self.tail:
            noise *= np.sqrt((self.tail - 2) / rng.chisquare(self.tail, num))[:, None]
        scale = np.sqrt(EFFECTS[effect][1] * self.variances)
        return FeatureSet(self.make_shift(effect) + noise * scale, groups)

    def find_truths(self, reference, effect):
        """(kernel, truth) by name."""
        bandwidth = compute_bandwidth(reference.features)
        return {"mmd": (build_rbf_kernel(bandwidth), self.true_mmd2(bandwidth, effect)),
                "kid": (cubic_kernel, self.true_kid(effect))}  # fmt: skip

    def true_mmd2(self, bandwidth, effect):
        factor = EFFECTS[effect][1]

        def expect(shift, *factors):
            """Mean kernel between N(shift, a V) and N(0, b V), over the scales of both."""
            total = np.add.outer(*(one * self.scales for one in factors)).ravel()
            grid = np.geomspace(total.min(), total.max(), 400 if self.tail else 1)
            variances = grid[:, None] * self.variances
            values = np.prod(1.0 + variances / bandwidth**2, axis=1) ** -0.5
            values *= np.exp(-0.5 * np.sum(shift**2 / (bandwidth**2 + variances), axis=1))
            return float(np.interp(total, grid, values).mean())

        zero = np.zeros(NUM_FEATURES)
        return (
            expect(zero, 1.0, 1.0)
            + expect(zero, factor, factor)
            - 2.0 * expect(self.make_shift(effect), factor, 1.0)
        )

    @cached_property
    def scales(self):
        """Factors of the variance, equally likely: a normal's is 1, Student's t mixes them."""
        if self.tail is None:
            return np.ones(1)
        shares = (np.arange(400) + 0.5) / 400
        return (self.tail - 2) / (2.0 * gammaincinv(self.tail / 2, shares))

    @cache  # noqa: B019 (worlds live as long as the program)
    def true_kid(self, effect):
        """The same under (x.y / D + 1)^3, by the moments of Gaussian forms. They are linear in the
        scales of both sets, whose mean is 1: heavy tails change nothing."""
        d, shift = NUM_FEATURES, self.make_shift(effect)
        a, b = self.variances, EFFECTS[effect][1] * self.variances
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


@dataclass(frozen=True)
class Pool:
    """Both sets drawn from features of phantom frames, with replacement: the truth is exact."""

    path: Path

    @cached_property
    def parts(self):
        """Rows of the pool, and of each effect, (N, D)."""
        real, other = (np.load(self.path.with_name(self.path.stem + end + ".npy"))
                       .astype(np.float64) for end in ("", "-other"))  # fmt: skip
        if self.path.stem in STANDARDISED:  # as KID takes them; MMD^2 is the same either way
            real, other = (
                one.features
                for one in reversed(
                    standardise(
                        FeatureSet(other, np.arange(len(other))),
                        FeatureSet(real, np.arange(len(real))),
                    )
                )
            )
        usual = np.argsort(np.sum((real - real.mean(axis=0)) ** 2, axis=1))[: len(real) // 2]
        few = np.linspace(0, len(real) - 1, 20).astype(int)
        return {
            "null": real, "hint": np.concatenate([real[len(real) // 10 :], other[::10]]),
            "shift": other, "half": real[usual], "collapse": real[few],
        }  # fmt: skip

    def sample(self, rng, num, effect="null"):
        rows = self.parts[effect]
        return FeatureSet(rows[rng.integers(0, len(rows), num)], np.arange(num))

    @cache  # noqa: B019
    def _find_truths(self, effect):
        x, y = self.parts[effect], self.parts["null"]
        kernels = {"mmd": build_rbf_kernel(compute_bandwidth(y)), "kid": cubic_kernel}

        def average(kernel, first, second):
            blocks = np.array_split(first, -(-len(first) // 250))
            return sum(kernel(build_pairs(rows, second)).sum() for rows in blocks) / (
                len(first) * len(second)
            )

        return {
            name: (
                kernel,
                average(kernel, x, x) + average(kernel, y, y) - 2.0 * average(kernel, x, y),
            )
            for name, kernel in kernels.items()
        }

    def find_truths(self, reference, effect):
        return self._find_truths(effect)


WORLDS = {
    "k^0": Gaussians(0.0), "k^-1": Gaussians(1.0), "k^-2": Gaussians(2.0),
    "t of 5, k^-1": Gaussians(1.0, tail=5), "clips of 4, k^-1": Gaussians(1.0, frames=4),
}  # fmt: skip


def without_floor(generated, reference):
    """Draws of nothing: the value and its interval alone."""
    n, m = len(generated), len(reference)
    return Draws(*(np.zeros((0, num)) for num in (n, m, m, m, n)))


def measure_cover(world, count, effect, repeats, seed):
    """How many intervals of MMD^2 and of KID lie above the truth and below it, (2, 2)."""
    rng = np.random.default_rng(seed)
    missed = np.zeros((2, 2), dtype=int)
    for _ in range(repeats):
        generated, reference = world.sample(rng, count, effect), world.sample(rng, count)
        truths = world.find_truths(reference, effect)
        tests = {name: (kernel, np.zeros((0, 2 * count))) for name, (kernel, _) in truths.items()}
        found = compute_kernel_repeats(generated, reference, tests,
                                       without_floor(generated, reference))  # fmt: skip
        for row, (name, (_, truth)) in enumerate(truths.items()):
            low, high = found[name].interval
            missed[row] += low > truth, high < truth
    return missed


def measure_p(count, repeats, seed):
    """Shares of p at most 0.01, 0.05, 0.1, 0.5 of real against real, 40 frames from 10 patients."""
    rng = np.random.default_rng([seed, count, 1])
    sample = partial(WORLDS["clips of 4, k^-1"].sample, rng, count)
    p = []
    for _ in range(repeats):
        generated, reference = sample(), sample()
        kernel = build_rbf_kernel(compute_bandwidth(reference.features))
        dealt = sample_permutations(generated.groups, reference.groups, NUM_PERMUTATIONS, rng)
        found = compute_kernel_repeats(
            generated, reference, {"mmd": (kernel, dealt)}, without_floor(generated, reference)
        )["mmd"]
        p.append(compute_permutation_p(found.value, found.permuted))
    return [np.mean(np.array(p) <= level) for level in (0.01, 0.05, 0.1, 0.5)]


def measure_alarms(count, effect, repeats, seed):
    """Share of such generators that the alarm calls collapsed."""
    rng, world = np.random.default_rng([seed, count, 2]), WORLDS["k^-1"]
    fired = []
    for i in range(repeats):
        sets = world.sample(rng, count, effect), world.sample(rng, count)
        scores, _ = score_coverage(*sets, Network(), seed=i)
        fired.append(find_collapse(scores, Network()) is not None)
    return np.mean(fired)


def make_pools(folder, num):
    """Features of phantom frames of two scanner styles; of Inception, with random weights, 1000."""
    import torch
    from torchvision.models import inception_v3

    from echodiff.metrics.extractor import embed_with_extractor
    from echodiff.metrics.features import load_features
    from echodiff.phantom.acquisition import Population, render, sample_acquisition

    torch.manual_seed(0)
    inception = inception_v3(weights=None, init_weights=True, transform_input=False).eval()
    inception.fc = torch.nn.Identity()

    def embed_inception(images_u8):
        return embed_with_extractor(lambda batch: inception(batch / 127.5 - 1.0), images_u8)

    folder.mkdir(exist_ok=True)
    for seed, (end, style) in enumerate((("", "cedar"), ("-other", "aspen"))):
        population = Population(styles=(style,), finding_rate=0.5)
        images = [render(sample_acquisition(seed, i, population), "echo", 128) for i in range(num)]
        for name, embed, most in (("tiny", load_features("tiny"), num),
                                  ("texture", load_features("texture"), num),
                                  ("inception", embed_inception, 1000)):  # fmt: skip
            rows = [embed(images[i : i + 64]) for i in range(0, min(num, most), 64)]
            np.save(folder / f"{name}{end}.npy", np.concatenate(rows).astype(np.float32))


def load_counts(path):
    return json.loads(path.read_text()) if path.exists() else {}


def measure_cells(args, worlds):
    """Fill --out up to --repeats of every cell, small sets first."""
    for count in args.counts:
        for place, (name, world) in enumerate(worlds.items()):
            for kind, effect in enumerate(EFFECTS):
                cell = f"{name} | {effect} | {count}"
                if args.only not in cell:
                    continue
                counts = load_counts(args.out)
                done = counts.get(cell, {"repeats": 0, "missed": [[0, 0], [0, 0]]})
                while done["repeats"] < args.repeats:
                    seed = [args.seed, count, place, kind, done["repeats"]]
                    missed = measure_cover(world, count, effect, AT_ONCE, seed)
                    done = {"repeats": done["repeats"] + AT_ONCE,
                            "missed": (np.array(done["missed"]) + missed).tolist()}  # fmt: skip
                    with written_beside(args.out) as beside:
                        beside.write_text(json.dumps(load_counts(args.out) | {cell: done}))
                shares = 1.0 - np.sum(done["missed"], axis=1) / done["repeats"]
                print(f"{cell}: {shares[0]:.3f} {shares[1]:.3f} of {done['repeats']}", flush=True)


def print_table(counts):
    """Markdown: by world and count the share of intervals that hold the truth, over the effects."""
    print("| | n | repeats | MMD²: lowest | highest | KID: lowest | highest |\n" + "|---" * 7 + "|")
    cells = {tuple(name.split(" | ")): done for name, done in counts.items()}
    for world, count in dict.fromkeys((world, count) for world, _, count in cells):
        own = {effect: one for (w, effect, c), one in cells.items() if (w, c) == (world, count)}
        row = []
        for kernel in (0, 1):
            held = {effect: 1.0 - sum(one["missed"][kernel]) / one["repeats"]
                    for effect, one in own.items()}  # fmt: skip
            row += [f"{held[effect]:.3f} {effect}" for effect in
                    (min(held, key=held.get), max(held, key=held.get))]  # fmt: skip
        print(f"| {world} | {count} | {min(one['repeats'] for one in own.values())} | "
              + " | ".join(row) + " |")  # fmt: skip


def print_alarms(args):
    """Whether p is uniform and the collapse alarm right, in small sets."""
    for count in (40, 100):
        half, honest = (measure_alarms(count, effect, args.repeats, args.seed)
                        for effect in ("half", "null"))  # fmt: skip
        print(f"n {count}: collapse alarm: half the variance {half:.3f}, honest {honest:.3f}")
        shares = " ".join(f"{share:.3f}" for share in measure_p(count, args.repeats, args.seed))
        print(f"n {count}: p at most .01 .05 .1 .5 in {shares}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON of the counts of every cell")
    parser.add_argument("--repeats", type=int, default=1000, help="simulated pairs of sets")
    parser.add_argument("--counts", default="40,100,400,800", help="frames a side")
    parser.add_argument("--pools", type=Path, help="folder of features of phantom frames")
    parser.add_argument("--make-pools", type=int, help="write them from so many frames a style")
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    parser.add_argument("--table", action="store_true", help="print what --out holds")
    parser.add_argument("--alarms", action="store_true", help="p and the collapse alarm instead")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.counts = [int(count) for count in args.counts.split(",")]
    if args.alarms:
        print_alarms(args)
    elif args.table:
        print_table(load_counts(args.out))
    else:
        if args.make_pools:
            make_pools(args.pools, args.make_pools)
        pools = sorted(path for path in args.pools.glob("*.npy") if not path.stem.endswith("-other")
                       ) if args.pools else []  # fmt: skip
        measure_cells(args, WORLDS | {path.stem: Pool(path) for path in pools})


if __name__ == "__main__":
    main()
