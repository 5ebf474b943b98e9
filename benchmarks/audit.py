"""What six trainings leak: the table of docs/privacy.md, by the real commands.

    python benchmarks/audit.py --out FOLDER [--only demo early ...] [--quick]

Phantoms of the style cedar, one frame a patient, stand for the frames of a hospital. The command
goes on where it was stopped. --quick: a tenth of the steps, to see that everything runs; its table
says so. Two quiet cores take ten minutes to half an hour for each case.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

LORA = ("--base", "tiny", "--rank", "8", "--alpha", "64", "--learning-rate", "2.2e-3",
        "--lr-scheduler", "cosine", "--batch-size", "16", "--min-snr-gamma", "1",
        "--sample-every", "0", "--checkpoint-every", "500")  # fmt: skip
ARMS = {
    "demo": "LoRA, the demo's recipe, 40 frames",
    "early": "the same, stopped when its frames show (p < 0.05)",
    "over-trained": "LoRA, 800 epochs, 40 frames",
    "400": "LoRA, the demo's recipe, 400 frames",
    "dp": "LoRA, epsilon 8, 40 frames",
    "cyclegan": "CycleGAN, 40 frames",
}
FLAGS = {
    "early": ("--membership-every", 20, "--membership-stop", 0.05),
    "dp": ("--dp-epsilon", 8),
}


def run(*words, done):
    """Run a command of echodiff in a process of its own, unless what it leaves is there."""
    if done.exists():
        return
    command = [sys.executable, "-m", "echodiff", *map(str, words)]
    print("$ echodiff", *words, flush=True)
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 1):  # an audit that fails has status 1
        sys.exit(status)


def is_finished(place):
    path = place / "run.json"
    return path.is_file() and json.loads(path.read_text("utf-8"))["status"] == "finished"


def make_frames(out, num_train, num_others, seed, style="cedar", num_val=0):
    """One frame of each of many phantoms: members, and others that no training sees.

    num_val: so many of the others are for looks during the training, the last ones for the audit.
    """
    if (out / "metadata.jsonl").is_file():
        return out
    pool = out.with_name(out.name + "-pool")
    flags = ["--num", 2 * (num_train + num_others), "--seed", seed, "--styles", style]
    flags += ["--size", 128, "--findings", "asd,lvh,dilated_lv", "--finding-rate", 0.8]
    run("phantom", "--out", pool, *flags, done=pool / "metadata.jsonl")
    rows, seen = [], set()
    for line in (pool / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["patient_id"] in seen:
            continue
        seen.add(row["patient_id"])
        splits = ["train"] * num_train + ["val"] * num_val
        row["split"] = splits[len(rows)] if len(rows) < len(splits) else "test"
        for key in ("file_name", "mask_file_name"):
            (out / row[key]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pool / row[key], out / row[key])
        rows.append(row)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (out / "metadata.jsonl").write_text(text, encoding="utf-8")
    return out


def train(name, place, out, steps):
    """Train one arm, and return its run folder."""
    run_dir = place / "run"
    if name == "cyclegan":
        source = make_frames(out / "birch-40", 40, 80, 11, "birch")
        target = make_frames(out / "cedar-40", 40, 80, 7)
        words = ("train-gan", "--config", "cyclegan_cmc2024", "--source", source, "--target",
                 target, "--generator", "unet_128", "--resolution", 128, "--load-size", 128,
                 "--width", 16, "--learning-rate", 2e-4, "--steps", steps,
                 "--sample-every", 0)  # fmt: skip
    else:
        count = 400 if name == "400" else 40
        data = make_frames(out / f"cedar-{count}", count, 80, 7)
        if name == "early":  # the same frames; 40 of the others say when to stop
            data = make_frames(out / "cedar-40-val", 40, 80, 7, num_val=40)
        words = ("train-lora", *LORA, "--data", data, "--max-steps", steps, *FLAGS.get(name, ()))
    if not is_finished(run_dir):
        run(*words, "--out", run_dir, done=run_dir / "finished")
    return run_dir


def draw(name, place, run_dir, out, count):
    """Images of the weights: for the training's own captions, or translations."""
    drawn = place / "generated"
    if name == "cyclegan":
        words = ("translate", run_dir, out / "birch-40", "--out", drawn)
    else:
        prompts = place / "prompts.txt"
        data = out / f"cedar-{400 if name == '400' else 40}"
        rows = map(json.loads, (data / "metadata.jsonl").read_text("utf-8").splitlines())
        texts = [row["text"].replace("|", "/") for row in rows if row["split"] == "train"]
        prompts.write_text("\n".join(texts) + "\n", encoding="utf-8")
        words = ("generate", "--prompt-file", prompts, "--weights", run_dir, "--num-images", count,
                 "--steps", 12, "--guidance", 2, "--features", "tiny", "--out", drawn)  # fmt: skip
    run(*words, done=drawn / "metadata.jsonl")
    return drawn


def write_score(scores, key):
    """A share of images in percent, with its interval."""
    if key not in scores:
        return "–"
    one = scores[key]
    return f"{100 * one['value']:.0f} % [{100 * one['low']:.0f}, {100 * one['high']:.0f}]"


def write_row(name, record, scores):
    """A line of the table."""
    attacks = record["attacks"]
    tests = {key: one for key, one in attacks.items() if "auc" in one}
    best = max(tests, key=lambda key: tests[key]["auc"]) if tests else None
    one, whole = tests.get(best), attacks.get("set")
    back = attacks.get("extraction")
    pixels = record["sets"][0]["copies"]["pixels"] if record["sets"] else None
    ceiling = record["ceiling"]
    cells = [
        ARMS[name],
        "–" if one is None else f"{one['auc']:.2f} [{one['low']:.2f}, {one['high']:.2f}] ({best})",
        "–" if whole is None else f"{whole['p']:.2g}",
        "–" if ceiling is None else f"{ceiling['epsilon']:.2f} of {ceiling['ceiling']:.2f}",
        "–" if back is None else f"{back['num_frames_extracted']} in {back['n']} images",
        "–" if pixels is None else
        f"{100 * pixels['share']:.1f} % [{100 * pixels['low']:.1f}, {100 * pixels['high']:.1f}]",
        write_score(scores, "faithfulness"),
        write_score(scores, "intact"),
        f"{record['n']['member_patients']} / {record['n']['non_member_patients']}",
        "passed" if record["passed"] and all(s["passed"] for s in record["sets"]) else "failed",
        f"`{record['base_sha256'][:8] or '–'}`",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    steps = {"over-trained": 2000, "cyclegan": 3000}
    heads = ("weights", "strongest attack: AUC", "p of the set", "epsilon shown", "came back",
             "copies in the set", "faithful", "intact", "patients", "verdict", "base")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in args.only:
        place = args.out / name
        place.mkdir(parents=True, exist_ok=True)
        count = steps.get(name, 660) // (10 if args.quick else 1)
        run_dir = train(name, place, args.out, count)
        drawn = draw(name, place, run_dir, args.out, 20 if args.quick else 80)
        audit = place / "audit"
        flags = ("--attempts", 2, "--captions", 10, "--pairs", 16) if args.quick else ()
        if name == "early":  # not the frames that said when to stop
            flags += ("--holdout", make_frames(args.out / "cedar-others", 0, 80, 1007))
        run("audit", run_dir, "--generated", drawn, "--out", audit, *flags,
            done=audit / "privacy.json")  # fmt: skip
        record = json.loads((audit / "privacy.json").read_text("utf-8"))
        scores = drawn / "metrics.json"  # translations have none
        known = json.loads(scores.read_text("utf-8"))["scores"] if scores.is_file() else {}
        lines.append(write_row(name, record, known))
    if args.quick:
        lines.append("\nWith a tenth of the steps: no result.")
    (args.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
