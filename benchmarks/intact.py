"""How well `intact` tells sound hearts from broken ones.

    python benchmarks/intact.py --hearts 200      # phantoms of held-out seeds, sound and painted on
    python benchmarks/intact.py --count           # 200 generated images, counted by eye
    python benchmarks/intact.py --torn 200        # what MMD of tiny features says of torn frames

The images counted by eye are in intact_hand_count.png, row by row: images 101 to 200 of the bare
base, then of a LoRA. intact_hand_count.csv has the verdicts, given before any network had judged,
and those of a second count by the same reader, who saw neither the first nor the network's.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from echodiff.anatomy import Label, View
from echodiff.metrics.criteria import Criterion, Expected, find_faults, find_scan
from echodiff.metrics.faithfulness import Estimate, compute_share
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.features import load_features
from echodiff.metrics.resampling import build_groups
from echodiff.metrics.scores import score_sets
from echodiff.metrics.segmenter import Segmenter, load_segmenter
from echodiff.phantom.acquisition import Population, render, sample_acquisition
from echodiff.phantom.slices import sector_mask, slice_image
from echodiff.pretrain.broken_hearts import (
    CHAMBERS,
    SEPTA,
    Painted,
    merge_chambers,
    mirror,
    remove_chamber,
    remove_wall,
    tear_septum,
)

SIZE, SEED = 128, 90210
SEPTUM = dict(zip(SEPTA, (Criterion.ATRIAL_SEPTUM, Criterion.VENTRICULAR_SEPTUM), strict=True))
COUNTED = Path(__file__).with_name("intact_hand_count")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearts", type=int, default=0, help="phantoms to judge")
    parser.add_argument("--torn", type=int, default=0, help="phantoms to tear and compare")
    parser.add_argument("--count", action="store_true", help="hold against the count by eye")
    parser.add_argument("--segmenter", type=Path, help="folder of another segmenter")
    config = parser.parse_args()
    segmenter = load_segmenter(config.segmenter)
    if config.hearts:
        judge_sound(segmenter, config.hearts)
        judge_painted(segmenter, config.hearts)
    if config.count:
        hold_against_count(segmenter)
    if config.torn:
        tear_frames(config.torn)


# --- Phantoms -------------------------------------------------------------------------------------


def draw_hearts(num: int, seed: int, views: tuple[View, ...]) -> Iterator[tuple[Painted, Expected]]:
    """Every frame of another patient, of a named or a random scanner."""
    population = Population(styles=("aspen", "birch", "cedar", "random"), views=views)
    for index in range(num):
        acquisition = sample_acquisition(seed, 2 * index + index % 2, population)
        heart, pose = acquisition.heart, acquisition.pose
        anatomy, _ = slice_image(heart, pose, SIZE)
        labels = np.where(sector_mask(pose, SIZE), anatomy.labels, Label.BACKGROUND)
        frame = Painted(render(acquisition, "echo", SIZE, anatomy), labels.astype(np.uint8))
        yield frame, Expected(pose.view, not heart.person.is_adult, heart.finding_names)


def judge_sound(segmenter: Segmenter, num: int) -> Estimate:
    """Share of phantoms that meet all criteria, by their own labels and by the segmenter's."""
    drawn = list(draw_hearts(num, SEED, (View.A4C, View.A4C, View.A4C, View.A2C)))
    found = segmenter([frame.image_u8 for frame, _ in drawn])
    for name, maps in (("own labels", [frame.labels for frame, _ in drawn]), ("segmenter", found)):
        faults = [
            find_faults(labels, find_scan(frame.image_u8), expected)
            for labels, (frame, expected) in zip(maps, drawn, strict=True)
        ]
        share = compute_share(sum(not one for one in faults), num)
        print(f"phantoms intact, {name}: {tell(share)}")
        print(f"  {dict(Counter(str(fault.criterion) for one in faults for fault in one))}")
    return share


def judge_painted(segmenter: Segmenter, num: int) -> dict[str, Estimate]:
    """Share of painted faults that are named right: the criterion is among those that fail; and of
    those that are found at all, by whatever criterion.

    Only where the labels of what was painted fail it: a tear may miss the septum, and a fault that
    the scan would not show is not painted. Of free walls that of the left ventricle alone is
    missing: the limits pass the thin ones of the others.
    """
    rng = np.random.default_rng(SEED)
    images, wanted = [], []
    for number, (frame, expected) in enumerate(draw_hearts(num, SEED + 1, (View.A4C,))):
        between, chamber = SEPTA[number // 5 % 2], CHAMBERS[number // 5 % 4]
        radius = float(rng.uniform(0.04, 0.08)) * SIZE
        name, painted, criterion = (
            ("tear", tear_septum(frame, rng, between, radius), SEPTUM[between]),
            ("merged chambers", merge_chambers(frame, rng, between), SEPTUM[between]),
            ("missing wall", remove_wall(frame, rng, Label.LV), Criterion.WALLS),
            ("missing chamber", remove_chamber(frame, rng, chamber), Criterion.CHAMBERS),
            ("swap", mirror(frame), Criterion.ARRANGEMENT),
        )[number % 5]
        asked = Expected(expected.view, expected.is_child, frozenset())
        scan = find_scan(painted.image_u8)
        if criterion in {fault.criterion for fault in find_faults(painted.labels, scan, asked)}:
            images.append(painted.image_u8)
            wanted.append((name, criterion, scan, asked))
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for labels, (name, criterion, scan, asked) in zip(segmenter(images), wanted, strict=True):
        failed = {fault.criterion for fault in find_faults(labels, scan, asked)}
        hits.setdefault(name, []).append((criterion in failed, bool(failed)))
    hits["all"] = [one for row in hits.values() for one in row]
    named = {}
    for name, row in hits.items():
        named[name], found = (compute_share(sum(said), len(row)) for said in zip(*row, strict=True))
        print(f"painted, {name}: named right {tell(named[name])}; found broken {tell(found)}")
    return named


# --- Generated images -----------------------------------------------------------------------------


def hold_against_count(segmenter: Segmenter) -> float:
    """Cohen's kappa of `intact` and the count by eye, its interval by bootstrap over images."""
    with COUNTED.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sheet = np.asarray(Image.open(COUNTED.with_suffix(".png")))
    images = [
        sheet[top : top + SIZE, left : left + SIZE]
        for top in range(0, sheet.shape[0], SIZE) for left in range(0, sheet.shape[1], SIZE)
    ]  # fmt: skip
    seen, again = (np.array([row[name] == "1" for row in rows])
                   for name in ("is_broken", "is_broken_again"))  # fmt: skip
    said, why = [], []
    for image, labels, row in zip(images, segmenter(images), rows, strict=True):
        findings = frozenset(row["findings"].split())
        expected = Expected(View.A4C, row["is_child"] == "1", findings)
        faults = find_faults(labels, find_scan(image), expected)
        said.append(bool(faults))
        why.append(", ".join(fault.reason for fault in faults))
    ours = np.array(said)
    for name in ("base", "lora", "all"):
        of_set = np.array([name in ("all", row["set"]) for row in rows])
        print(f"{name}: broken by eye {seen[of_set].sum()}, by segmenter {ours[of_set].sum()}, "
              f"of {of_set.sum()}; both {(seen & ours & of_set).sum()}")  # fmt: skip
    alike = seen == again
    for name, one, other in (
        ("segmenter and first count", ours, seen),
        ("segmenter and second count", ours, again),
        ("first and second count of the reader", seen, again),
        ("segmenter and reader, where both counts agree", ours[alike], seen[alike]),
    ):
        rng = np.random.default_rng(SEED)
        draws = [compute_kappa(one[i], other[i])
                 for i in rng.integers(len(one), size=(2000, len(one)))]  # fmt: skip
        low, high = np.quantile(draws, [0.025, 0.975])
        told = f"{compute_kappa(one, other):.2f} ({low:.2f} to {high:.2f}), n {len(one)}"
        print(f"kappa of {name}: {told}")
    for row, mine, eye, told in zip(rows, ours, seen, why, strict=True):
        if mine != eye:
            print(f"  {row['set']} {row['image']}: by eye {row['seen'] or '-'}; {told or '-'}")
    return compute_kappa(seen, ours)


def compute_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Agreement of two verdicts (N,) beyond that of chance."""
    agree = (first == second).mean()
    p, q = first.mean(), second.mean()
    chance = p * q + (1 - p) * (1 - q)
    return float((agree - chance) / (1 - chance)) if chance < 1 else 1.0


# --- Does the feature network see it? -------------------------------------------------------------


def tear_frames(num: int) -> None:
    """MMD^2 of frames of which a part is torn, against whole ones of other hearts."""
    views = (View.A4C,)
    sound = [frame for frame, _ in draw_hearts(num, SEED + 2, views)]
    others = [frame.image_u8 for frame, _ in draw_hearts(num, SEED + 3, views)]
    rng = np.random.default_rng(SEED)
    torn = [tear_septum(frame, rng, SEPTA[i % 2], 0.06 * SIZE).image_u8
            for i, frame in enumerate(sound)]  # fmt: skip
    for features in ("tiny", "texture"):
        network = load_features(features)
        groups = build_groups([None] * num)
        reference = FeatureSet(network(others), groups)
        for share in (0.0, 0.1, 0.25, 0.5, 1.0):
            cut = round(share * num)
            images = [*torn[:cut], *(frame.image_u8 for frame in sound[cut:])]
            scores, _ = score_sets(FeatureSet(network(images), groups), reference, network, seed=0)
            mmd = scores[f"mmd_{features}"]
            print(f"{features}, {100 * share:.0f} % torn: MMD² {mmd.value:.4f} "
                  f"[{mmd.low:.4f}, {mmd.high:.4f}], p {mmd.p:.3f}, "
                  f"real against real up to {mmd.floor_high:.4f}, n {num}")  # fmt: skip


def tell(share: Estimate) -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f}), n {share.num}"


if __name__ == "__main__":
    main()
