"""Read what a browser sends: questionnaire, ratings, comment; every mistake has its sentence.

Values come as text from anybody. What is not among the choices, too long or not a number is a
mistake of the field, never an exception.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from echodiff.study.columns import SCORES, STRUCTURED, TICK_BOXES
from echodiff.study.plan import StudyConfig
from echodiff.study.ratings import Answer
from echodiff.study.translation import N_

MAX_TEXT = 4000
MAX_LINE = 200
MAX_MS = 24 * 3600 * 1000
Form = Mapping[str, Any]

GENDERS = {
    "": N_("Prefer not to say"),
    "woman": N_("Woman"),
    "man": N_("Man"),
    "other": N_("Other"),
}
AGE_BANDS = {
    "under 25": N_("Under 25"), "25-34": "25–34", "35-44": "35–44", "45-54": "45–54",
    "55-64": "55–64", "65 and over": N_("65 and over"),
}  # fmt: skip
SPECIALITIES = {
    "cardiologist": N_("Cardiologist"),
    "cardiac surgeon": N_("Cardiac surgeon"),
    "paediatric cardiac surgeon": N_("Paediatric cardiac surgeon"),
    "echocardiographer": N_("Echocardiography or functional diagnostics physician"),
    "sonographer": N_("Sonographer"),
    "resident": N_("Resident or trainee"),
    "other": N_("Other"),
}
SCORE_LABELS = {
    1: N_("Very unlikely real"),
    2: N_("Rather unlikely real"),
    3: N_("Cannot say"),
    4: N_("Rather likely real"),
    5: N_("Very likely real"),
}
CONFIDENCE_LABELS = {
    1: N_("Very unsure"),
    2: N_("Rather unsure"),
    3: N_("Moderately sure"),
    4: N_("Rather sure"),
    5: N_("Very sure"),
}
TICK_LABELS = {
    "walls_not_visible": N_("Walls not visible"),
    "unnatural_artifacts": N_("Unnatural artifacts"),
    "possible_pathology": N_("Possible pathology"),
    "cropped_image": N_("Cropped image"),
    "unnatural_destruction": N_("Wall has unnatural areas of destruction"),
}
STRUCTURED_LABELS = {
    "atrial_septum": N_("Atrial septum"),
    "ventricular_septum": N_("Ventricular septum"),
    "valves": N_("Valves"),
    "wall_thickness": N_("Wall thickness"),
    "left_ventricle": N_("Left ventricle"),
    "right_ventricle": N_("Right ventricle"),
    "left_atrium": N_("Left atrium"),
    "right_atrium": N_("Right atrium"),
}
VALUE_LABELS = {
    "intact": N_("Intact"),
    "defect": N_("Defect"),
    "normal": N_("Normal"),
    "abnormal": N_("Abnormal"),
    "hypertrophy": N_("Hypertrophy"),
    "hypotrophy": N_("Hypotrophy"),
    "dilated": N_("Dilated"),
    "not_assessable": N_("Not assessable"),
}
DIAGNOSIS_LABELS = {
    "normal": N_("No finding"),
    "lv_hypertrophy": N_("Left ventricular hypertrophy"),
    "infarct_scar": N_("Infarct scar"),
    "fibrosis": N_("Fibrosis"),
    "asd": N_("Atrial septal defect"),
    "vsd": N_("Ventricular septal defect"),
}
STATE_LABELS = {
    "invited": N_("Invited"),
    "consented": N_("Consented"),
    "practising": N_("Practising"),
    "rating": N_("Rating"),
    "done": N_("Done"),
    "withdrawn": N_("Withdrawn"),
    "erased": N_("Erased"),
}
STUDY_LABELS = {"open": N_("open"), "paused": N_("paused"), "closed": N_("closed")}
assert TICK_LABELS.keys() == TICK_BOXES.keys()
assert STRUCTURED_LABELS.keys() == STRUCTURED.keys()

REQUIRED = N_("Please answer this question.")
NOT_A_CHOICE = N_("Please choose one of the answers shown.")
NOT_A_NUMBER = N_("Please enter a number from 0 to {limit}.")
TOO_LONG = N_("This text is too long: at most {limit} characters.")
NOT_A_DATE = N_("Please enter a date of birth in the past.")
NO_SCORE = N_("Please choose a score from 1 to 5.")
NO_DIAGNOSIS = N_("Please choose a finding.")


class Mistakes(Exception):  # noqa: N818 - it is no error of the program
    """Fields of a form that cannot be stored: field -> (message to translate, its values)."""

    def __init__(self, fields: dict[str, tuple[str, dict[str, Any]]]) -> None:
        super().__init__(", ".join(fields))
        self.fields = fields


class _Fields:
    """Values of a form with the mistakes found while reading them."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.mistakes: dict[str, tuple[str, dict[str, Any]]] = {}

    def text(self, name: str, *, limit: int = MAX_LINE, required: bool = False) -> str:
        given = self.form.get(name, "")
        # PostgreSQL has no room for NUL, nor UTF-8 for half a surrogate pair.
        value: str = given.strip() if isinstance(given, str) else ""
        value = value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
        if required and not value:
            self.mistakes[name] = REQUIRED, {}
        if len(value) > limit:
            self.mistakes[name] = TOO_LONG, {"limit": limit}
        return value

    def choice(
        self, name: str, choices: Sequence[str], missing: str = REQUIRED, *, required: bool = True
    ) -> str:
        value = self.text(name, limit=MAX_TEXT)
        if name not in self.form or (not value and "" not in choices):
            if required:
                self.mistakes[name] = missing, {}
            return ""
        if value not in choices:
            self.mistakes[name] = NOT_A_CHOICE, {}
        return value

    def number(self, name: str, limit: int) -> float:
        value = self.text(name, required=True).replace(",", ".")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= limit and name not in self.mistakes:
            self.mistakes[name] = NOT_A_NUMBER, {"limit": limit}
        return number

    def check(self) -> None:
        if self.mistakes:
            raise Mistakes(self.mistakes)


def read_questionnaire(
    form: Form, config: StudyConfig
) -> tuple[dict[str, Any], str | None, str | None]:
    """Answers, name and birth date of P1's questionnaire; Mistakes if any is missing.

    Birth date and name are None unless the study asks for them; the age band is computed from the
    date, so that the date itself is never exported.
    """
    fields = _Fields(form)
    name = fields.text("name", required=True) if config.ask_names else None
    birth_date = None
    if config.ask_birth_date:
        birth_date, age_band = _read_birth_date(fields)
    else:
        age_band = fields.choice("age_band", list(AGE_BANDS))
    answers = {
        "gender": fields.choice("gender", list(GENDERS)),
        "age_band": age_band,
        "qualification": fields.text("qualification", required=True),
        "speciality": fields.choice("speciality", list(SPECIALITIES)),
        "experience_years": fields.number("experience_years", 70),
        "graduated_years": fields.number("graduated_years", 70),
        "weekly_readings": fields.number("weekly_readings", 1000),
    }
    fields.check()
    return answers, name, birth_date


def _read_birth_date(fields: _Fields) -> tuple[str, str]:
    text, today = fields.text("birth_date", required=True), date.today()
    try:
        born = date.fromisoformat(text)
    except ValueError:
        born = today
    age = today.year - born.year - ((today.month, today.day) < (born.month, born.day))
    if not 16 <= age <= 110:
        fields.mistakes.setdefault("birth_date", (NOT_A_DATE, {}))
    return text, list(AGE_BANDS)[min(max((age - 15) // 10, 0), 5)]


def read_answers(form: Form, tokens: Sequence[str], config: StudyConfig) -> dict[str, Answer]:
    """Answers to the tasks with these tokens; Mistakes if a score or a finding is missing."""
    fields = _Fields(form)
    answers = {token: _read_answer(fields, token, config) for token in tokens}
    fields.check()
    return answers


def _read_answer(fields: _Fields, token: str, config: StudyConfig) -> Answer:
    score = fields.choice(f"score-{token}", [str(score) for score in SCORES], NO_SCORE)
    structured = {}
    if config.design == "diagnosis":
        name = f"diagnosis-{token}"
        structured["diagnosis"] = fields.choice(name, config.diagnoses, NO_DIAGNOSIS)
    if config.structured_reading:
        for name, values in STRUCTURED.items():
            if value := fields.choice(f"{name}-{token}", ("", *values), required=False):
                structured[name] = value
    return Answer(
        score=int(score) if score in {"1", "2", "3", "4", "5"} else 0,
        ticked=frozenset(name for name in TICK_BOXES if fields.form.get(f"{name}-{token}")),
        text=fields.text(f"text-{token}", limit=MAX_TEXT),
        structured=structured,
        ms=_read_ms(fields.form.get(f"ms-{token}")),
        display=_read_display(fields.form.get(f"display-{token}")),
    )


def _read_ms(value: Any) -> int | None:
    """Milliseconds measured by the page's script; without it the time is unknown."""
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        return None
    ms = int(value[:12])
    return ms if ms <= MAX_MS else None


def _read_display(value: Any) -> dict[str, float]:
    """Zoom, brightness, viewport in CSS pixels and pixel ratio, as the page's script saw them."""
    try:
        given = json.loads(value) if isinstance(value, str) and len(value) < 1000 else {}
    except (ValueError, RecursionError):
        return {}
    names = ("zoom", "brightness", "width", "height", "ratio", "hidden_ms")
    if not isinstance(given, dict):
        return {}
    return {
        name: round(float(given[name]), 3)
        for name in names
        if isinstance(given.get(name), int | float) and abs(given[name]) < 1e9
    }


def read_comment(form: Form) -> str:
    """The comment after the study."""
    fields = _Fields(form)
    comment = fields.text("comment", limit=MAX_TEXT)
    fields.check()
    return comment


def read_caption(form: Form) -> str:
    """The text of one frame, of at most 2000 letters, on one line."""
    fields = _Fields(form)
    caption = " ".join(fields.text("caption", limit=2000, required=True).split())
    fields.check()
    return caption
