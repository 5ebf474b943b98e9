"""`echodiff prepare dicom`: ultrasound clips and MR series -> frames, without identifiers."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.data.cases import Case, DataSet
from echodiff.data.dicom.headers import (
    MODALITIES,
    Header,
    list_files,
    read_header,
)
from echodiff.data.dicom.identifiers import Held, build_report
from echodiff.data.dicom.series import (
    Group,
    drop_copies,
    group_frames,
    list_files_alone,
)
from echodiff.data.dicom.shots import (
    BURNED_TEXT,
    MASK,
    Reading,
    read_clip,
    read_series,
)
from echodiff.data.dicom.windows import PERCENTILE, parse_window
from echodiff.data.preparation import PrepareConfig, prepare
from echodiff.data.prepare_config import SECTOR
from echodiff.data.screens.doppler import COLOUR_DOPPLER, SPECTRAL_DOPPLER
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.frames.reader import load_frames
from echodiff.processes import map_in_order
from echodiff.settings.command_line import parse

REPORT = "identifiers.json"


@dataclass(frozen=True, kw_only=True)
class DicomConfig(PrepareConfig):
    """Turn ultrasound clips and MR series into frames: grey, cropped to the sector, anonymous."""

    modality: str | None = None
    """echo (ultrasound) or mr, where the folder holds both."""
    view: str | None = None
    """View of all of them, such as A4C; the files do not say."""
    every: int = 1
    """Take every so-manieth frame of a clip or series, from the first."""
    window: str | None = None
    """Values that become black and white: `tags` (the files' window centre and width), `percentile`
    (0.5 and 99.5 of the clip or series) or LOW,HIGH. Null: all values its bits can hold for
    ultrasound, `percentile` for MR."""
    burned_text: str = MASK
    """Text found in the pixels: `mask` blackens it outside the scan and refuses what has it inside;
    `mask-inside` blackens it everywhere; `refuse` takes nothing that has any; `keep`."""
    text: str | None = None
    """The same as --burned-text, by the name that all sources share. Given, it wins."""
    crop: str = SECTOR
    """`sector` cuts ultrasound to the scan and blackens what lies around it; `none`."""
    patient_characteristics: bool = False
    """Keep sex, age, height and weight, as PS3.15 allows by the option of this name."""

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


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies under `src`."""

    data: DataSet
    held: Sequence[Held]
    """What tags the cases have."""
    aside: Counter[str]
    """Why good DICOM files are not read, counted."""


def main(argv: list[str]) -> None:
    config = parse(DicomConfig, argv, prog="echodiff prepare dicom")
    found = find_dicom(config)
    prepare(config, found.data)
    report = build_report(found.held, has_characteristics=config.patient_characteristics)
    write_json_atomic(config.out / REPORT, report)
    print_removed(config.out)
    left = ", ".join(f"{keyword} {count}" for keyword, count in report["left_behind"].items())
    print(f"identifying tags left behind, by number of clips or series: {left or 'none'}")
    print(f"tags kept: {', '.join(report['kept'])}; in full: {config.out / REPORT}")
    if found.aside.total():
        print(f"DICOM files left aside: {list_reasons(found.aside)}")


def print_removed(out: Path) -> None:
    """Say how many clips or series lost text or screen graphics."""
    removed: dict[str, bool] = {}
    for frame in load_frames(out):
        clip = frame.file_name.rpartition("_")[0]
        removed[clip] = removed.get(clip, False) or frame.extra.get("burned_text") == "removed"
    if any(removed.values()):
        kind = "series" if all("series-" in clip for clip in removed) else "clips"
        share = f"{sum(removed.values())} of {len(removed)}"
        print(f"burned-in text or graphics removed in {share} {kind}")


def find_dicom(config: DicomConfig) -> Found:
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
    data = DataSet(
        name="dicom",
        card="dicom",
        modality=modality,
        cases=cases,
        is_clean=True,
        read=partial(read_series if modality == "mr" else read_clip, reading=reading),
        beside=(REPORT,),
    )
    held = [Held(tuple(same), keywords) for keywords, same in names.items()]
    return Found(data=data, held=held, aside=aside)


def build_case(group: Group, patients: Mapping[Path, str], config: DicomConfig) -> Case:
    """A clip, series or bad file."""
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
    """The one modality of the frames folder; InputError where there is none, or a choice."""
    counts = Counter(h.modality for h in headers if not (h.problem or h.aside))
    if config.modality is not None and counts[config.modality]:
        return config.modality
    if len(counts) == 1 and config.modality is None:
        return next(iter(counts))
    if len(counts) > 1 and config.modality is None:
        raise InputError(
            f"{config.src}: holds {counts['echo']} ultrasound and {counts['mr']} MR files; "
            "--modality echo or mr says which"
        )
    if any(header.problem for header in headers):
        return config.modality or "echo"
    aside = Counter(header.aside for header in headers if header.aside)
    raise InputError(
        f"{config.src}: no {config.modality or 'ultrasound or MR'} pictures ({list_reasons(aside)})"
    )


def number_patients(headers: Sequence[Header]) -> dict[Path, str]:
    """Give patients numbers in the order of their files; their own identifiers stay behind.

    Files belong together by Patient ID, failing that by study; a file with neither stands alone.
    """
    keys = {h.path: h.patient or str(h.path) for h in headers if h.problem is None}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()), start=1)}
    return {path: f"patient-{numbers[key]:04d}" for path, key in keys.items()}


def list_reasons(aside: Counter[str]) -> str:
    text = ", ".join(f"{count} {reason}" for reason, count in aside.most_common() if count)
    has_doppler = aside[COLOUR_DOPPLER] + aside[SPECTRAL_DOPPLER]
    return f"{text}; --keep-doppler takes Doppler" if has_doppler else text
