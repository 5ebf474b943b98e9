"""`echodiff prepare dicom`: ultrasound clips and MR series -> frames, without identifiers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.config import InputError, parse
from echodiff.data.cases import Case, DataSet
from echodiff.data.dicom_headers import MODALITIES, Header, list_files, read_header
from echodiff.data.dicom_shots import BURNED_TEXT, MASK, Reading, read_clip, read_series
from echodiff.data.identifiers import Held, build_report
from echodiff.data.preparation import PrepareConfig, prepare
from echodiff.data.windows import PERCENTILE, parse_window
from echodiff.files import write_json_atomic
from echodiff.processes import map_in_order

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
    left = ", ".join(f"{keyword} {count}" for keyword, count in report["left_behind"].items())
    print(f"identifying tags left behind, by number of clips or series: {left or 'none'}")
    print(f"tags kept: {', '.join(report['kept'])}; in full: {config.out / REPORT}")
    if found.aside:
        print(f"DICOM files left aside: {list_reasons(found.aside)}")


def find_dicom(config: DicomConfig) -> Found:
    """List ultrasound clips or MR series under `src`, and the identifying tags that they hold."""
    headers = list(map_in_order(read_header, list_files(config.src), workers=config.workers))
    modality = choose_modality(config, headers)
    aside = Counter(
        header.aside or f"{header.modality} not asked for"
        for header in headers
        if header.problem is None and (header.aside or header.modality != modality)
    )
    headers = [h for h in headers if h.problem or (not h.aside and h.modality == modality)]
    groups = group_files(headers)
    patients = number_patients([g[0] for g in groups.values() if g[0].problem is None])
    cases, names = [], defaultdict[frozenset[str], list[str]](list)
    for name, group in groups.items():
        first = group[0]
        cases.append(
            Case(
                name=name,
                path=first.path if len(group) == 1 else first.path.parent,
                patient_id=patients.get(first.path),
                view=config.view,
                vendor=first.vendor,
                facts=first.facts if config.patient_characteristics else {},
                extra_paths=tuple(header.path for header in group) if len(group) > 1 else (),
                problem=first.problem,
            )
        )
        if first.problem is None:
            names[frozenset[str]().union(*(header.tags for header in group))].append(name)
    reading = Reading(
        every=config.every,
        window=config.window or (PERCENTILE if modality == "mr" else None),
        burned_text=config.burned_text,
    )
    data = DataSet(
        name="dicom",
        card="dicom",
        modality=modality,
        cases=cases,
        read=partial(read_series if modality == "mr" else read_clip, reading=reading),
        beside=(REPORT,),
    )
    held = [Held(tuple(same), keywords) for keywords, same in names.items()]
    return Found(data=data, held=held, aside=aside)


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


def group_files(headers: Sequence[Header]) -> dict[str, list[Header]]:
    """Files by the name of their case: a file of ultrasound, a slice of an MR series in its order
    in time, or a bad file; in the order of the first files."""
    series: dict[Any, list[Header]] = defaultdict(list)
    for header in headers:
        is_alone = header.problem is not None or header.modality == "echo"
        series[header.path if is_alone else header.series].append(header)
    uids = list(dict.fromkeys(key[0] for key in series if isinstance(key, tuple)))
    slices = {
        uid: sorted(k for k in series if isinstance(k, tuple) and k[0] == uid) for uid in uids
    }
    groups, numbers = {}, Counter[str]()
    for key, group in series.items():
        if isinstance(key, tuple):
            name = f"series-{uids.index(key[0]) + 1:04d}"
            if len(slices[key[0]]) > 1:
                name += f"-slice-{slices[key[0]].index(key) + 1:02d}"
        else:
            kind = "file" if group[0].problem is not None else "clip"
            numbers[kind] += 1
            name = f"{kind}-{numbers[kind]:04d}"
        groups[name] = sorted(group, key=lambda header: (*header.order, str(header.path)))
    return groups


def number_patients(headers: Sequence[Header]) -> dict[Path, str]:
    """Give patients numbers in the order of their files; their own identifiers stay behind.

    Files belong together by Patient ID, failing that by study; a file with neither stands alone.
    """
    keys = {header.path: header.patient or str(header.path) for header in headers}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()), start=1)}
    return {path: f"patient-{numbers[key]:04d}" for path, key in keys.items()}


def list_reasons(aside: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in aside.most_common())
