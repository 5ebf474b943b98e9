"""`echodiff prepare mnms`: read M&Ms, short-axis cine MR of several centres and vendors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from echodiff.anatomy import View
from echodiff.data import labels
from echodiff.data.csv_tables import read_csv
from echodiff.data.mr.sax import CAPTION, Stack, read_sax
from echodiff.data.patient_facts import frame_number, known_facts
from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Source
from echodiff.data.volume_files import find_nifti
from echodiff.errors import InputError

TABLE = "*M&Ms*.csv"
COLUMNS = (
    "External code", "VendorName", "Centre", "ED", "ES", "Age", "Pathology", "Sex", "Height",
    "Weight",
)  # fmt: skip
SPLIT_OF = {
    "Training/Labeled": "train",
    "Training/Unlabeled": "train",
    "Validation": "val",
    "Testing": "test",
}
UNLABELED = "Training/Unlabeled"
PATHOLOGIES = {
    "NOR": "normal heart",
    "DCM": "dilated cardiomyopathy",
    "HCM": "hypertrophic cardiomyopathy",
    "ARV": "abnormal right ventricle",
    "HHD": "hypertensive heart disease",
    "AHS": "athlete's heart",
    "IHD": "ischaemic heart disease",
    "LVNC": "left-ventricular non-compaction",
    "Other": "other pathology",
}
MOST_FRAMES = 1000


@dataclass(frozen=True, kw_only=True)
class MnmsConfig(PrepareConfig):
    """Convert M&Ms to a frames folder: every short-axis slice at end of diastole and systole.

    SRC is the folder OpenDataset, or the folder that contains it. The patients are those with a
    folder; the table may list more.
    """

    unlabeled: bool = False
    """Add the patients of Training/Unlabeled, without masks: their mask files are not valid."""


def find_patients(config: MnmsConfig) -> DataSet:
    """Find the patients with a folder, and read their rows of the table."""
    root = find_root(config.src)
    table = find_table(root)
    return DataSet(
        name="mnms",
        card="mnms",
        modality="mr",
        cases=list(build_cases(root, table, with_unlabeled=config.unlabeled)),
        read=partial(read_sax, table=labels.MNMS),
        listings=(table,),
        captions=CAPTION,
    )


def find_root(src: Path) -> Path:
    for root in (src, src / "OpenDataset"):
        if any((root / part).is_dir() for part in SPLIT_OF):
            return root
    raise InputError(f"{src}: is not M&Ms: no folder Training, Validation or Testing in it")


def find_table(root: Path) -> Path:
    tables = sorted(root.glob(TABLE))
    if len(tables) != 1:
        raise InputError(f"{root}: expected one {TABLE}, found {len(tables)}")
    return tables[0]


def build_cases(root: Path, table: Path, *, with_unlabeled: bool) -> Iterator[Case]:
    rows: dict[str, dict[str, str]] = {}
    for number, row in read_csv(table, needed=COLUMNS):
        code = row["External code"].strip()
        if code in rows:
            raise InputError(f"{table}, line {number}: {code} occurs twice")
        rows[code] = row
    for part, split in SPLIT_OF.items():
        if part == UNLABELED and not with_unlabeled:
            continue
        for folder in sorted((root / part).glob("*")):
            if not (folder.is_dir() and folder.name.isalnum()):
                continue
            case = Case(
                name=folder.name,
                path=folder,
                patient_id=folder.name,
                split=split,
                view=View.SAX,
            )
            if folder.name not in rows:
                yield replace(case, problem=f"{folder}: has no row in {table.name}")
                continue
            try:
                yield fill_case(case, rows[folder.name], has_masks=part != UNLABELED)
            except InputError as error:
                yield replace(case, problem=str(error))


def fill_case(case: Case, row: Mapping[str, str], *, has_masks: bool) -> Case:
    """Add the facts and files of a patient to a case. The table counts frames from 0."""
    times = {
        phase: frame_number(row, phase, case.path, first=0, end=MOST_FRAMES)
        for phase in ("ED", "ES")
    }
    columns = {
        "pathology": "Pathology",
        "sex": "Sex",
        "age_years": "Age",
        "height_cm": "Height",
        "weight_kg": "Weight",
        "centre": "Centre",
    }
    facts = known_facts(row, columns)
    if "pathology" in facts:
        facts["pathology"] = PATHOLOGIES.get(str(facts["pathology"]), facts["pathology"])
    image = find_nifti(case.path / f"{case.name}_sa")
    mask = find_nifti(case.path / f"{case.name}_sa_gt") if has_masks else None
    stacks = {phase: Stack(image, mask, time) for phase, time in times.items()}
    return replace(
        case,
        facts=facts,
        vendor=row["VendorName"].strip() or None,
        where=stacks,
        extra_paths=stacks["ED"].paths,
    )


SOURCE = Source(MnmsConfig, find_patients)
