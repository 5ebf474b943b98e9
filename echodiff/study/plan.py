"""The plan of a reader study: settings, images and the sequence of every reader.

Drawing a plan and storing it are apart: the design module makes a `StudyPlan`, the store writes it
to the study folder, the server copies it to its database. A plan names the source of every image,
so its file is for the study's organiser alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from echodiff.errors import InputError

Pool = Literal["main", "shared", "practice", "companion"]
Kind = Literal["practice", "main", "shared", "repeat"]
Condition = Literal["", "without", "with"]
LANGUAGES = ("en", "ru", "kk", "uz")
PLAN_FILE = "plan.json"
IMAGE_FOLDER = "images"
MAX_PAGE = 12
"""Images on one rating page."""
PLAN_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Settings of a study that its readers meet; stored with the plan."""

    name: str
    """Title shown to the readers. It must not name a source."""
    sources: tuple[str, ...]
    """Names of the conditions, the real one first; hidden until the study is closed."""
    design: Literal["realism", "diagnosis"] = "realism"
    """realism: how likely is it real? diagnosis: finding and confidence, with and without a
    generated image beside the real one (P4)."""
    diagnoses: tuple[str, ...] = ()
    """Findings to choose from in the design `diagnosis`; the first is the normal heart."""
    images_per_page: int = 1
    """Images on one rating page, 1 to 12; P1 showed several."""
    sittings: int = 1
    """1, or 2 for a crossover."""
    washout_days: float = 0
    """Days between the end of the first sitting and the start of the second."""
    structured_reading: bool = False
    """Also ask for septa, valves, wall thickness and chambers (P1, Appendix B)."""
    display_controls: Literal["logged", "locked"] = "logged"
    """Zoom and brightness: free and logged, or locked."""
    languages: tuple[str, ...] = LANGUAGES
    """Languages a reader may choose from."""
    ask_names: bool = False
    """Ask for the reader's name; it is kept in a table of its own and never exported."""
    ask_birth_date: bool = False
    """Ask for the date of birth as P1 did; otherwise for an age band."""
    consent_version: str = "1"
    """Version of the consent text."""
    contact: str = ""
    """Whom a reader may write to; shown in the consent."""
    seed: int = 0
    """Seed that the pools and sequences were drawn with."""
    design_notes: dict[str, Any] = field(default_factory=dict)
    """What the design module records of its drawing; JSON, not read by the server."""


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image of the study."""

    token: str
    """Random identifier, no more than letters, digits, - and _; the file is TOKEN.png."""
    file: Path
    """The technically equal PNG, to be copied into the study folder."""
    sha256: str
    """Hash of the PNG."""
    source: str
    """Hidden: one of StudyConfig.sources."""
    origin: str
    """Hidden: the frame it was made from."""
    patient: str | None
    """Hidden: patient key of the frame."""
    pool: Pool
    truth: str | None = None
    """Hidden: true finding, for the design `diagnosis`."""


@dataclass(frozen=True, kw_only=True)
class PlannedTask:
    """One image of a sequence, in its place."""

    image_token: str
    kind: Kind
    condition: Condition = ""
    companion_token: str | None = None
    """Image shown beside it in the condition `with`."""
    sitting: int = 1


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A whole study before its first reader: `sequences[i]` are the tasks of sequence i in order,
    practice first."""

    config: StudyConfig
    images: list[PlannedImage]
    sequences: list[list[PlannedTask]]


def check_plan(plan: StudyPlan) -> None:
    """InputError if a plan contradicts itself."""
    config, tokens = plan.config, [image.token for image in plan.images]
    known = set(tokens)
    if len(known) != len(tokens):
        raise InputError("plan: two images share a token")
    if not plan.sequences or not all(plan.sequences):
        raise InputError("plan: a sequence has no image")
    for image in plan.images:
        if not image.token.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"plan: image token {image.token!r} has other signs than A-z 0-9 - _")
        if image.source not in config.sources:
            raise InputError(f"plan: {image.source} of image {image.token} is not a source")
        if image.pool not in get_args(Pool):
            raise InputError(f"plan: image {image.token} has the unknown pool {image.pool}")
    for number, sequence in enumerate(plan.sequences):
        _check_sequence(number, sequence, known, config.sittings)
    if not 1 <= config.images_per_page <= MAX_PAGE:
        raise InputError(f"--images-per-page {config.images_per_page}: must be 1 to {MAX_PAGE}")
    if config.design == "diagnosis" and len(config.diagnoses) < 2:
        raise InputError("--diagnoses: a diagnostic design needs two findings or more")
    for language in config.languages:
        if language not in LANGUAGES:
            raise InputError(f"--languages {language}: must be one of {', '.join(LANGUAGES)}")


def _check_sequence(
    number: int, sequence: Sequence[PlannedTask], known: set[str], sittings: int
) -> None:
    for task in sequence:
        for token in (task.image_token, task.companion_token):
            if token is not None and token not in known:
                raise InputError(f"plan: sequence {number} shows the unknown image {token}")
        if task.kind not in get_args(Kind) or task.condition not in get_args(Condition):
            raise InputError(f"plan: sequence {number} has a task {task.kind}, {task.condition}")
        if not 1 <= task.sitting <= sittings:
            raise InputError(f"plan: sequence {number} has a task of sitting {task.sitting}")
    sittings_in_order = [task.sitting for task in sequence]
    if sittings_in_order != sorted(sittings_in_order):
        raise InputError(f"plan: the sittings of sequence {number} are mixed")


def plan_to_json(plan: StudyPlan) -> dict[str, Any]:
    """The plan as JSON; image files become TOKEN.png in the study folder."""
    images = [{**asdict(image), "file": f"{image.token}.png"} for image in plan.images]
    sequences = [[asdict(task) for task in sequence] for sequence in plan.sequences]
    config = asdict(plan.config)
    return {"format": PLAN_FORMAT, "config": config, "images": images, "sequences": sequences}


def plan_from_json(values: dict[str, Any], folder: Path) -> StudyPlan:
    """Read what `plan_to_json` wrote; files are in `folder`/images."""
    if values.get("format") != PLAN_FORMAT:
        raise InputError(f"{folder / PLAN_FILE}: is not a plan of format {PLAN_FORMAT}")
    try:
        stored = values["config"]
        names = {entry.name for entry in fields(StudyConfig)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
            if name in names
        }
        config = StudyConfig(**known)
        images = [
            PlannedImage(**{**image, "file": folder / IMAGE_FOLDER / image["file"]})
            for image in values["images"]
        ]
        sequences = [[PlannedTask(**task) for task in row] for row in values["sequences"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / PLAN_FILE}: is damaged: {error}") from error
    return StudyPlan(config=config, images=images, sequences=sequences)


def load_plan(folder: Path) -> StudyPlan:
    """Read the plan of a study folder; InputError if there is none or it is damaged."""
    path = folder / PLAN_FILE
    if not path.is_file():
        raise InputError(f"{folder}: is not a study folder; make one with echodiff study init")
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: is not a plan")
    return plan_from_json(values, folder)
