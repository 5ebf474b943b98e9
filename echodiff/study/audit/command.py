"""`echodiff study audit STUDY`: exit 1 if the source can be told without looking at the images."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.progress import ProgressBar
from echodiff.runs import versions
from echodiff.settings.checks import Seed, Share, at_least, check_ranges
from echodiff.settings.command_line import parse, positional
from echodiff.study.audit.codec import NOISE as CODEC_NOISE
from echodiff.study.audit.codec import measure_codec
from echodiff.study.audit.detection import MIN_IMAGES, NUM_PERMUTATIONS, Detection, Evidence, detect
from echodiff.study.audit.files import (
    measure_length,
    measure_metadata,
    measure_name,
    measure_size,
)
from echodiff.study.audit.order import gather_order
from echodiff.study.audit.pictures import (
    RANGE_NOISE,
    TONE_NOISE,
    measure_content,
    measure_marks,
    measure_range,
    measure_tone,
)
from echodiff.study.folder import study_key
from echodiff.study.plan import PlannedImage, StudyPlan, load_plan

PROG = "echodiff study audit"
RESULT = "audit.json"
_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class StudyAuditConfig:
    """Try to tell the source of an image from all that is not its content: files, grey levels,
    traces of JPEG, order, and what the application sends. In a paired design, the diagnosis."""

    study: Path = positional()
    """Study folder; its database is not touched."""
    readers: Annotated[int, at_least(0)] = 12
    """Simulated readers who go through the application (0 or more; 0 leaves it out)."""
    alpha: Share = 0.05
    """Probability that a sound study is flagged, for all attempts together (0 to 1)."""
    seed: Seed = 0
    """Random seed of folds and permutations."""

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        check_ranges(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Print how well each attempt told the source, and write audit.json."""
    config = parse(StudyAuditConfig, argv, prog=PROG)
    plan = load_plan(config.study)
    labels, what = find_labels(plan)
    evidence, notes = gather(config, plan, labels)
    detections, flagged = judge(evidence, config)
    for note in notes:
        print(f"note: {note}")
    print(*describe(detections, flagged), sep="\n")
    values = {
        "passed": not flagged,
        "told_by": flagged,
        "told": what,
        "attempts": [asdict(one) for one in detections],
        "alpha": config.alpha,
        "permutations": NUM_PERMUTATIONS,
        "study_sha256": study_key(config.study),
        "notes": notes,
        "versions": versions(),
    }
    write_json_atomic(config.study / RESULT, values)
    verdict = f"the {what} can be told by: {', '.join(flagged)}" if flagged else (
        f"passed: nothing but the content tells the {what}"
    )  # fmt: skip
    print(f"{verdict}; all numbers in {config.study / RESULT}")
    return 1 if flagged else 0


def find_labels(plan: StudyPlan) -> tuple[dict[str, str], str]:
    """What an image must not tell, by token, and a word for it: its source or its diagnosis."""
    rated = [image for image in plan.images if image.pool in {"main", "shared"}]
    if plan.config.design == "diagnosis":
        labels = {image.token: image.truth for image in rated if image.truth is not None}
        what = "diagnosis"
    else:
        labels, what = {image.token: image.source for image in rated}, "source"
    counts = Counter(labels.values())
    few = [f"{count} of {name}" for name, count in sorted(counts.items()) if count < MIN_IMAGES]
    if len(counts) < 2 or few:
        told = ", ".join(few) or f"{len(counts)} kinds"
        raise InputError(f"an audit needs {MIN_IMAGES} images of each {what}; there are {told}")
    return labels, what


def gather(
    config: StudyAuditConfig, plan: StudyPlan, labels: dict[str, str]
) -> tuple[list[Evidence], list[str]]:
    """All that could tell, and notes on what was left out."""
    evidence = [*gather_images(plan, labels), gather_order(plan, labels)]
    if not config.readers:
        return evidence, ["the application was left out"]
    from echodiff.study.store import check_images

    try:
        check_images(plan)
    except InputError as error:
        return evidence, [f"the application refuses this study: {error}"]
    from echodiff.study.audit.served import gather_served

    patients = {image.token: str(image.patient or image.token) for image in plan.images}
    num_readers = min(config.readers, len(plan.sequences))
    served = gather_served(config.study, labels, patients, num_readers=num_readers)
    return evidence + served, []


def gather_images(plan: StudyPlan, labels: dict[str, str]) -> list[Evidence]:
    """One row per image: file, metadata, grey levels, margins, traces of JPEG, content."""
    images = [image for image in plan.images if image.token in labels]
    settings = plan.config.design_notes.get("settings", {})
    quality = int(settings.get("quality", _QUALITY))
    rows: dict[str, list[Any]] = {}
    for image in ProgressBar(images, desc="images", unit="image"):
        for name, row in _measure(image, quality).items():
            rows.setdefault(name, []).append(row)
    noise = {"grey range": RANGE_NOISE, "tone": TONE_NOISE, "codec": CODEC_NOISE}
    informative = {"content"} | ({"tone"} if settings.get("grey") == "range" else set())
    told = [labels[image.token] for image in images]
    patients = [image.patient or image.token for image in images]
    return [
        Evidence(name, some, told, patients, noise.get(name, {}), name not in informative)
        for name, some in rows.items()
    ]


def _measure(image: PlannedImage, quality: int) -> dict[str, Any]:
    data = image.file.read_bytes()
    try:
        with Image.open(image.file) as opened:
            image_u8 = np.asarray(opened.convert("L"))
    except OSError as error:
        raise InputError(f"{image.file}: cannot be read: {error}") from error
    return {
        "file name": measure_name(image.file.name),
        "length": measure_length(image.file),
        "dimensions": measure_size(data),
        "metadata": measure_metadata(data),
        "grey range": measure_range(image_u8),
        "tone": measure_tone(image_u8),
        "marks": measure_marks(image_u8),
        "codec": measure_codec(image_u8, quality),
        "content": measure_content(image_u8),
    }


def judge(
    evidence: Sequence[Evidence], config: StudyAuditConfig
) -> tuple[list[Detection], list[str]]:
    """Try each, and name those that told: p by Holm over all below alpha, and an interval, which
    holds for all together (Bonferroni), above 0.5."""
    gated = [one for one in evidence if one.is_gated]
    level = 1 - config.alpha / len(gated)
    detections = [
        detect(one, level=level, generator=np.random.default_rng([config.seed, place]))
        for place, one in enumerate(ProgressBar(evidence, desc="attempts", unit="attempt"))
    ]
    told, left = [], len(gated)
    for one in sorted((one for one in detections if one.is_gated), key=lambda one: one.p):
        if one.p * left > config.alpha:
            break
        left -= 1
        if one.low > 0.5:
            told.append(one.name)
    order = [one.name for one in evidence]
    if 1 / (1 + NUM_PERMUTATIONS) * len(gated) > config.alpha:
        warnings.warn(f"--alpha {config.alpha}: is below what the permutations resolve",
                      stacklevel=2)  # fmt: skip
    return detections, sorted(told, key=order.index)


def describe(detections: Sequence[Detection], flagged: Sequence[str]) -> list[str]:
    """One line per attempt."""
    width = max(len(one.name) for one in detections)
    lines = [f"{'':<{width}}    AUC  interval          p      n"]
    for one in detections:
        mark = "TOLD" if one.name in flagged else "" if one.is_gated else "(content, not judged)"
        by = f" by {one.strongest}" if one.strongest and mark else ""
        lines.append(
            f"{one.name:<{width}}  {one.auc:.3f}  [{one.low:.3f}, {one.high:.3f}]  {one.p:.3f}  "
            f"{one.num_images:>5}  {mark}{by}".rstrip()
        )
    return lines
