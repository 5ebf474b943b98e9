"""`echodiff check DIR`: find faults, duplicates, leaks and identifiers in a frames folder.

`faults.KINDS` lists the kinds of fault. The check reports all of them, not only the first.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.data.check.duplicates import Home, are_apart, find_exact, find_near
from echodiff.data.check.faults import KINDS, Fault, Severity
from echodiff.data.check.images import CheckedImage, check_image
from echodiff.data.check.listing import find_row_faults, read_listing
from echodiff.data.check.outliers import find_outliers
from echodiff.data.screens.ocr import check_ocr
from echodiff.data.splits import fold_id, patient_of
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import of_frames
from echodiff.processes import map_in_order
from echodiff.progress import ProgressBar
from echodiff.settings.command_line import parse, positional
from echodiff.settings.fields import printable

PROG = "echodiff check"


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Find faults, duplicates, leaks and identifiers in a frames folder; exit with 1 on errors."""

    folder: Path = positional()
    """Frames folder to check."""
    json: Path | None = None
    """File to which all findings are written as well."""
    accept: tuple[str, ...] = ()
    """Kinds of findings, separated by commas, that are intended: they are reported as notes."""
    show: int = 20
    """Number of lines per kind on the terminal (1 or more); --json has all."""
    text: bool = True
    """Search the pixels for burned-in text."""
    ocr: bool = False
    """Search a second time by OCR, about a second per image; needs `pip install echodiff[ocr]`."""
    workers: int = 0
    """Number of reading processes; 0 means one per core."""
    overwrite: bool = False
    """Replace the file at --json."""

    def __post_init__(self) -> None:
        if self.show < 1:
            raise ValueError(f"--show must be at least 1, got {self.show}")
        if self.workers < 0:
            raise ValueError(f"--workers must not be negative, got {self.workers}")
        for kind in self.accept:
            if kind not in KINDS:
                raise ValueError(f"--accept: {kind} is not known; kinds are {', '.join(KINDS)}")


@dataclass(frozen=True)
class Findings:
    """The result of a check."""

    folder: Path
    num_frames: int
    num_patients: int
    faults: Sequence[Fault]
    """In the order of `KINDS`, and of the rows within a kind."""
    accepted: tuple[str, ...] = ()
    """Kinds that are reported as notes."""

    def severity_of(self, kind: str) -> Severity:
        return Severity.NOTE if kind in self.accepted else KINDS[kind].severity

    @property
    def counts(self) -> Counter[Severity]:
        return Counter(self.severity_of(fault.kind) for fault in self.faults)

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain values, for `--json`."""
        return {
            "folder": str(self.folder),
            "frames": self.num_frames,
            "patients": self.num_patients,
            "counts": {f"{severity}s": self.counts[severity] for severity in Severity},
            "findings": [
                {"severity": self.severity_of(fault.kind)} | fault._asdict()
                for fault in self.faults
            ],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Check a folder and print the findings; return 1 if there are errors."""
    config = parse(CheckConfig, argv, prog=PROG)
    if config.json is not None and config.json.exists() and not config.overwrite:
        raise InputError(f"--json: {config.json}: already exists; --overwrite replaces it")
    if config.ocr:
        check_ocr()
    findings = check_folder(
        config.folder,
        with_text=config.text,
        with_ocr=config.ocr,
        accepted=config.accept,
        workers=config.workers,
    )
    for line in format_findings(findings, config.show):
        print(printable(line))
    if config.json is not None:
        write_json_atomic(config.json, findings.to_json())
    return int(findings.counts[Severity.ERROR] > 0)


def check_folder(
    folder: Path,
    *,
    with_text: bool = True,
    with_ocr: bool = False,
    accepted: tuple[str, ...] = (),
    workers: int = 0,
) -> Findings:
    """Find all faults of a frames folder; InputError if `folder` is not a frames folder.

    Only hashes and a few numbers are kept of the pixels.
    """
    frames, faults = read_listing(folder)
    faults += find_row_faults(folder, frames) if frames else []
    shown = [frame for frame in frames if (folder / frame.file_name).is_file()]
    white_level = find_level(folder, shown, faults)
    job = partial(
        check_image,
        folder=folder,
        with_text=with_text,
        with_ocr=with_ocr,
        white_level=white_level,
    )
    names = [(frame.file_name, frame.mask_file_name) for frame in shown]
    images: list[CheckedImage] = []
    checked = map_in_order(job, names, workers=workers)
    for image in ProgressBar(checked, "check", total=len(names), unit="frame", disable=not names):
        faults += image.faults
        images.append(image._replace(faults=()))
    faults += find_outliers(shown, images)
    faults += find_duplicates(shown, images)
    rank = {kind: place for place, kind in enumerate(KINDS)}
    faults.sort(key=lambda fault: rank[fault.kind])
    num_patients = len({patient_of(frame) for frame in frames})
    return Findings(folder, len(frames), num_patients, faults, accepted)


def find_level(folder: Path, frames: Sequence[Frame], faults: list[Fault]) -> int | None:
    """Return the white level of images of more than 8 bits; add a fault if the rows lack it."""
    try:
        level = of_frames(folder, frames)
    except InputError as error:
        faults.append(Fault("white-level", METADATA, str(error).removeprefix(f"{folder}: ")))
        return None
    if level is not None and all(frame.white_level is None for frame in frames):
        message = f"no row has a white_level; all images together suggest {level}"
        faults.append(Fault("white-level", METADATA, message))
    return level


def find_duplicates(frames: Sequence[Frame], images: Sequence[CheckedImage]) -> Iterator[Fault]:
    """Find duplicate images: errors across patients and splits, notes within them."""
    homes = number_homes(frames)
    digests = [image.digest for image in images]
    for later, earlier, _ in find_exact(digests, homes):
        kind = "exact-double" if are_apart(homes[later], homes[earlier]) else "repeated-frame"
        message = f"has the same pixels as {_describe(frames[earlier])}"
        yield Fault(kind, frames[later].file_name, message)
    for later, earlier, distance in find_near([image.sketch for image in images], homes):
        if digests[later] != digests[earlier]:
            place = _describe(frames[earlier])
            message = f"is nearly identical to {place}; {distance} bits of the hash differ"
            yield Fault("near-double", frames[later].file_name, message)


def number_homes(frames: Sequence[Frame]) -> list[Home]:
    """Number the patient and the split of every frame; -1 if unknown."""
    numbers: dict[str | None, int] = {None: -1}
    return [
        (
            numbers.setdefault(frame.patient_id and fold_id(frame.patient_id), len(numbers)),
            numbers.setdefault(frame.split, len(numbers)),
        )
        for frame in frames
    ]


def format_findings(findings: Findings, most: int) -> Iterator[str]:
    """Yield the lines to print: errors first, one line per file, then the counts.

    most: maximum number of files per kind.
    """
    by_kind: dict[str, list[Fault]] = {}
    for fault in findings.faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    order = list(Severity)
    for kind in sorted(by_kind, key=lambda kind: order.index(findings.severity_of(kind))):
        faults = by_kind[kind]
        accepted = ", accepted" if kind in findings.accepted else ""
        head = f"{findings.severity_of(kind)}{accepted}: {kind} ({len(faults)})"
        yield f"{head}: {KINDS[kind].meaning}"
        yield from (f"  {file}: {message}" for _, file, message in faults[:most])
        if len(faults) > most:
            yield f"  and {len(faults) - most} more; --show N prints more, --json writes all"
    counts = ", ".join(f"{findings.counts[severity]} {severity}s" for severity in Severity)
    yield (
        f"{counts} in {findings.num_frames} frames of {findings.num_patients} patients: "
        f"{findings.folder}"
    )


def _describe(frame: Frame) -> str:
    parts = [f"patient {frame.patient_id}" if frame.patient_id else "", frame.split or ""]
    known = ", ".join(part for part in parts if part)
    return f"{frame.file_name} ({known})" if known else frame.file_name
