"""`echodiff study init STUDY --source real=DIR --source sd=run:RUN ...`"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echodiff.errors import InputError
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.progress import ProgressBar
from echodiff.runs import versions
from echodiff.settings.command_line import parse
from echodiff.settings.fields import as_dict
from echodiff.study.candidates import load_source
from echodiff.study.draft import Draft, Entry, draw_study, reader
from echodiff.study.equality import Standard, encode_png
from echodiff.study.folder import create_study
from echodiff.study.init_config import RUN, StudyInitConfig
from echodiff.study.plan import IMAGE_FOLDER, PLAN_FILE, PlannedImage, StudyConfig, StudyPlan
from echodiff.study.sampling import DRAWN, find_place

PROG = "echodiff study init"
WRITTEN = 1_000_000_000
"""Time that every image file bears, in seconds since 1970: their own would tell their order."""
_PLACES = ("study", "overwrite")
_HANDED_ON = (
    "images_per_page", "structured_reading", "display_controls", "languages", "ask_names",
    "ask_birth_date", "consent_version", "contact", "seed",
)  # fmt: skip
_DATABASES = ("*.sqlite", "*.db")


def main(argv: Sequence[str] | None = None) -> None:
    """Draw a study and write it; where something is refused, an older study is left as it is."""
    config = parse(StudyInitConfig, argv, prog=PROG)
    check_folder(config)
    splits = [part.strip() for part in (config.split or "").split(",") if part.strip()]
    real = config.names[0]
    with FolderLock(config.study, beside=True):
        # The real frames first: what is wrong with them is said before a run draws for an hour.
        load_source(real, Path(config.sources[real]), is_real=True, splits=splits)
        places = {name: find_place(config, name) for name in config.names}
        sources = [
            load_source(name, place, is_real=name == real, splits=splits)
            for name, place in places.items()
        ]
        for source in sources:
            if source.note:
                print(f"note: {source.note}")
        draft = draw_study(config, sources)
        with tempfile.TemporaryDirectory(prefix="echodiff-study-") as scratch:
            plan = write_plan(config, draft, Path(scratch))
            remove_study(config.study)
            create_study(config.study, plan)
        for path in (config.study / IMAGE_FOLDER).iterdir():
            os.utime(path, (WRITTEN, WRITTEN))
    tell(config, draft)


def check_folder(config: StudyInitConfig) -> None:
    """InputError if STUDY may not be written; nothing is changed."""
    folder = config.study
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, not a folder")
    if databases := [path.name for kind in _DATABASES for path in folder.glob(kind)]:
        raise InputError(f"{folder}: holds the database {databases[0]}; choose another folder")
    if (folder / PLAN_FILE).exists():
        if not config.overwrite:
            raise InputError(f"{folder}: holds a study; --overwrite draws another in its place")
    elif folder.exists():
        others = {path.name for path in folder.iterdir()} - {IMAGE_FOLDER, DRAWN}
        if others:
            raise InputError(f"{folder}: is not empty and is not a study (it holds {min(others)})")
    places = [Path(place) for place in config.sources.values() if not place.startswith(RUN)]
    refuse_inputs(folder, [*places, *(config.input_of(name) for name in config.names)])


def remove_study(folder: Path) -> None:
    """Remove the plan and the images of the study that --overwrite replaces."""
    (folder / PLAN_FILE).unlink(missing_ok=True)
    for path in (folder / IMAGE_FOLDER).glob("*.png"):
        path.unlink()


def write_plan(config: StudyInitConfig, draft: Draft, scratch: Path) -> StudyPlan:
    """Write the technically equal images to `scratch`, and return the plan that names them."""
    patients: dict[str, str] = {}
    images, lengths = [], set()
    for entry in ProgressBar(draft.entries, desc="images", unit="image"):
        data = encode_png(draft.standards[entry.card.source].apply(reader(entry.candidate)()))
        lengths.add(len(data))
        path = scratch / f"{entry.card.token}.png"
        path.write_bytes(data)
        # Names of patients stay where the frames are; what is exported is a number.
        patient = patients.setdefault(entry.card.patient, f"P{len(patients) + 1:04d}")
        images.append(
            PlannedImage(
                token=entry.card.token,
                file=path,
                sha256=hashlib.sha256(data).hexdigest(),
                source=entry.card.source,
                origin=find_origin(config, entry),
                patient=patient,
                pool=entry.pool,
                truth=entry.truth,
            )
        )
    assert len(lengths) == 1, "stored PNGs of one size have one length"
    return StudyPlan(
        config=study_config(config, draft), images=images, sequences=draft.sequences
    )  # fmt: skip


def find_origin(config: StudyInitConfig, entry: Entry) -> str:
    """The frame's file; relative to the study if it was drawn there."""
    path = entry.candidate.path
    drawn = config.study / DRAWN
    return (path.relative_to(config.study) if path.is_relative_to(drawn) else path).as_posix()


def study_config(config: StudyInitConfig, draft: Draft) -> StudyConfig:
    """What the application needs to know, and the record of the drawing."""
    is_paired = config.design == "paired"
    notes = {
        "settings": {k: v for k, v in as_dict(config).items() if k not in _PLACES},
        "standards": {name: describe(one) for name, one in draft.standards.items()},
        "versions": versions(),
        **draft.notes,
    }
    handed_on: dict[str, Any] = {name: getattr(config, name) for name in _HANDED_ON}
    return StudyConfig(
        name=config.title,
        sources=tuple(config.names),
        design="diagnosis" if is_paired else "realism",
        diagnoses=draft.diagnoses,
        sittings=2 if is_paired else 1,
        washout_days=config.washout_days if is_paired else 0,
        design_notes=notes,
        **handed_on,
    )


def describe(standard: Standard) -> dict[str, Any]:
    """What a study records of its technical standard."""
    return {
        "side": standard.side,
        "field_share": round(float(standard.field.mean()), 4),
        "grey": standard.grey,
        "levels": [round(float(level), 2) for level in standard.levels],
        "quality": standard.quality,
    }


def tell(config: StudyInitConfig, draft: Draft) -> None:
    """Say what was drawn, what was left out, and what to do next."""
    for name in config.names:
        entries = [entry for entry in draft.entries if entry.card.source == name]
        num = sum(entry.pool != "practice" for entry in entries)
        told = ", ".join(f"{n} {why}" for why, n in draft.notes["left_out"].get(name, {}).items())
        fewer = ""
        if config.design == "rating" and num < config.pool:
            fewer = f" of {config.pool} wanted: there are no more"
        print(f"{name}: {num} images{fewer}" + (f"; left out: {told}" if told else ""))
    sequence = draft.sequences[0]
    num_practice = sum(task.kind == "practice" for task in sequence)
    print(
        f"{len(draft.sequences)} sequences of {len(sequence) - num_practice} images and "
        f"{num_practice} for practice; next: echodiff study audit {config.study}"
    )
