"""Open a study in its database: copy the plan there once, and read its settings and state."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from echodiff.errors import InputError
from echodiff.study.database import Database
from echodiff.study.folder import study_key
from echodiff.study.models import AdminSession, AdminUser, Event, Image, Reader, Study, now
from echodiff.study.plan import (
    IMAGE_FOLDER,
    PLAN_FILE,
    PlannedTask,
    StudyConfig,
    StudyPlan,
    load_plan,
    plan_to_json,
)
from echodiff.study.secrecy import hash_password
from echodiff.study.translation import N_, Refusal

ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class OpenStudy:
    """A study folder and its rows in a database."""

    database: Database
    folder: Path
    id: int
    config: StudyConfig
    secret: str
    """Key that signs the sessions."""
    sequences: Sequence[Sequence[PlannedTask]]
    image_ids: dict[str, int]
    """Image token -> row."""

    def image_path(self, token: str) -> Path:
        """File of an image of this study."""
        return self.folder / IMAGE_FOLDER / f"{token}.png"


def open_study(folder: Path, database: Database) -> OpenStudy:
    """Bring the tables up to date, copy the plan to them if it is not there, and open it.

    Raises InputError if the folder holds no study, an image is missing, the lengths of the image
    files differ, which would tell a reader the source, or the plan was changed after readers were
    invited, who would no longer be found.
    """
    plan = load_plan(folder)
    check_images(plan)
    database.migrate()
    key = study_key(folder)
    with database.set_up() as connection:
        row = connection.execute(select(Study.id, Study.secret).where(Study.key == key)).first()
        if row is None:
            _refuse_changed(connection, folder, plan)
            row = _insert_study(connection, key, plan)
        tokens = select(Image.token, Image.id).where(Image.study_id == row.id)
        image_ids = {row.token: row.id for row in connection.execute(tokens)}
    return OpenStudy(
        database=database,
        folder=folder,
        id=row.id,
        config=plan.config,
        secret=row.secret,
        sequences=plan.sequences,
        image_ids=image_ids,
    )


def check_images(plan: StudyPlan) -> None:
    """InputError if an image file is missing or its length tells it from the others."""
    lengths: dict[int, Path] = {}
    for image in plan.images:
        if not image.file.is_file():
            raise InputError(f"{image.file}: is missing")
        lengths.setdefault(image.file.stat().st_size, image.file)
    if len(lengths) > 1:
        (one, first), (other, second) = list(lengths.items())[:2]
        raise InputError(
            f"{first} has {one} bytes and {second} {other}: lengths tell the source; make the "
            "images again with echodiff study init"
        )


def _refuse_changed(connection: Connection, folder: Path, plan: StudyPlan) -> None:
    """InputError if the database has readers of these images under another hash of the plan."""
    found = (
        select(Reader.id)
        .join(Image, Image.study_id == Reader.study_id)
        .where(Image.token == plan.images[0].token)
    )
    if connection.execute(found).first() is not None:
        raise InputError(
            f"{folder / PLAN_FILE}: was changed after readers were invited, and their ratings "
            "belong to the former plan; restore it"
        )


def _insert_study(connection: Connection, key: str, plan: StudyPlan) -> Any:
    values = {
        "key": key,
        "name": plan.config.name,
        "config": plan_to_json(plan)["config"],
        "secret": secrets.token_hex(32),
    }
    statement = insert(Study).values(values).returning(Study.id, Study.secret)
    row = connection.execute(statement).one()
    images = [
        {
            "study_id": row.id,
            "token": image.token,
            "file": f"{image.token}.png",
            "sha256": image.sha256,
            "pool": image.pool,
            "source": image.source,
            "origin": image.origin,
            "patient": image.patient,
            "truth": image.truth,
        }
        for image in plan.images
    ]
    connection.execute(insert(Image), images)
    log(connection, row.id, "stored", num_images=len(images), num_sequences=len(plan.sequences))
    return row


def log(
    connection: Connection, study: int, name: str, reader: int | None = None, **detail: Any
) -> None:
    """Add one line to the event log, in the caller's transaction."""
    values = {"study_id": study, "reader_id": reader, "name": name, "detail": detail}
    connection.execute(insert(Event).values(values))


def read_state(connection: Connection, study: OpenStudy) -> str:
    """open, paused or closed."""
    state: str = connection.scalars(select(Study.state).where(Study.id == study.id)).one()
    return state


def set_state(study: OpenStudy, state: str) -> None:
    """Open, pause or close a study; a closed one stays closed, as its sources may be known."""
    with study.database.begin() as connection:
        found = select(Study.state).where(Study.id == study.id).with_for_update()
        before = connection.scalars(found).one()
        if before == "closed" and state != "closed":
            raise Refusal(N_("The study is closed and cannot be opened again."))
        if before != state:
            closed = now() if state == "closed" else None
            change = update(Study).where(Study.id == study.id).values(state=state, closed=closed)
            connection.execute(change)
            log(connection, study.id, state)


def has_admin(study: OpenStudy) -> bool:
    """Whether an organiser can log in."""
    with study.database.read() as connection:
        found = select(AdminUser.id).where(AdminUser.study_id == study.id)
        return connection.execute(found).first() is not None


def set_admin_password(study: OpenStudy, password: str, name: str = ADMIN) -> None:
    """Create the organiser's login or change its password, which ends the sessions of the old."""
    hashed = hash_password(password)
    with study.database.begin() as connection:
        mine = (AdminUser.study_id == study.id, AdminUser.name == name)
        user = connection.scalars(select(AdminUser.id).where(*mine)).first()
        if user is None:
            values = {"study_id": study.id, "name": name, "password": hashed}
            connection.execute(insert(AdminUser).values(values))
        else:
            connection.execute(update(AdminUser).where(*mine).values(password=hashed))
            connection.execute(delete(AdminSession).where(AdminSession.user_id == user))
        log(connection, study.id, "password")
