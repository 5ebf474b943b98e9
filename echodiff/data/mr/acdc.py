"""`echodiff prepare acdc`: read the Automated Cardiac Diagnosis Challenge, short-axis cine MR."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from echodiff.anatomy import View
from echodiff.data import labels
from echodiff.data.mr.sax import CAPTION, Stack, read_sax
from echodiff.data.patient_facts import frame_number, known_facts, read_info
from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Source
from echodiff.data.volume_files import find_nifti
from echodiff.errors import InputError

SPLIT_OF = {"training": "train", "testing": "test"}
PATHOLOGIES = {
    "NOR": "normal heart",
    "MINF": "previous myocardial infarction",
    "DCM": "dilated cardiomyopathy",
    "HCM": "hypertrophic cardiomyopathy",
    "RV": "abnormal right ventricle",
}


@dataclass(frozen=True, kw_only=True)
class AcdcConfig(PrepareConfig):
    """Convert ACDC to a frames folder: every short-axis slice at end of diastole and systole.

    SRC is a folder with database/ or ACDC/database/ in it, or the database folder itself.
    """


def find_patients(config: AcdcConfig) -> DataSet:
    """Find the patients in training/ and testing/ and read their Info.cfg."""
    root = find_root(config.src)
    cases = [
        build_case(folder, split)
        for part, split in SPLIT_OF.items()
        for folder in sorted((root / part).glob("patient*"))
        if folder.is_dir()
    ]
    return DataSet(
        name="acdc",
        card="acdc",
        modality="mr",
        cases=cases,
        read=partial(read_sax, table=labels.ACDC),
        captions=CAPTION,
    )


def find_root(src: Path) -> Path:
    for root in (src, src / "database", src / "ACDC" / "database"):
        if any((root / part).is_dir() for part in SPLIT_OF):
            return root
    raise InputError(f"{src}: is not ACDC: no folder training or testing in it or in database")


def build_case(folder: Path, split: str) -> Case:
    """Build the case of a patient; a faulty Info.cfg becomes the problem of the case."""
    case = Case(
        name=folder.name,
        path=folder,
        patient_id=folder.name,
        split=split,
        view=View.SAX,
        vendor="Siemens",
    )
    path = folder / "Info.cfg"
    try:
        info = read_info(path, needed=("ED", "ES", "NbFrame"))
        end = frame_number(info, "NbFrame", path, first=1, end=1000) + 1
        numbers = {
            phase: frame_number(info, phase, path, first=1, end=end) for phase in ("ED", "ES")
        }
    except InputError as error:
        return replace(case, problem=str(error))
    columns = {"pathology": "Group", "height_cm": "Height", "weight_kg": "Weight"}
    facts = known_facts(info, columns)
    if "pathology" in facts:
        facts["pathology"] = PATHOLOGIES.get(str(facts["pathology"]), facts["pathology"])
    stacks = {phase: find_stack(folder, number, split) for phase, number in numbers.items()}
    extra = (path, *(file for stack in stacks.values() for file in stack.paths))
    return replace(case, facts=facts, where=stacks, extra_paths=extra)


def find_stack(folder: Path, number: int, split: str) -> Stack:
    """Find the image and the mask of a frame; frames are counted from 1."""
    stem = f"{folder.name}_frame{number:02d}"
    mask = find_nifti(folder / f"{stem}_gt")
    # The first release did not include the masks of the testing patients.
    has_mask = split != "test" or mask.exists()
    return Stack(find_nifti(folder / stem), mask if has_mask else None)


SOURCE = Source(AcdcConfig, find_patients)
