"""Which generator, for which scanner: the tables of docs/survey.md, by the real command.

    python benchmarks/survey.py --out FOLDER [--quick] [--data FRAMES --held-out-vendor V]

Without --data: simulated MR of three scanner styles, cedar held out; a core takes up to 40 minutes
for a training, and there are three of each of six arms. --quick: one training of four arms with
30 % of the operations, about 50 minutes on two cores in all; further arms and seeds can be added to
the same folder. The command resumes. Flags after `--` go to `echodiff compare-generators`, such as
`--dry-run`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from echodiff.__main__ import main as echodiff

AIM_STYLE, AIM_DICE, AIM_FLOW = 0.9, 0.03, 1.1
"""Share of images in the asked-for style, largest change of Dice, and MMD² of flow at 8 steps over
that of diffusion at 32."""
AIM_CACHED_S = 60
QUICK = (
    "--arms", "gan,vae,diffusion,flow", "--seeds", "1", "--max-steps", "2400", "--batch-size", "4",
    "--num-images", "96", "--num-synthetic", "160", "--segmentation-steps", "300",
)  # fmt: skip
"""30 % of the operations of the default, in small batches; flags after `--` override them."""


def write_cell(one, digits=3):
    """Markdown: a value with its interval."""
    if not one:
        return "not measured"
    if one["low"] is None:
        return f"{one['value']:.{digits}f}"
    return f"{one['value']:.{digits}f} [{one['low']:.{digits}f}, {one['high']:.{digits}f}]"


def write_table(result, timings):
    """Markdown: a row per arm, three axes and speed."""
    heads = ["arm", "weights", "steps", "gate", result["distance"], "obedience", "gain",
             "gain, held out", result["copies"], "s an image", "min a training"]  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    segmented = result["segmentations"]
    for name, arm in result["arms"].items():
        styled = segmented.get(f"real + {name}, random styles", {})
        seconds = [[one[key] for one in timings.get(name, {}).values() if key in one]
                   for key in ("seconds_an_image", "training_seconds")]  # fmt: skip
        image, training = (sum(own) / len(own) if own else float("nan") for own in seconds)
        cells = [
            name, f"{arm['training']['num_parameters']:,}", str(arm["training"]["num_steps"]),
            "passed" if arm["gate"]["passed"] else "failed",
            write_cell(arm["scores"][result["distance"]]), write_cell(arm["scores"]["obedience"]),
            write_cell(segmented[f"real + {name}"]["test"]["gain"]),
            write_cell(styled.get("unseen", {}).get("gain")),
            write_cell(arm["scores"][result["copies"]]), f"{image:.3f}", f"{training / 60:.1f}",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_bars(result, cached_s):
    """What was aimed at, and whether it was reached."""
    lines = []
    for name, arm in result["arms"].items():
        passed = "passes its gate" if arm["gate"]["passed"] else "FAILS at its gate"
        lines.append(f"- {name} {passed}: {'; '.join(arm['gate']['reasons'])}".rstrip(": "))
        styles = arm["styles"].values()
        agrees = [one["agrees"]["value"] for one in styles if one["agrees"]]
        dice = [one["dice"] for one in styles if one["dice"] is not None]
        if agrees and dice:
            lines.append(
                f"  asked-for style in {min(agrees):.2f} or more of the images (aim {AIM_STYLE}), "
                f"Dice within {max(dice) - min(dice):.3f} (aim {AIM_DICE})"
            )
    if result["classifier"]:
        told = write_cell(result["classifier"], 2)
        lines.append(f"- the style classifier is right on held-out real frames: {told}")
    speed = result["flow_over_diffusion"]
    for name, ratio in (speed["ratios"] if speed else {}).items():
        told = f"{speed['flow_steps']} steps over diffusion at {speed['diffusion_steps']}"
        lines.append(f"- {name} of flow at {told}: {write_cell(ratio, 2)}, aim {AIM_FLOW}")
    lines.append(f"- the table again from what is kept: {cached_s:.0f} s, aim {AIM_CACHED_S}")
    return lines + [f"- {axis}: {text}" for axis, text in result["verdict"].items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one training of four arms")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--held-out-vendor")
    parser.add_argument("more", nargs="*", help="flags for echodiff compare-generators, after --")
    given = parser.parse_args()
    quick = QUICK if given.quick else ()
    words = ["compare-generators", "--out", str(given.out), *quick, *given.more]
    if given.data:
        words += ["--data", str(given.data)]
    if given.held_out_vendor:
        words += ["--held-out-vendor", given.held_out_vendor]
    if "--dry-run" in given.more:
        sys.exit(echodiff(words))
    for _ in range(2):  # the second time from what is kept
        start = time.monotonic()
        if status := echodiff(words):
            sys.exit(status)
        seconds = time.monotonic() - start
    result = json.loads((given.out / "survey.json").read_text())
    timings = json.loads((given.out / "timings.json").read_text())
    print("\n".join([*write_table(result, timings), "", *write_bars(result, seconds)]))


if __name__ == "__main__":
    main()
