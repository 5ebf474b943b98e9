"""`echodiff evaluate GENERATED --reference REAL --out DIR`: scores with intervals and baselines.

Reads frames folders, writes `metrics.json`, `report.html`, and `samples.png` of several sets.
`generate.py` and the demo use `score_frames` and `compare_frames` directly. What each number means:
docs/evaluation.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.data.leaks import read_maker
from echodiff.data.reference import (
    RealFrames,
    check_reference,
    choose_reference,
    choose_trained,
    describe_shared,
    open_reference,
)
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.folders import FolderLock
from echodiff.frames.reader import load_frames
from echodiff.frames.white_level import find_folder, find_white_level
from echodiff.images import write_image
from echodiff.metrics.comparison import Difference, compare_sets, rank_sets
from echodiff.metrics.evaluation import score_fully, score_measured
from echodiff.metrics.faithfulness import compare_faithfulness
from echodiff.metrics.frame_features import (
    NUM_READERS,
    Measured,
    Networks,
    load_networks,
    measure_frames,
)
from echodiff.metrics.intact import MOST_OF_REFERENCE, Reader, compare_anatomy
from echodiff.metrics.paired import Pairing, find_pairs
from echodiff.metrics.score import write_scores
from echodiff.report.tables import format_difference, summary_lines
from echodiff.segmentation.segmentation_config import AUTO, NONE
from echodiff.settings.command_line import flag_only, network_names, parse, positional, run_main

if TYPE_CHECKING:
    from echodiff.segmentation.faithfulness import MaskReading

METRICS_FILE = "metrics.json"
JOB_FILE = "generate.json"
REPORT_FILE = "report.html"
SAMPLES_FILE = "samples.png"
DEFAULT_FEATURES = ("tiny", "texture")
PROG = "echodiff evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score generated frames against real ones: distance, variety, faithfulness to the prompts.

    With --compare several folders are ranked, each against the same reference.
    """

    generated: tuple[Path, ...] = positional()
    """Frames folder to score; with --compare, two or more."""
    reference: Path
    """Frames folder of real frames that no training has seen, or a run folder, of which the
    held-out frames are read."""
    split: str | None = None
    """Splits of --reference to read, separated by commas. Default: all but train, or all rows of
    a folder without a split column."""
    out: Path
    """Folder for metrics.json and report.html."""
    train: Path | None = None
    """Frames folder of the training (its train split is read if it has splits), or the run
    folder: also counts copies of training frames."""
    data: Path | None = None
    """Frames folder of a run given as --reference or --train, if it was moved or does not match
    the record of the run."""
    compare: bool = False
    """Compare several generated folders in one table."""
    paired: bool = False
    """Also compute SSIM, PSNR, MAE and MSE of frames with the same pair_id or file name."""
    masked: bool = False
    """With --paired: only count pixels inside the masks of the reference."""
    features: tuple[str, ...] = network_names(DEFAULT_FEATURES)
    """Feature networks, separated by commas: inception, tiny, texture, dinov2, rad-dino, a
    folder of transformers weights, a TorchScript file (a program: needs --trust), or
    module:function (on the command line only)."""
    features_path: Path | None = flag_only(default=None)
    """Folder that is searched for the module of module:function besides the installed packages,
    such as `.`. Default: installed packages only."""
    trust: bool = flag_only(default=False)
    """Run the TorchScript files of --features. They are programs, and can read and write files."""
    segmenter: Path | None = None
    """Folder of a segmenter of your own, model.safetensors and config.json, that labels the frames
    for the score `intact`. Default: the shipped one, trained on phantom frames."""
    mask_network: str = AUTO
    """Network that reads the masks of frames that were generated for masks: a run folder with
    segmentation.safetensors, `shipped`, `none`, or `auto`, a network trained on the frames of
    --train that have a mask, else the shipped one."""
    seed: int = 0
    """Random seed of intervals, baselines and permutations (0 or more)."""
    overwrite: bool = False
    """Replace the metrics.json in --out."""

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("--features is empty")
        if self.seed < 0:
            raise ValueError("--seed must be 0 or more")
        if self.compare != (len(self.generated) > 1):
            raise ValueError(f"--compare: needs two folders or more, not {len(self.generated)}"
                             if self.compare else "several folders need --compare")  # fmt: skip
        if len({folder.resolve() for folder in self.generated}) < len(self.generated):
            raise ValueError("--compare: one folder is named twice")
        if self.masked and not self.paired:
            raise ValueError("--masked needs --paired")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_main(lambda: _evaluate(parse(EvaluateConfig, argv, prog=PROG)), PROG)


# --- Scores of one set ---------------------------------------------------------------------------


def score_frames(
    generated: Path,
    reference: Path | Sequence[Path],
    *,
    features: Sequence[str] | Networks = DEFAULT_FEATURES,
    seed: int = 0,
    out: Path | None = None,
    white_level: int | None = None,
    segmenter: Path | None = None,
    mask_network: str = AUTO,
) -> dict[str, Any]:
    """Score a frames folder against a reference; write `out/metrics.json` if `out` is given.

    reference: a frames folder, read as by `echodiff evaluate --reference`, or the paths of images
    in one (the held-out frames of a run).
    features: names, or opened networks (`load_networks` opens TorchScript files and functions of
    your own). Without the Inception weights, one line on stderr says so and `tiny` is used.
    white_level: that of the training, for a reference of more than 8 bits whose rows state none.
    Prompt faithfulness is scored if `tiny` is among the features.
    segmenter: folder of the network that labels frames for `intact`; by default the shipped one.
    mask_network: as in `EvaluateConfig`, for frames that were generated for masks.
    """
    networks = features if isinstance(features, Networks) else load_networks(features)
    name, pictures = open_reference(reference, [generated])
    read = partial(measure_frames, networks=networks.opened, segmenter=_open_segmenter(segmenter))
    of_generated = read(generated)
    of_reference = read(pictures, name=name, white_level=white_level, most_judged=MOST_OF_REFERENCE)
    result = score_measured(of_generated, of_reference, networks, seed=seed)
    if _find_asked([generated]):
        real = _find_rows(reference)
        result["notes"] += describe_shared(real, generated)
        if mask_network != NONE:
            masks = _open_mask_reading(mask_network, real, None, out or generated)
            masks.add_scores(result, generated, seed=seed, white_level=of_reference.white_level)
    if out is not None:
        write_json_atomic(Path(out) / METRICS_FILE, result)
    return result


# --- Several sets --------------------------------------------------------------------------------


def compare_frames(
    first: Path,
    second: Path,
    reference: Path | Sequence[Path],
    *,
    features: Sequence[str] = DEFAULT_FEATURES,
    segmenter: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare `second` (the LoRA) with `first` (the base) against one reference.

    `mmd_ratio_<features>`: MMD^2 of second over that of first, below 1 is nearer to the reference.
    `faithfulness_gain`, `faithfulness_gain_<finding>`, `specificity_gain`: second minus first, over
    the findings that the prompts of both name. `intact_gain`: the same of intact frames.
    """
    networks = load_networks(features).opened
    name, pictures = open_reference(reference, [first, second])
    read = partial(measure_frames, networks=networks, segmenter=_open_segmenter(segmenter))
    of_first, of_second = read(first), read(second)
    of_reference = read(pictures, name=name, most_judged=MOST_OF_REFERENCE)
    gains: dict[str, dict[str, Any]] = {}
    if of_first.anatomy and of_second.anatomy and of_reference.anatomy:
        gain = compare_anatomy(of_first.anatomy, of_second.anatomy, of_reference.anatomy)
        gains |= write_scores(gain)
    for network in networks:
        sets = [one.in_features(network.name) for one in (of_first, of_second, of_reference)]
        try:
            ratio = compare_sets(sets[0], sets[1], sets[2], network)
        except ValueError as error:
            raise InputError(f"{second} against {first}: {error}") from error
        gains |= write_scores({str(ratio.name): ratio})
        if network.name == "tiny" and of_first.faithfulness and of_second.faithfulness:
            gains |= write_scores(
                compare_faithfulness(of_first.faithfulness, of_second.faithfulness, network)
            )
    return gains


# --- The command ---------------------------------------------------------------------------------


def _evaluate(config: EvaluateConfig) -> int:
    target = config.out / METRICS_FILE
    if target.exists() and not config.overwrite:
        raise InputError(f"{target}: exists already; --overwrite replaces it")
    # Sets are named by the last part of their path, or by the whole path if that is not unique.
    names = [folder.resolve().name for folder in config.generated]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in config.generated]
    for folder in (*config.generated, config.reference, config.train, config.data):
        if folder is not None and folder.resolve() == config.out.resolve():
            raise InputError(f"--out {config.out}: is {folder}, which this command reads")
    real = choose_reference(config.reference, config.split, data=config.data)
    trained = choose_trained(config.train, data=config.data) if config.train else None
    if config.data and config.data not in (real.folder, trained.folder if trained else None):
        raise InputError(f"--data {config.data}: no frames of a run are read here")
    unknown = check_reference(real, config.generated, trained, num_readers=NUM_READERS)
    print(f"scoring against {real.text}")
    with FolderLock(config.out):
        return _score(config, names, target, real, trained, unknown)


def _score(
    config: EvaluateConfig,
    names: Sequence[str],
    target: Path,
    real: RealFrames,
    trained: RealFrames | None,
    unknown: Sequence[str],
) -> int:
    networks = load_networks(config.features, trust=config.trust, modules=config.features_path)
    networks = replace(networks, notes=(*networks.notes, *unknown))
    read = partial(
        measure_frames, networks=networks.opened, num_readers=NUM_READERS,
        segmenter=_open_segmenter(config.segmenter),
    )  # fmt: skip
    white_level = find_known_level(config, trained)
    reference = read(
        real.paths, name=str(config.reference), white_level=white_level,
        most_judged=MOST_OF_REFERENCE,
    )  # fmt: skip
    train = None
    if trained is not None:
        train = read(trained.paths, name=str(config.train), white_level=white_level, segmenter=None)
    sets = {name: read(folder) for name, folder in zip(names, config.generated, strict=True)}
    if config.compare:
        _check_counts(sets)
    pairings = {
        name: _find_pairs(config, folder, real) if config.paired else None
        for name, folder in zip(names, config.generated, strict=True)
    }
    results = {
        name: score_fully(
            sets[name], reference, networks, seed=config.seed, train=train, pairing=pairings[name]
        )
        for name in names
    }
    for name, folder in zip(names, config.generated, strict=True):
        results[name]["notes"] += describe_shared(real, folder)
    if config.mask_network != NONE and (asked := _find_asked(config.generated)):
        masks = _open_mask_reading(config.mask_network, real, trained, config.out)
        for name, folder in zip(names, config.generated, strict=True):
            if folder in asked:
                masks.add_scores(
                    results[name], folder, seed=config.seed, white_level=reference.white_level
                )
    result: dict[str, Any] = next(iter(results.values()))
    differences: list[Difference] = []
    if config.compare:
        differences = _rank(sets, reference, networks)
        result = {"sets": results, "differences": [asdict(one) for one in differences]}
    _write_report(config, real, results, differences, reference.white_level)
    write_json_atomic(target, result)
    for name, one in results.items():
        for line in summary_lines(one, config.out):
            print(f"{name}: {line}" if config.compare else line)
    for difference in differences:
        print(format_difference(difference))
    return 0


def _open_segmenter(folder: Path | None) -> Reader:
    from echodiff.metrics.segmenter import load_segmenter  # imports torch

    return load_segmenter(folder)


# --- Faithfulness to masks -----------------------------------------------------------------------


def _find_asked(folders: Sequence[Path]) -> list[Path]:
    """Find the sets that were generated for masks."""
    return [folder for folder in folders
            if any(row.weights and row.mask_file_name for row in load_frames(folder))]  # fmt: skip


def _find_rows(reference: Path | Sequence[Path]) -> RealFrames:
    """Return the rows behind a reference that was given to `score_frames`."""
    if isinstance(reference, str | Path):
        return choose_reference(Path(reference))
    folder = find_folder(reference[0]) or reference[0].parent
    wanted = set(reference)
    rows = [row for row in load_frames(folder) if folder / row.file_name in wanted]
    return RealFrames(folder, folder, rows, f"{len(rows)} frames of {folder}")


def _open_mask_reading(
    choice: str, real: RealFrames, trained: RealFrames | None, out: Path
) -> "MaskReading":
    from echodiff.segmentation.faithfulness import MaskReading  # imports torch

    return MaskReading.open(choice, real, trained, out)


def find_known_level(config: EvaluateConfig, trained: RealFrames | None) -> int | None:
    """Find the white level of the training in the generated folders' records, else in --train."""
    records = [folder / JOB_FILE for folder in config.generated]
    jobs = [read_maker(path) for path in records if path.is_file()]
    levels = {job["white_level"] for job in jobs if job.get("white_level") is not None}
    if len(levels) > 1:
        raise InputError(
            f"--compare: the sets were trained at different white levels, {sorted(levels)}"
        )
    if not levels and trained is not None:
        return find_white_level(trained.folder)
    return next(iter(levels), None)


def _check_counts(sets: Mapping[str, Measured]) -> None:
    """Refuse different counts, because their Frechet distances cannot be compared."""
    counts = {name: len(one) for name, one in sets.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"--compare: the sets have different counts ({told}); give the same number of each"
        )


def _find_pairs(config: EvaluateConfig, folder: Path, real: RealFrames) -> Pairing:
    pairing = find_pairs(folder, real.folder, real.frames)
    if config.masked and pairing.masks is None:
        raise InputError(f"--masked: not every frame of {config.reference} has a mask")
    return pairing if config.masked else pairing._replace(masks=None)


def _rank(
    sets: Mapping[str, Measured], reference: Measured, networks: Networks
) -> list[Difference]:
    differences = []
    for network in networks.opened:
        features = {name: one.in_features(network.name) for name, one in sets.items()}
        try:
            differences += rank_sets(features, reference.in_features(network.name), network)
        except ValueError as error:
            raise InputError(f"--compare: {error}") from error
    return differences


def _write_report(
    config: EvaluateConfig,
    real: RealFrames,
    results: Mapping[str, Any],
    differences: Sequence[Difference],
    white_level: int | None,
) -> None:
    from echodiff.report.page import ImageSet, write_report
    from echodiff.report.pictures import draw_samples, find_pictures

    titles = list(results) if config.compare else ["Generated"]
    samples = None
    if config.compare:
        pictures = {"reference": real.paths} | {
            title: [one.path for one in find_pictures(folder)]
            for title, folder in zip(titles, config.generated, strict=True)
        }
        samples = draw_samples(pictures, seed=config.seed, white=white_level)
        write_image(config.out / SAMPLES_FILE, samples)
    write_report(
        config.out / REPORT_FILE,
        title="Generated sets compared" if config.compare else "Generated against real frames",
        summary=f"{', '.join(results)} against {config.reference.resolve().name}.",
        sets=[
            ImageSet(title=title, folder=folder, metrics=one)
            for title, folder, one in zip(titles, config.generated, results.values(), strict=True)
        ],
        reference=real.paths,
        reference_text=real.text.replace(str(real.source), real.source.resolve().name),
        differences=differences,
        samples=samples,
        white_level=white_level,
    )
