"""`echodiff study power`: how many readers and images a difference needs, by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.fingerprints import compute_fingerprint, sha256_file
from echodiff.folders import FolderLock
from echodiff.progress import ProgressBar
from echodiff.runs import versions
from echodiff.settings.command_line import parse, run_main
from echodiff.settings.fields import as_dict
from echodiff.study.analysis.power_config import PowerConfig

PROG = "echodiff study power"
POWER_FILE, PAGE_FILE = "power.json", "power.html"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_main(lambda: _estimate(parse(PowerConfig, argv, prog=PROG)), PROG)


def _estimate(config: PowerConfig) -> int:
    target = None if config.out is None else config.out / POWER_FILE
    if target is not None and target.exists() and not config.overwrite:
        raise InputError(f"{target}: exists already; --overwrite replaces it")
    from echodiff.study.analysis.power import estimate_power, find_smallest
    from echodiff.study.analysis.simulation import build_truth

    scale = _choose_scale(config)
    truth, null = (build_truth(auc, **scale["truth"]) for auc in (config.auc, 0.5))
    with ProgressBar(total=len(config.readers) * len(config.images), desc="designs") as bar:
        rows = estimate_power(
            truth, null, readers=config.readers, images=config.images, margin=config.margin,
            num_comparisons=config.sources, num_studies=config.studies, seed=config.seed,
            is_done=bar.update,
        )  # fmt: skip
    result: dict[str, Any] = {
        "auc": config.auc,
        "margin": config.margin,
        "target": config.target,
        "shift": truth.shift,
        "reader_sd": truth.reader_sd,
        "interaction_sd": truth.interaction_sd,
        "scale": scale["text"],
        "designs": rows,
        "smallest": {key: find_smallest(rows, key, config.target)
                     for key in ("power", "equivalence")},
        "inputs": scale["inputs"],
        "settings": {name: value for name, value in as_dict(config).items()
                     if name not in ("out", "overwrite")},
        "versions": versions(),
    }  # fmt: skip
    result["sha256"] = compute_fingerprint({"settings": result["settings"], **scale["inputs"]})
    print(_write_table(result))
    if config.out is not None and target is not None:
        from echodiff.report.study_power_page import write_power_page

        with FolderLock(config.out):
            write_power_page(config.out / PAGE_FILE, result)
            write_json_atomic(target, result)
        print(f"Page: {config.out / PAGE_FILE}; all numbers in {target}")
    return 0


def _choose_scale(config: PowerConfig) -> dict[str, Any]:
    """Scores of real images and deviations of readers: of the flags, or of an earlier study."""
    if config.ratings is None:
        return {
            "truth": {"reader_sd": config.reader_sd, "interaction_sd": config.interaction_sd},
            "text": "published scores of real images",
            "inputs": {},
        }
    from echodiff.study.analysis.model import INTERACTION, READER, describe_model
    from echodiff.study.analysis.ratings_file import read_ratings
    from echodiff.study.analysis.study_files import find_files

    files = find_files(config.ratings, None)
    ratings = read_ratings(files.ratings, real=config.real, readers=files.readers)
    once = ratings.without_repeats()
    model = describe_model(once)
    if "left_out" in model:
        raise InputError(f"{files.ratings}: {model['left_out']}; give --reader-sd and "
                         "--interaction-sd instead")  # fmt: skip
    deviations = {name: float(np.sqrt(one)) for name, one in model["variances"].items()}
    counts = np.bincount(once.scores_of(0), minlength=6)[1:]
    return {
        "truth": {"reader_sd": deviations[READER], "interaction_sd": deviations[INTERACTION],
                  "counts": tuple(int(count) for count in counts)},
        "text": f"scores and readers of {files.ratings.name}",
        "inputs": {files.ratings.name: sha256_file(files.ratings)},
    }  # fmt: skip


def _write_table(result: dict[str, Any]) -> str:
    """Lay out the designs and the smallest ones that reach the target."""
    lines = [
        f"Power to detect an AUC of {result['auc']:g}, and to show that an AUC of 0.5 is within "
        f"±{result['margin']:g} ({result['scale']}; reader sd {result['reader_sd']:.2f}, reader by "
        f"source sd {result['interaction_sd']:.2f}):",
        f"{'readers':>8} {'images':>7}  {'power':<21} {'equivalence':<21} {'false alarms':<21}",
    ]
    for row in result["designs"]:
        cells = "".join(f" {_write_share(row[key]):<21}"
                        for key in ("power", "equivalence", "false_alarms"))  # fmt: skip
        lines.append(f"{row['readers']:>8} {row['images']:>7} {cells}".rstrip())
    for key, text in (("power", "detect the difference"), ("equivalence", "show equivalence")):
        found = result["smallest"][key]
        told = "; ".join(f"{one['readers']} readers with {one['images']} images of each source"
                         for one in found) or "none of these designs"  # fmt: skip
        lines.append(f"{result['target']:.0%} power to {text}: {told}")
    return "\n".join(lines)


def _write_share(share: dict[str, Any]) -> str:
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"
