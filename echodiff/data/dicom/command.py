"""`echodiff prepare dicom`: read ultrasound clips and MR series, and leave identifiers behind."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.data.dicom.headers import (
    MODALITIES,
    Header,
    list_files,
    read_header,
)
from echodiff.data.dicom.identifiers import Held, build_report
from echodiff.data.dicom.reader import (
    BURNED_TEXT,
    MASK,
    Reading,
    read_clip,
    read_series,
)
from echodiff.data.dicom.series import (
    Group,
    drop_copies,
    group_frames,
    list_files_alone,
)
from echodiff.data.dicom.windows import PERCENTILE, parse_window
from echodiff.data.prepare_config import SECTOR, PrepareConfig
from echodiff.data.records import Case, DataSet, Source
from echodiff.data.screens.doppler import COLOUR_DOPPLER, SPECTRAL_DOPPLER
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.frames.reader import load_frames
from echodiff.processes import map_in_order

REPORT = "identifiers.json"


@dataclass(frozen=True, kw_only=True)
class DicomConfig(PrepareConfig):
    """Turn ultrasound clips and MR series into grey frames without identifiers."""

    modality: str | None = None
    """echo (ultrasound) or mr; needed if the folder holds both."""
    view: str | None = None
    """View of all frames, such as A4C; the files do not state it."""
    every: int = 1
    """Keep every k-th frame of a clip or series, starting with the first."""
    window: str | None = None
    """Grey values shown black and white: `tags` (the files' window centre and width), `percentile`
    (0.5 and 99.5 of the clip or series) or LOW,HIGH. Default: the full range of the stored bits
    for ultrasound, `percentile` for MR."""
    burned_text: str = MASK
    """Text in the pixels: `mask` blackens it outside the sector and refuses files with text inside
    it; `mask-inside` blackens it everywhere; `refuse` refuses files with any text;
    `keep` changes nothing."""
    text: str | None = None
    """Same as --burned-text, under the name that all sources share; takes precedence."""
    crop: str = SECTOR
    """`sector` crops ultrasound to the sector and blackens the rest; `none` keeps all."""
    patient_characteristics: bool = False
    """Keep sex, age, height and weight, as the PS3.15 option of this name allows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise ValueError(f"--every must be at least 1, got {self.every}")
        if self.modality not in {None, *MODALITIES.values()}:
            raise ValueError(f"--modality: expected echo or mr, got {self.modality}")
        if self.burned_text not in BURNED_TEXT:
            raise ValueError(
                f"--burned-text: expected one of {', '.join(BURNED_TEXT)}, got {self.burned_text}"
            )
        if self.window is not None:
            parse_window(self.window)


def write_report(out: Path, *, report: Mapping[str, Any], skipped: Counter[str]) -> None:
    """Write the identifying tags that were found next to the frames, and print what was removed."""
    write_json_atomic(out / REPORT, report)
    print_removed(out)
    left = ", ".join(f"{keyword} {count}" for keyword, count in report["left_behind"].items())
    print(f"identifying tags removed, by number of clips or series: {left or 'none'}")
    print(f"tags kept: {', '.join(report['kept'])}; full list: {out / REPORT}")
    if skipped.total():
        print(f"DICOM files skipped: {list_reasons(skipped)}")


def print_removed(out: Path) -> None:
    """Print how many clips or series had text or screen graphics removed."""
    removed: dict[str, bool] = {}
    for frame in load_frames(out):
        clip = frame.file_name.rpartition("_")[0]
        removed[clip] = removed.get(clip, False) or frame.extra.get("burned_text") == "removed"
    if any(removed.values()):
        kind = "series" if all("series-" in clip for clip in removed) else "clips"
        share = f"{sum(removed.values())} of {len(removed)}"
        print(f"burned-in text or graphics removed in {share} {kind}")


def find_dicom(config: DicomConfig) -> DataSet:
    """List ultrasound clips or MR series under `src`, and the identifying tags that they hold."""
    read = partial(read_header, with_doppler=config.keep_doppler)
    headers = list(map_in_order(read, list_files(config.src), workers=config.workers))
    modality = choose_modality(config, headers)
    aside = Counter(
        header.aside or f"{header.modality} not asked for"
        for header in headers
        if header.problem is None and (header.aside or header.modality != modality)
    )
    headers = [h for h in headers if h.problem or (not h.aside and h.modality == modality)]
    headers, num_copies = drop_copies(headers)
    aside += Counter({"copies of another file": num_copies})
    groups = [*list_files_alone(headers), *group_frames(headers)]
    patients = number_patients([group.headers[0] for group in groups])
    cases, names = [], defaultdict[frozenset[str], list[str]](list)
    for group in groups:
        cases.append(build_case(group, patients, config))
        if group.headers[0].problem is None:
            tags = frozenset[str]().union(*(header.tags for header in group.headers))
            names[tags].append(group.name)
    reading = Reading(
        every=config.every,
        window=config.window or (PERCENTILE if modality == "mr" else None),
        burned_text=config.text or config.burned_text,
        is_cropped=config.crop == SECTOR,
        with_doppler=config.keep_doppler,
    )
    held = [Held(tuple(same), keywords) for keywords, same in names.items()]
    report = build_report(held, has_characteristics=config.patient_characteristics)
    return DataSet(
        name="dicom",
        card="dicom",
        modality=modality,
        cases=cases,
        is_clean=True,
        read=partial(read_series if modality == "mr" else read_clip, reading=reading),
        beside=(REPORT,),
        finish=partial(write_report, report=report, skipped=aside),
    )


def build_case(group: Group, patients: Mapping[Path, str], config: DicomConfig) -> Case:
    """Build the case of a clip, a series or a bad file."""
    first = group.headers[0]
    paths = tuple(header.path for header in group.headers)
    return Case(
        name=group.name,
        path=first.path if len(paths) == 1 else first.path.parent,
        patient_id=patients.get(first.path),
        view=config.view,
        vendor=first.vendor,
        facts=first.facts if config.patient_characteristics else {},
        extra_paths=paths if len(paths) > 1 else (),
        where=tuple(group.frames),
        problem=first.problem,
    )


def choose_modality(config: DicomConfig, headers: Sequence[Header]) -> str:
    """Return the modality to read; InputError if there is none, or more than one."""
    counts = Counter(h.modality for h in headers if not (h.problem or h.aside))
    if config.modality is not None and counts[config.modality]:
        return config.modality
    if len(counts) == 1 and config.modality is None:
        return next(iter(counts))
    if len(counts) > 1 and config.modality is None:
        raise InputError(
            f"{config.src}: holds {counts['echo']} ultrasound and {counts['mr']} MR files; "
            "choose one with --modality echo or --modality mr"
        )
    if any(header.problem for header in headers):
        return config.modality or "echo"
    aside = Counter(header.aside for header in headers if header.aside)
    raise InputError(
        f"{config.src}: no {config.modality or 'ultrasound or MR'} images ({list_reasons(aside)})"
    )


def number_patients(headers: Sequence[Header]) -> dict[Path, str]:
    """Number patients in the order of their files; their own identifiers are not kept.

    Files are grouped by Patient ID, or by study if that is missing; a file with neither is a
    patient of its own.
    """
    keys = {h.path: h.patient or str(h.path) for h in headers if h.problem is None}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()), start=1)}
    return {path: f"patient-{numbers[key]:04d}" for path, key in keys.items()}


def list_reasons(aside: Counter[str]) -> str:
    text = ", ".join(f"{count} {reason}" for reason, count in aside.most_common() if count)
    has_doppler = aside[COLOUR_DOPPLER] + aside[SPECTRAL_DOPPLER]
    return f"{text}; --keep-doppler includes Doppler" if has_doppler else text


SOURCE = Source(DicomConfig, find_dicom)
