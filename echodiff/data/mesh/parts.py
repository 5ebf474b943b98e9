"""Map the names or numbers of a model's parts to walls and cavities.

A wall has a cavity that it encloses; if a model gives only walls, `cavities` fills them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from echodiff.anatomy import Label
from echodiff.documents import read_yaml_record
from echodiff.errors import InputError

CAVITIES = (
    Label.LV, Label.LA, Label.RV, Label.RA, Label.AORTA, Label.PULMONARY_ARTERY,
)  # fmt: skip
"""Cavities that are searched for between walls if the model does not give them."""


@dataclass(frozen=True)
class Tissue:
    """How a part of a model is labelled."""

    label: Label
    is_wall: bool
    """Whether rays end here, as at a wall; they pass through cavities."""
    encloses: Label | None = None
    """The cavity on its inner side; None for valves and septa, which have one on either side."""


TISSUES: Mapping[str, Tissue | None] = MappingProxyType(
    {
        "LV": Tissue(Label.LV, False),
        "LA": Tissue(Label.LA, False),
        "RV": Tissue(Label.RV, False),
        "RA": Tissue(Label.RA, False),
        "LV_WALL": Tissue(Label.LV_MYOCARDIUM, True, Label.LV),
        "RV_WALL": Tissue(Label.RV_MYOCARDIUM, True, Label.RV),
        "LA_WALL": Tissue(Label.ATRIAL_WALL, True, Label.LA),
        "RA_WALL": Tissue(Label.ATRIAL_WALL, True, Label.RA),
        "VENTRICULAR_SEPTUM": Tissue(Label.LV_MYOCARDIUM, True),
        "ATRIAL_SEPTUM": Tissue(Label.ATRIAL_WALL, True),
        "VALVE": Tissue(Label.VALVE, True),
        "AORTA": Tissue(Label.AORTA, True, Label.AORTA),
        "AORTIC_VALVE": Tissue(Label.AORTA, True, Label.AORTA),
        "PULMONARY_ARTERY": Tissue(Label.PULMONARY_ARTERY, True, Label.PULMONARY_ARTERY),
        "PULMONARY_VALVE": Tissue(Label.PULMONARY_ARTERY, True, Label.PULMONARY_ARTERY),
        "VEIN": Tissue(Label.VEIN, True),
        "PERICARDIUM": Tissue(Label.PERICARDIUM, True),
        "NONE": None,
    }
)
"""Words of a table of parts. NONE is for parts without a label: papillary muscles, which count as
cavity as in CAMUS, coronary vessels, fat."""

_DRAWN = (
    Label.PERICARDIUM, Label.VEIN, Label.PULMONARY_ARTERY, Label.AORTA, Label.ATRIAL_WALL,
    Label.RV_MYOCARDIUM, Label.LV_MYOCARDIUM, Label.RA, Label.RV, Label.LA, Label.LV, Label.VALVE,
)  # fmt: skip
"""If parts overlap, the later one is drawn: a cavity may be a body inside a solid wall."""

_RODERO_WALLS = {
    1: "LV_WALL", 2: "RV_WALL", 3: "LA_WALL", 4: "RA_WALL", 5: "AORTA", 6: "PULMONARY_ARTERY",
}  # fmt: skip
NUMBERS: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "labels": {0: "NONE"} | {
            int(label): {"LV_MYOCARDIUM": "LV_WALL", "RV_MYOCARDIUM": "RV_WALL",
                         "ATRIAL_WALL": "ATRIAL_SEPTUM"}.get(label.name, label.name)
            for label in Label if label is not Label.BACKGROUND
        },
        # Rodero et al., Zenodo 4590294, 4593739 and 4506930: planes of the valves are 7 to 10,
        # those that close veins 11 to 17, the rims around them 18 to 24; 25 is Gilbert's own.
        "rodero": _RODERO_WALLS | dict.fromkeys((7, 8), "VALVE") | {9: "AORTIC_VALVE"}
        | {10: "PULMONARY_VALVE", 11: "LA_WALL"} | dict.fromkeys(range(12, 18), "VEIN")
        | dict.fromkeys(range(18, 23), "LA_WALL") | dict.fromkeys((23, 24), "RA_WALL")
        | {25: "PERICARDIUM"},
        # Strocchi et al., PLOS ONE 2020: the same first six, then rims, valves and planes.
        "strocchi": _RODERO_WALLS | dict.fromkeys(range(7, 12), "LA_WALL")
        | dict.fromkeys((12, 13), "RA_WALL") | dict.fromkeys((14, 15), "VALVE")
        | {16: "AORTIC_VALVE", 17: "PULMONARY_VALVE", 18: "LA_WALL"}
        | dict.fromkeys(range(19, 25), "VEIN"),
        "hvsmr": {0: "NONE", 1: "LV", 2: "RV", 3: "LA", 4: "RA", 5: "AORTA",
                  6: "PULMONARY_ARTERY", 7: "VEIN", 8: "VEIN"},
        "mmwhs": {0: "NONE", 205: "LV_WALL", 420: "LA", 500: "LV", 550: "RA", 600: "RV",
                  820: "AORTA", 850: "PULMONARY_ARTERY"},
        "totalsegmentator": {0: "NONE", 1: "LV_WALL", 2: "LA", 3: "LV", 4: "RA", 5: "RV",
                             6: "AORTA", 7: "PULMONARY_ARTERY"},
    }
)  # fmt: skip
"""Tables for cell tags and label volumes; totalsegmentator is its heartchambers_highres."""

_NAMES = (
    (r"papillary|chord\w*|trabecul\w*|moderator|coronary(?! sinus)|fat|nerves?|lymph\w*", "NONE"),
    (r"pericard\w*", "PERICARDIUM"),
    (r"aortic (valve|leaflet|cusp)s?|av", "AORTIC_VALVE"),
    (r"pulmon\w* (valve|leaflet|cusp)s?|pv", "PULMONARY_VALVE"),
    (r"veins?|venous|vena|cava|svc|ivc|coronary sinus", "VEIN"),
    (r"aort\w*|ao", "AORTA"),
    (r"pulmon\w*|pa", "PULMONARY_ARTERY"),
    (r"mitral|tricuspid|bicuspid|atrio ?ventricular|leaflets?|valves?|mv|tv", "VALVE"),
    (r"inter ?ventricular|ventricular sept\w*|ivs", "VENTRICULAR_SEPTUM"),
    (r"inter ?atrial|atrial sept\w*|ias", "ATRIAL_SEPTUM"),
    (r"sept\w*", "VENTRICULAR_SEPTUM"),
)
"""Whole words of a name and their meaning; the first line that matches counts."""
_SIDES = {"L": r"left|lv|la|lvm|lvmyo", "R": r"right|rv|ra|rvm|rvmyo"}
_CHAMBERS = {"V": r"ventric\w*|lv|rv|lvm|rvm|lvmyo|rvmyo", "A": r"atri\w*|auric\w*|la|ra"}
_WALL = r"wall|myo\w*|muscle|epi\w*|lvm|rvm|lvmyo|rvmyo"
_CAVITY = r"cavity|blood|bloodpool|pool|lumen|endo\w*|chamber"


def name_part(name: str) -> str | None:
    """Translate a name such as `VH_M_heart_left_ventricle` to a word of `TISSUES`, here "LV?".

    A question mark means that the name does not say whether it is the wall or the cavity. None if
    the name is not recognised.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    text = " ".join(re.findall(r"[a-z]+", spaced.lower()))

    def has(pattern: str) -> bool:
        return re.search(rf"\b(?:{pattern})\b", text) is not None

    for pattern, tissue in _NAMES:
        if has(pattern):
            return tissue
    sides = [side for side, pattern in _SIDES.items() if has(pattern)]
    chambers = [chamber for chamber, pattern in _CHAMBERS.items() if has(pattern)]
    if not sides and not chambers and has(_WALL):
        return "LV_WALL"
    if len(sides) != 1 or len(chambers) != 1:
        return None
    return sides[0] + chambers[0] + ("_WALL" if has(_WALL) else "" if has(_CAVITY) else "?")


def settle(words: Sequence[str], solidity: Sequence[float]) -> list[str]:
    """Decide between wall and cavity for words with a question mark.

    A part is a cavity if another part is the wall, or if it fills three quarters of its convex
    hull, as a cavity does and a shell does not.
    """
    settled = []
    for word, share in zip(words, solidity, strict=True):
        chamber = word.removesuffix("?")
        is_cavity = f"{chamber}_WALL" in words or share > 0.75
        settled.append(word if chamber == word else chamber if is_cavity else f"{chamber}_WALL")
    return settled


def drawing_order(tissues: Sequence[Tissue]) -> list[int]:
    """Return the positions of the tissues in the order in which they are drawn."""
    return sorted(range(len(tissues)), key=lambda place: _DRAWN.index(tissues[place].label))


@dataclass(frozen=True)
class PartTable:
    """Meaning of the parts as the user gives it: a named table of numbers, or a YAML file."""

    numbers: str | None = None
    """Name of a table of `NUMBERS`."""
    words: Mapping[str, str] | None = None
    """Pattern of a name, or number -> word of `TISSUES`; the first pattern that fits counts."""

    def find_name(self, name: str) -> str | None:
        """Return the word of a named part: from the file, or else from the name."""
        for pattern, word in (self.words or {}).items():
            if fnmatchcase(name.lower(), pattern.lower()):
                return word
        return name_part(name)

    def find_number(self, number: int, default: str) -> str | None:
        """Return the word of a numbered part; a file with numbers replaces the whole table."""
        if self.words is not None:
            return self.words.get(str(number), "NONE" if number == 0 else None)
        return NUMBERS[self.numbers or default].get(number)


def load_part_table(option: str | None) -> PartTable:
    """Read `--parts`: the name of a table, or a YAML file of `part: WORD` lines."""
    if option is None:
        return PartTable()
    if option in NUMBERS:
        return PartTable(numbers=option)
    path = Path(option)
    if path.suffix not in {".yaml", ".yml"}:
        raise InputError(
            f"--parts: {option!r} is neither a .yaml file nor one of {', '.join(NUMBERS)}"
        )
    try:
        values = read_yaml_record(path)
    except OSError as error:
        raise InputError(f"--parts: {path}: {error.strerror}") from error
    if not values:
        raise InputError(f"{path}: expected lines such as `*ventricle_left*: LV_WALL` or `1: LV`")
    words = {str(key): str(word or "NONE").upper() for key, word in values.items()}
    for key, word in words.items():
        if word not in TISSUES:
            raise InputError(f"{path}: {key}: {word} is not one of {', '.join(TISSUES)}")
    return PartTable(words=words)
