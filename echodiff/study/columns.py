"""Columns of an exported study: one row per rating in `ratings`, one per reader in `readers`.

The export writes them, the analysis reads them, and the codebook describes them; nothing else
spells their names.
"""

from typing import Final

SCORES: Final = (1, 2, 3, 4, 5)
"""Likert scale of P1: 1 very unlikely real, 5 very likely real."""

TICK_BOXES: Final = {
    "walls_not_visible": "walls not visible",
    "unnatural_artifacts": "unnatural artifacts",
    "possible_pathology": "possible pathology",
    "cropped_image": "cropped image",
    "unnatural_destruction": "wall has unnatural areas of destruction",
}
"""The five tick boxes of P1, column name -> label; cells are 0 or 1."""

STRUCTURED: Final = {
    "atrial_septum": ("intact", "defect", "not_assessable"),
    "ventricular_septum": ("intact", "defect", "not_assessable"),
    "valves": ("normal", "abnormal", "not_assessable"),
    "wall_thickness": ("normal", "hypertrophy", "hypotrophy", "not_assessable"),
    "left_ventricle": ("normal", "dilated", "not_assessable"),
    "right_ventricle": ("normal", "dilated", "not_assessable"),
    "left_atrium": ("normal", "dilated", "not_assessable"),
    "right_atrium": ("normal", "dilated", "not_assessable"),
}
"""Structured reading after Appendix B of P1, column name -> permitted values; empty: not asked or
not answered."""

RATING_COLUMNS: Final = {
    "reader": "random identifier of the reader, no name",
    "sequence": "number of the planned sequence that the reader was given, from 0",
    "trial": "position among the reader's rated images, from 1; practice is not counted",
    "sitting": "1, or 2 for the second sitting of a crossover",
    "kind": "main, shared (seen by all readers) or repeat (shown again to the same reader)",
    "condition": "empty; in a paired design `without` or `with` a generated image beside it",
    "image": "random identifier of the image",
    "companion": "identifier of the generated image shown beside it; empty: none",
    "source": "where the image comes from: real, or the name of a generator",
    "patient": "patient key of the image; empty if unknown",
    "truth": "true finding of the image in a diagnostic design; empty if unknown",
    "score": "1 (very unlikely real) to 5 (very likely real); in a diagnostic design the "
    "confidence in the diagnosis",
    "diagnosis": "finding chosen in a diagnostic design; empty otherwise",
    **{name: f"1 if ticked: {label}" for name, label in TICK_BOXES.items()},
    "text": "free text of the reader",
    **{name: "structured reading: " + ", ".join(values) for name, values in STRUCTURED.items()},
    "ms": "milliseconds from the decoded image to the score, hidden tabs left out; empty: unknown",
    "zoom": "largest magnification used, 1 = as served; empty: unknown",
    "brightness": "last display brightness used, 1 = as served; empty: unknown",
    "created": "time of the rating, ISO 8601, UTC",
    "changed": "time of the last change of the rating; empty: never changed",
}
"""Column -> meaning, in the order of the file `ratings`."""

READER_COLUMNS: Final = {
    "reader": "random identifier of the reader, no name",
    "sequence": "number of the planned sequence, from 0; empty: none given yet",
    "state": "invited, consented, practising, rating, done or withdrawn",
    "language": "language chosen by the reader: en, ru, kk or uz",
    "age_band": "age in years: under 25, 25-34, 35-44, 45-54, 55-64, 65 and over",
    "gender": "woman, man, other, or empty: not said",
    "speciality": "cardiologist, cardiac surgeon, paediatric cardiac surgeon, echocardiographer, "
    "sonographer, resident or other",
    "qualification": "qualification or category in the reader's words",
    "experience_years": "years of work in cardiology",
    "graduated_years": "years since graduating from medical school",
    "weekly_readings": "echocardiograms analysed per week on average",
    "consent_version": "version of the consent text that the reader accepted",
    "num_ratings": "number of ratings stored, practice left out",
    "comment": "comment after the study",
}
"""Column -> meaning, in the order of the file `readers`."""
