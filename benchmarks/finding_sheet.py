"""Draw a sheet of every finding, kind and grade: the echo at end of systole beside its mask.

    python benchmarks/finding_sheet.py [--out docs/images/findings.png] [--seed 1]

A row is a finding (of one kind), from mild to severe; the last rows are normal hearts in each view.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from echodiff.anatomy import KINDS, PALETTE, AgeGroup, Finding, Grade, View
from echodiff.contact_sheet import contact_sheet
from echodiff.phantom.echo import sample_echo_settings, simulate_echo
from echodiff.phantom.heart import contract, sample_heart
from echodiff.phantom.slices import VIEWS, sample_pose, sector_mask, slice_image
from echodiff.phantom.styles import STYLES

SIDE = 128
CONGENITAL = (Finding.COMMON_AV_VALVE, Finding.HYPOPLASTIC_LV, Finding.HYPOPLASTIC_RV)


def draw_pair(seed, view, findings=(), **options):
    """The echo and the coloured mask, (S, S, 3) uint8 each."""
    rng = np.random.default_rng(seed)
    heart = sample_heart(rng, findings, **options)
    systole = contract(heart, rng)
    pose = sample_pose(rng, heart, view, STYLES["aspen"].opening_deg)
    echo = sample_echo_settings(rng, "aspen", STYLES["aspen"], heart.scale)
    labels = slice_image(systole, pose, SIDE)[0].labels * sector_mask(pose, SIDE)
    palette = np.array([PALETTE.get(label, (0, 0, 0)) for label in range(256)], np.uint8)
    image = simulate_echo(systole, pose, echo, SIDE)
    return [np.repeat(image[..., None], 3, axis=2), palette[labels]], systole


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/findings.png"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    images, labels = [], []
    for name in Finding:
        for kind in KINDS.get(name, ("",)):
            for grade in Grade:
                options = {"grades": {name: grade}, "kinds": {name: kind} if kind else {}}
                options["age_group"] = AgeGroup.CHILD if name in CONGENITAL else None
                pair, heart = draw_pair(args.seed, View.A4C, (name,), **options)
                images += pair
                found = heart.find(name)
                size = f"{found.size_mm} mm" if found.size_mm else f"{found.volume_ml_m2} ml/m2"
                size = "" if "None" in size else size
                labels += [f"{name} {kind}".replace("_", " "), f"{grade} {size}"]
    for view in VIEWS:
        pair, heart = draw_pair(args.seed + 4, view)
        images += pair
        labels += [f"normal, {view}", f"EF {heart.ef:.0f} %"]
    sheet = Image.fromarray(contact_sheet(images, columns=6, labels=labels, cell=SIDE))
    sheet.quantize(128).save(args.out, optimize=True)
    print(f"{len(images) // 2} hearts in {args.out}")


if __name__ == "__main__":
    main()
