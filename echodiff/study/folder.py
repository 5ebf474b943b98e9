"""Write a planned study to its folder: `images/TOKEN.png`, and `plan.json` when all is there.

`plan.json` names the source of every image; it is readable by its owner alone. The folder needs no
database: `echodiff study serve` copies the plan to one when it first opens it.
"""

import hashlib
import json
from pathlib import Path

from echodiff.errors import InputError
from echodiff.files import written_beside
from echodiff.study.plan import IMAGE_FOLDER, PLAN_FILE, StudyPlan, check_plan, plan_to_json

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def create_study(folder: Path, plan: StudyPlan) -> None:
    """Copy the images of a plan to `folder`, then write the plan.

    Raises InputError if the plan contradicts itself, an image is not the PNG that the plan names,
    or the folder already holds a study. Interrupted, it can be called again.
    """
    check_plan(plan)
    if (folder / PLAN_FILE).exists():
        raise InputError(f"{folder}: holds a study already; choose another folder")
    for image in plan.images:
        data = Path(image.file).read_bytes()
        if not data.startswith(PNG_SIGNATURE):
            raise InputError(f"{image.file}: is not a PNG")
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise InputError(f"{image.file}: is not the image of the plan: its hash differs")
        with written_beside(folder / IMAGE_FOLDER / f"{image.token}.png") as partial:
            partial.write_bytes(data)
    text = json.dumps(plan_to_json(plan), indent=1, ensure_ascii=False, allow_nan=False)
    with written_beside(folder / PLAN_FILE) as partial:
        partial.chmod(0o600)
        partial.write_text(text + "\n", encoding="utf-8", newline="\n")


def study_key(folder: Path) -> str:
    """Hash of the plan: the same study in any database."""
    return hashlib.sha256((folder / PLAN_FILE).read_bytes()).hexdigest()
