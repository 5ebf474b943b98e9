"""Write a frames folder from the cases of a data set; shared by all sources."""

import sys
import warnings
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from echodiff.captions.templates import name_words
from echodiff.data.assignment import (
    assign_splits,
    describe_draw,
    draw_texts,
    person_of,
    split_again,
)
from echodiff.data.bad_files import BadFiles
from echodiff.data.captions import (
    Captions,
    list_names,
    list_source_names,
    load_captions,
    names_of,
)
from echodiff.data.cards import CARD, write_card
from echodiff.data.prepare_config import PrepareConfig, split_words
from echodiff.data.prepare_job import describe_job, list_inputs
from echodiff.data.preview import SHEET, Seen, list_findings, write_sheet
from echodiff.data.records import Case, DataSet, Facts, LeftOut, Shot, Source
from echodiff.data.screens.screenshots import (
    OVER_SCAN,
    Cleaning,
    choose_cleaning,
    clean_shots,
)
from echodiff.data.splits import SPLITS, patient_of
from echodiff.errors import InputError
from echodiff.frames.layout import IMAGES
from echodiff.frames.maker import PREPARE
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import pad_square, resize_mask, resize_u8, to_gray_u8
from echodiff.processes import map_in_order
from echodiff.progress import ProgressBar
from echodiff.settings.command_line import parse
from echodiff.system import portable_name

Config = TypeVar("Config", bound=PrepareConfig)


class Ready(NamedTuple):
    """One frame, ready to be written."""

    name: str
    image_u8: NDArray[np.uint8]
    mask_u8: NDArray[np.uint8] | None
    view: str | None
    phase: str | None
    spacing_mm: float | None
    facts: Facts
    words: Mapping[str, str]
    preview_u8: NDArray[np.uint8] | None = None


@dataclass
class Tally:
    """Counts of the frames written."""

    frames: int = 0
    captioned: int = 0
    patients: dict[str, str] = field(default_factory=dict)
    """Split by patient."""
    captioned_in: Counter[str] = field(default_factory=Counter)
    """Frames with a caption by split."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Frames by (column, value)."""

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.captioned += bool(frame.text)
        self.captioned_in[str(frame.split)] += bool(frame.text)
        self.patients[patient_of(frame)] = sys.intern(str(frame.split))
        for column in ("split", "view", "phase", "vendor"):
            value = getattr(frame, column)
            if value is not None and not (column == "phase" and value.isdigit()):
                self.counts[column, value] += 1
        if "burned_text" in frame.extra:
            self.counts["burned-in text", str(frame.extra["burned_text"])] += 1
        self.counts["mask", "with a mask" if frame.mask_file_name else "without"] += 1


def prepare_source(source: Source[Config], argv: Sequence[str], *, prog: str) -> None:
    """Run `echodiff prepare NAME`: read the settings, find the data sets and write their frames.

    Everything is found before anything is written.
    """
    config = parse(source.config, argv, prog=prog)
    found = source.find(config)
    for data in [found] if isinstance(found, DataSet) else found:
        prepare(replace(config, out=config.out / data.folder), data)


def prepare(config: PrepareConfig, data: DataSet) -> None:
    """Write the frames folder of a data set and print a summary.

    Bad files are reported and skipped; more than `bad_files.MOST_BAD` of them stop the command
    unless they are allowed. Frames already written are kept. Memory use does not grow with the
    number of frames.
    """
    cases = choose_cases(config, data)
    homes = assign_splits(config, cases)
    captions = load_captions(config.captions, data.captions, data.texts)
    sources = list_source_names(cases) if captions.texts else set[str]()
    bad = BadFiles(len(cases), allow=config.allow_bad)
    seen = Seen()
    with FramesWriter(
        config.out,
        overwrite=config.overwrite,
        command=PREPARE,
        fingerprint=describe_job(config, data, cases),
        inputs=list_inputs(config, data, cases),
        beside=(CARD, SHEET, *data.beside),
    ) as writer:
        texts = None
        if config.annotated is not None:
            # Who keeps a caption is drawn over all rows, so all are read once before.
            opened = open_cases(config, data, cases, len(cases), bad, seen)
            rows = [
                (case, build_frame(ready, case, data, homes, captions, sources))
                for case, ready in opened
            ]
            homes |= split_again(config, rows)
            frames = [replace(row, split=homes[person_of(case)]) for case, row in rows]
            texts = draw_texts(config, frames)
        left = find_left(cases, writer)
        left = [c for c in left if c.name not in bad.reasons and c.name not in seen.left_out]
        done = len(writer.done)
        for case, ready in open_cases(config, data, left, len(cases), bad, seen, done):
            frame = build_frame(ready, case, data, homes, captions, sources)
            if ready.name in writer or (texts is not None and ready.name not in texts):
                continue
            frame = frame if texts is None else replace(frame, text=texts[ready.name])
            try:
                writer.add(frame, ready.image_u8, ready.mask_u8)
            except InputError as error:
                bad.add(case.name, f"{case.path}: {error}")
        if not writer.done:
            raise InputError(f"{config.src}: contains no frames")
        tally = Tally()
        written = set[str]()
        for frame in writer.rows():
            tally.add(frame)
            if captions.texts:
                written.update(list_names(frame.file_name.removeprefix(f"{IMAGES}/")))
        write_card(config.card, data.card, config.out, tally, skipped=len(bad.reasons))
        write_sheet(config.out, seen)
    if unused := captions.find_unused(sources | written | {case.name for case in cases}):
        warnings.warn(
            f"{config.captions}: {len(unused)} of {len(captions.texts)} rows name nothing that was "
            f"read, such as {unused[0]}",
            stacklevel=2,
        )
    if data.white_level is not None:
        print(f"white level of files with more than 8 bits: {data.white_level}")
    shares = ", ".join(f"{split} {tally.counts['split', split]}" for split in SPLITS)
    num_bad = len(bad.reasons)
    skipped = f"; {num_bad} of {len(cases)} files were bad and skipped" if num_bad else ""
    print(
        f"{tally.frames} frames of {len(tally.patients)} patients ({shares}; {tally.captioned} "
        f"captioned){skipped}: {config.out}"
    )
    if texts is not None:
        print(describe_draw(tally.patients, tally.counts, tally.captioned_in))
    for line in list_findings(seen, tally.counts, tally.frames, OVER_SCAN):
        print(line)
    if data.finish is not None:
        data.finish(config.out)


def choose_cases(config: PrepareConfig, data: DataSet) -> Sequence[Case]:
    """Choose the cases of the requested views, in an order drawn by seed if only some are read."""
    views = split_words(config.views)
    cases = data.cases
    if views:
        cases = [case for case in cases if case.view is None or case.view in views]
    if not cases:
        only = f" of view {config.views}" if data.cases else ""
        raise InputError(f"{config.src}: holds no cases{only}")
    if config.max_frames is None:
        return cases
    patients = sorted({case.person for case in cases})
    order = np.random.default_rng(config.seed).permutation(len(patients))
    rank = {patients[place]: number for number, place in enumerate(order)}
    return sorted(cases, key=lambda case: rank[case.person])


def find_left(cases: Sequence[Case], writer: FramesWriter) -> Sequence[Case]:
    """Return the cases still to be read; frames are written in order, so one may be partial."""
    if not writer.done:
        return cases
    stems = {Path(name).stem for name in writer.done}
    begun = {stem.rpartition("_")[0] for stem in stems} | stems
    is_begun = [portable_name(case.name) in begun for case in cases]
    last = max(place for place, yes in enumerate(is_begun) if yes)
    return [case for place, case in enumerate(cases) if place >= last or not is_begun[place]]


def open_cases(
    config: PrepareConfig,
    data: DataSet,
    cases: Sequence[Case],
    num_cases: int,
    bad: BadFiles,
    seen: Seen,
    num_done: int = 0,
) -> Iterator[tuple[Case, Ready]]:
    """Read cases in worker processes and yield their frames in order; report and count bad ones."""
    job = partial(
        read_case,
        read=data.read,
        modality=data.modality,
        size=config.size,
        views=split_words(config.views),
        phases=split_words(config.phases),
        cleaning=None if data.is_clean else choose_cleaning(config, data.modality),
    )
    limit = config.max_frames if config.max_frames is not None else sys.maxsize
    opened = map_in_order(job, cases, workers=config.workers)
    first = num_cases - len(cases)
    bar = ProgressBar(opened, desc=data.name, unit="file", total=num_cases, initial=first)
    for case, frames in zip(cases, bar, strict=False):
        if isinstance(frames, LeftOut):
            seen.left_out[case.name] = str(frames)
            bar.write(f"left out: {case.path}: {frames}", file=sys.stderr)
            continue
        if isinstance(frames, str):
            bad.add(case.name, frames)
            continue
        for ready in frames:
            if num_done >= limit:
                return
            if ready.preview_u8 is not None:
                seen.add_preview(ready.name, ready.preview_u8)
            yield case, ready
            num_done += 1


def read_case(
    case: Case,
    *,
    read: object,
    modality: str,
    size: int | None,
    views: tuple[str, ...],
    phases: tuple[str, ...],
    cleaning: Cleaning | None,
) -> list[Ready] | LeftOut | str:
    """Read one case: its frames, the reason it is skipped, or its error in one line."""
    assert callable(read)
    try:
        if case.problem is not None:
            raise InputError(case.problem)
        shots = read(case) if cleaning is None else clean_shots(list(read(case)), cleaning)
        return [
            fit_shot(shot, case, modality, size)
            for shot in shots
            if (not views or (shot.view or case.view) in views)
            and (not phases or shot.phase in phases)
        ]
    except LeftOut as kind:
        return kind
    except (InputError, OSError) as error:
        reason = " ".join(str(error).split())
        return reason if str(case.path) in reason else f"{case.path}: {reason}"


def fit_shot(shot: Shot, case: Case, modality: str, size: int | None) -> Ready:
    """Resample to square pixels, and to a square image of `size` if requested."""
    facts = {**case.facts, **shot.facts}
    if shot.burned_text:
        facts["burned_text"] = shot.burned_text
    view = shot.view or case.view
    words = name_words(
        facts,
        modality=modality,
        view=view,
        phase=shot.phase,
        vendor=case.vendor,
        mask_u8=shot.mask_u8,
    )
    image, mask = to_gray_u8(shot.image_u8), shot.mask_u8
    down, across = shot.spacing_mm or (1.0, 1.0)
    height, width = image.shape[0] * down / across, float(image.shape[1])
    if abs(down / across - 1) <= 0.01:
        height = float(image.shape[0])
    scale = 1.0 if size is None else size / max(height, width)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    image = resize_u8(image, shape)
    mask = None if mask is None else resize_mask(mask, shape)
    if size is not None:
        image, mask = pad_square(image), None if mask is None else pad_square(mask)
    spacing_mm = None if shot.spacing_mm is None else round(across / scale, 6)
    assert "_" not in shot.name, "what follows the last underscore tells shots apart"
    stem = portable_name(case.name)
    name = f"{stem}_{shot.name}.png" if shot.name else f"{stem}.png"
    return Ready(name, image, mask, view, shot.phase, spacing_mm, facts, words, shot.preview_u8)


def build_frame(
    ready: Ready,
    case: Case,
    data: DataSet,
    homes: Mapping[str, str],
    captions: Captions,
    sources: Container[str],
) -> Frame:
    """Build the row of a frame."""
    facts = dict(ready.facts)
    if "age_years" in facts:
        facts["age_years"] = min(float(facts["age_years"]), 90.0)
    return Frame(
        file_name=ready.name,
        text=captions.write(names_of(case, ready.name, sources), ready.words),
        patient_id=case.patient_id,
        view=ready.view,
        phase=ready.phase,
        modality=data.modality,
        vendor=case.vendor,
        spacing_mm=ready.spacing_mm,
        white_level=data.white_level,
        split=homes[person_of(case)],
        source=data.name,
        extra=facts,
    )
