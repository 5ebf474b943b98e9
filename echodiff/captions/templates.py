"""Fill a caption template with what is known of a frame.

A template is a list of clauses separated by commas. A clause with a field in braces is omitted if
the field is unknown, so one template serves data sets with many and with few fields.
"""

import string
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label, View
from echodiff.errors import InputError

PLAIN = (
    "{pathology}, {ef}, {view}, {slice} slice, {phase}, {chambers} visible, "
    "{lv_shape} left ventricle, {la_size}, {quality} image quality, {picture}"
)
"""Template for sets whose own is None: findings first, view and patient last, as in P1's example
("ASD, ... heart cavities not dilated, ..., 4-chamber position, echocardiogram of the child")."""

FIELDS = (
    "pathology", "ef", "ef_percent", "edv_ml", "esv_ml", "view", "slice", "phase",
    "chambers", "lv_shape", "la_size", "quality", "picture", "modality", "person", "sex", "age",
    "vendor", "centre",
)  # fmt: skip
"""Words a template may use."""

_VIEWS = {
    View.A4C: "apical 4-chamber view",
    View.A2C: "apical 2-chamber view",
    View.PLAX: "parasternal long-axis view",
    View.SAX: "short-axis view",
    View.A3C: "apical long-axis view",
    View.A5C: "apical 5-chamber view",
    View.SUBCOSTAL: "subcostal 4-chamber view",
    View.PSAX: "parasternal short-axis view",
}
_PHASES = {"ED": "end of diastole", "ES": "end of systole"}
_MODALITIES = {
    "echo": "echocardiogram",
    "mr": "MR",
    "ct": "CT",
    "ct-contrast": "contrast-enhanced CT",
    "pseudo": "pseudo image",
}
_CHAMBERS = {
    Label.LV: "left ventricle",
    Label.LA: "left atrium",
    Label.RV: "right ventricle",
    Label.RA: "right atrium",
}
_EF_BANDS = (
    (30, "severely reduced ejection fraction"),
    (40, "moderately reduced ejection fraction"),
    (50, "mildly reduced ejection fraction"),
    (70, "normal ejection fraction"),
    (float("inf"), "hyperdynamic left ventricle"),
)
"""Upper ends, per cent: the lines at 40 and 50 are those of the 2021 ESC heart-failure guideline
(HFrEF, HFmrEF), 30 and 70 those of the ASE/EACVI 2015 recommendations, rounded."""


def check_template(template: str, place: str) -> str:
    """Return the template; InputError naming its unknown fields."""
    try:
        used = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
    unknown = [name for name in used if name not in FIELDS]
    if unknown or not template:
        reason = f"{{{unknown[0]}}} is not known" if unknown else "empty template"
        raise InputError(f"{place}: {reason}; known are {', '.join(FIELDS)}")
    return template


def fill(template: str, words: Mapping[str, str]) -> str:
    """Fill a template; clauses with unknown fields are omitted."""
    clauses = []
    for clause in template.split(","):
        used = [name for _, name, _, _ in string.Formatter().parse(clause) if name is not None]
        if all(words.get(name) for name in used):
            clauses.append(clause.strip().format_map(words))
    return ", ".join(clause for clause in clauses if clause)


def name_words(
    facts: Mapping[str, str | float],
    *,
    modality: str,
    view: str | None,
    phase: str | None,
    vendor: str | None,
    mask_u8: NDArray[np.uint8] | None,
) -> dict[str, str]:
    """Return the fields of `FIELDS` that are known for a frame."""
    words = {
        "modality": _MODALITIES.get(modality, modality),
        "view": _VIEWS[View(view)] if view in set(View) else f"{view} view" if view else "",
        "phase": _PHASES.get(phase or "", ""),
        "vendor": vendor or "",
        "person": _name_person(facts),
        "sex": {"F": "female", "M": "male"}.get(str(facts.get("sex")), ""),
        "age": _name_age(facts),
    }
    person = words["person"]
    words["picture"] = f"{words['modality']} of {person}" if person else words["modality"]
    words |= {key: str(facts[key]) for key in ("pathology", "slice", "centre") if key in facts}
    if "quality" in facts:
        words["quality"] = str(facts["quality"]).lower()
    if "ef" in facts:
        ef = float(facts["ef"])
        words["ef"] = next(name for end, name in _EF_BANDS if ef < end)
        words["ef_percent"] = f"{ef:.0f} %"
    words |= {key: f"{float(facts[key]):.0f} ml" for key in ("edv_ml", "esv_ml") if key in facts}
    if mask_u8 is not None:
        words |= _describe_mask(mask_u8)
    return {key: word for key, word in words.items() if word}


def _name_person(facts: Mapping[str, str | float]) -> str:
    age = facts.get("age_years")
    is_child = age is not None and float(age) < 18
    names = {"F": ("a woman", "a girl"), "M": ("a man", "a boy")}
    adult, child = names.get(
        str(facts.get("sex")), ("an adult" if age is not None else "", "a child")
    )
    return child if is_child else adult


def _name_age(facts: Mapping[str, str | float]) -> str:
    if "age_years" not in facts:
        return ""
    age = int(float(facts["age_years"]))
    if age < 18:
        return "infant" if age < 1 else "child"
    first = age // 10 * 10
    return "aged 90 or over" if age >= 90 else f"aged {max(18, first)} to {first + 9}"


def _describe_mask(mask_u8: NDArray[np.uint8]) -> dict[str, str]:
    """Describe the visible chambers and their shape; sizes are relative to the image."""
    areas = {label: int((mask_u8 == label).sum()) for label in _CHAMBERS}
    words = {"chambers": " and ".join(name for label, name in _CHAMBERS.items() if areas[label])}
    if areas[Label.LV]:
        words["lv_shape"] = _shape_word(mask_u8 == Label.LV)
    if areas[Label.LV] and areas[Label.LA]:
        word = "larger" if areas[Label.LA] > areas[Label.LV] else "smaller"
        words["la_size"] = f"left atrium {word} than the left ventricle"
    return words


def _shape_word(region: NDArray[np.bool_]) -> str:
    """Choose a word by the axis ratio of the ellipse with the region's second moments."""
    points = np.argwhere(region)
    if len(points) < 3:
        return "small"
    small, large = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)).clip(1e-6))
    return "elongated" if large / small > 1.75 else "rounded"
