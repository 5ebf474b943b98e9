"""`echodiff evaluate GENERATED --reference REAL --out DIR`: scores with their intervals and floors.

Reads two frames folders, writes `metrics.json`. `generate.py` and the demo use `score_frames` and
`compare_frames` directly. What each number means: docs/evaluation.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff.config import InputError, parse, positional, run_main
from echodiff.files import write_json_atomic
from echodiff.metrics.comparison import compare_sets
from echodiff.metrics.faithfulness import compare_faithfulness, score_faithfulness
from echodiff.metrics.measured import Measured, Networks, load_networks, measure_frames
from echodiff.metrics.scores import Score, score_sets
from echodiff.runs import versions

METRICS_FILE = "metrics.json"
DEFAULT_FEATURES = ("tiny", "texture")
PROG = "echodiff evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Scores a generated set of frames against a real one."""

    generated: Path = positional()
    """Frames folder to score."""
    reference: Path
    """Frames folder of real frames, none of them used in training."""
    out: Path
    """Folder for metrics.json."""
    features: tuple[str, ...] = DEFAULT_FEATURES
    """Feature networks, comma between: inception, tiny, texture, or a TorchScript file."""
    seed: int = 0
    """Of the draws behind intervals, floors and permutations."""
    overwrite: bool = False
    """Replace the metrics.json that lies in --out."""

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("--features is empty")
        if self.seed < 0:
            raise ValueError("--seed must be 0 or more")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_main(lambda: _evaluate(argv), PROG)


def score_frames(
    generated: Path,
    reference: Path | Sequence[Path],
    *,
    features: Sequence[str] | Networks = DEFAULT_FEATURES,
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score a frames folder against a reference; write `out/metrics.json` where `out` is given.

    reference: a frames folder, or the paths of pictures in one (the held-out frames of a run).
    features: names, or networks that are open already.
    Where the Inception weights cannot be had, one line on stderr says so and `tiny` stands in.
    Prompt faithfulness is scored where `tiny` is among the features.
    """
    networks = features if isinstance(features, Networks) else load_networks(features)
    of_generated = measure_frames(generated, networks.opened)
    of_reference = measure_frames(reference, networks.opened)
    scores: dict[str, Score] = {}
    left_out: dict[str, str] = {}
    for network in networks.opened:
        found, missing = score_sets(
            of_generated.in_features(network.name),
            of_reference.in_features(network.name),
            network,
            seed=seed,
        )
        scores |= found
        left_out |= missing
        if network.name == "tiny" and of_generated.faithfulness and of_reference.faithfulness:
            scores |= score_faithfulness(
                of_generated.faithfulness, of_reference.faithfulness, network
            )
    result = {
        "scores": scores,
        "alarms": _alarms(of_generated, of_reference),
        "left_out": left_out,
        "notes": list(networks.notes),
        "generated": of_generated.name,
        "reference": of_reference.name,
        "seed": seed,
        "versions": versions(),
    }
    if out is not None:
        write_json_atomic(Path(out) / METRICS_FILE, result)
    return result


def compare_frames(
    first: Path,
    second: Path,
    reference: Path | Sequence[Path],
    *,
    features: Sequence[str] = DEFAULT_FEATURES,
    seed: int = 0,
) -> dict[str, Score]:
    """What `second` (the LoRA) gains over `first` (the base) against one reference.

    `mmd_ratio_<features>`: MMD^2 of second over that of first, below 1 is nearer to the reference.
    `faithfulness_gain`, `faithfulness_gain_<finding>`, `specificity_gain`: second minus first, over
    the findings that the prompts of both name.
    """
    networks = load_networks(features).opened
    of_first, of_second, of_reference = (
        measure_frames(source, networks) for source in (first, second, reference)
    )
    gains: dict[str, Score] = {}
    for network in networks:
        sets = [one.in_features(network.name) for one in (of_first, of_second, of_reference)]
        try:
            ratio = compare_sets(sets[0], sets[1], sets[2], network, seed=seed)
        except ValueError as error:
            raise InputError(f"{second} against {first}: {error}") from error
        gains[f"mmd_ratio_{network.name}"] = ratio
        if network.name == "tiny" and of_first.faithfulness and of_second.faithfulness:
            gains |= compare_faithfulness(of_first.faithfulness, of_second.faithfulness, network)
    return gains


def _alarms(generated: Measured, reference: Measured) -> list[str]:
    """What a reader must know before any score."""
    shared = len(set(generated.digests) & set(reference.digests))
    repeated = len(generated) - len(set(generated.digests))
    alarms = []
    if shared:
        alarms.append(f"shared files: {shared} pictures are in both sets, pixel by pixel")
    if repeated:
        alarms.append(f"copies: {repeated} of {len(generated)} generated pictures repeat another")
    return alarms


def _evaluate(argv: Sequence[str] | None) -> int:
    config = parse(EvaluateConfig, argv, prog=PROG)
    target = config.out / METRICS_FILE
    if target.exists() and not config.overwrite:
        raise InputError(f"{target}: is there already; --overwrite replaces it")
    result = score_frames(
        config.generated,
        config.reference,
        features=config.features,
        seed=config.seed,
        out=config.out,
    )
    for name, score in result["scores"].items():
        print(format_score(name, score))
    for name, reason in result["left_out"].items():
        print(f"{name}: left out, {reason}")
    for alarm in result["alarms"]:
        print(f"warning: {alarm}")
    print(f"written: {target}")
    return 0


def format_score(name: str, score: Score) -> str:
    """One line for a person: value, interval, counts, and what to read it beside."""
    text = f"{name:24} {score['value']:9.4g}"
    if score["low"] is not None:
        text += f"  [{score['low']:.4g}, {score['high']:.4g}]"
    text += f"  n {score['n']}, reference {score['n_reference']}"
    if score.get("scale", 1) != 1:
        text += f", times {score['scale']}"
    if score.get("floor") is not None:
        text += f"; real against real {score['floor']:.4g} at n {score['floor_n']}"
        if score["floor_n"] != score["n"]:
            text += f" (there {score['value_at_floor_n']:.4g})"
    if score.get("real") is not None:
        text += f"; on real frames {score['real']:.4g}"
    return text
