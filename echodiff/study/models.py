"""Tables of the study database, for SQLite and PostgreSQL.

Every constraint has a name by one convention, so that migrations can change it on both. What
identifies a person is in `reader_name` alone; what identifies a source is in `image` alone.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from echodiff.study.columns import TICK_BOXES

STUDY_STATES = ("open", "paused", "closed")
READER_STATES = (
    "invited", "consented", "practising", "rating", "done", "withdrawn", "erased",
)  # fmt: skip
POOLS = ("main", "shared", "practice", "companion")
KINDS = ("practice", "main", "shared", "repeat")
CONDITIONS = ("", "without", "with")
ROLES = ("reader", "annotator")
LEFT_STATES = ("withdrawn", "erased")
"""Readers who left: their sequence is free again."""
LEFT = "state IN ('withdrawn', 'erased')"


class UtcDateTime(TypeDecorator[datetime]):
    """Time in UTC that comes back aware from SQLite too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without its zone")
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Constraint `ck_TABLE_COLUMN`: the column holds one of these words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        bool: Boolean,
        str: Text,
    }


class Study(Table):
    """One study: settings, state and the key that signs its sessions."""

    __tablename__ = "study"
    __table_args__ = (one_of("state", STUDY_STATES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """Hash of the plan, by which a study folder finds its rows."""
    name: Mapped[str]
    config: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(String(16), default="open")
    secret: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    closed: Mapped[datetime | None]


class Image(Table):
    """One image; `source`, `origin`, `patient` and `truth` are hidden until the study is closed."""

    __tablename__ = "image"
    __table_args__ = (UniqueConstraint("study_id", "token"), one_of("pool", POOLS))

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    token: Mapped[str] = mapped_column(String(64))
    file: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    pool: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(deferred=True)
    origin: Mapped[str] = mapped_column(deferred=True)
    patient: Mapped[str | None] = mapped_column(deferred=True)
    truth: Mapped[str | None] = mapped_column(deferred=True)


class Reader(Table):
    """One reader or annotator, without a name."""

    __tablename__ = "reader"
    __table_args__ = (
        UniqueConstraint("study_id", "token"),
        one_of("state", READER_STATES),
        one_of("role", ROLES),
        Index(
            "uq_reader_sequence_taken",
            "study_id",
            "sequence",
            unique=True,
            sqlite_where=text(f"NOT ({LEFT})"),
            postgresql_where=text(f"NOT ({LEFT})"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    token: Mapped[str] = mapped_column(String(32))
    """Random identifier in exports and on the administration page."""
    role: Mapped[str] = mapped_column(String(16), default="reader")
    invitation: Mapped[str | None] = mapped_column(String(64), unique=True)
    """SHA-256 of the invitation token; None: revoked or erased."""
    session_version: Mapped[int] = mapped_column(default=1)
    """Sessions of an older version are refused."""
    state: Mapped[str] = mapped_column(String(16), default="invited")
    language: Mapped[str | None] = mapped_column(String(8))
    sequence: Mapped[int | None]
    consent_version: Mapped[str | None] = mapped_column(String(64))
    consent_language: Mapped[str | None] = mapped_column(String(8))
    consent_sha256: Mapped[str | None] = mapped_column(String(64))
    consented: Mapped[datetime | None]
    questionnaire: Mapped[dict[str, Any] | None]
    comment: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(default=now)
    seen: Mapped[datetime | None]
    finished: Mapped[datetime | None]


class ReaderName(Table):
    """Name and birth date of a reader, if the study asks for them; never exported."""

    __tablename__ = "reader_name"

    reader_id: Mapped[int] = mapped_column(
        ForeignKey("reader.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str]
    birth_date: Mapped[str | None] = mapped_column(String(10))


class Task(Table):
    """One image that a reader is to rate, at its position."""

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("reader_id", "position"),
        UniqueConstraint("token"),
        one_of("kind", KINDS),
        one_of("condition", CONDITIONS),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey("reader.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Place in the sequence from 0, practice included."""
    token: Mapped[str] = mapped_column(String(32))
    """Random identifier in the image's address: another one for every task."""
    companion_token: Mapped[str | None] = mapped_column(String(32), unique=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("image.id", ondelete="RESTRICT"))
    companion_id: Mapped[int | None] = mapped_column(ForeignKey("image.id", ondelete="RESTRICT"))
    kind: Mapped[str] = mapped_column(String(16))
    condition: Mapped[str] = mapped_column(String(16), default="")
    sitting: Mapped[int] = mapped_column(default=1)


class Rating(Table):
    """The answer to one task; a second answer to the same task changes it."""

    __tablename__ = "rating"
    __table_args__ = (
        UniqueConstraint("task_id"),
        CheckConstraint("score BETWEEN 1 AND 5", name="score"),
        CheckConstraint("ms >= 0", name="ms"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    score: Mapped[int]
    walls_not_visible: Mapped[bool] = mapped_column(default=False)
    unnatural_artifacts: Mapped[bool] = mapped_column(default=False)
    possible_pathology: Mapped[bool] = mapped_column(default=False)
    cropped_image: Mapped[bool] = mapped_column(default=False)
    unnatural_destruction: Mapped[bool] = mapped_column(default=False)
    text: Mapped[str] = mapped_column(default="")
    structured: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Structured reading and, in a diagnostic design, `diagnosis`."""
    ms: Mapped[int | None] = mapped_column(Integer)
    display: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Zoom, brightness, viewport and pixel ratio while the image was rated."""
    created: Mapped[datetime] = mapped_column(default=now)
    changed: Mapped[datetime | None]


class Event(Table):
    """What happened, in order; never changed, erased with its reader."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "study_id", "time"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("reader.id", ondelete="CASCADE"))
    time: Mapped[datetime] = mapped_column(default=now)
    name: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Caption(Table):
    """A text that an annotator wrote for one frame of a frames folder."""

    __tablename__ = "caption"
    __table_args__ = (UniqueConstraint("study_id", "file_name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("reader.id", ondelete="SET NULL"))
    file_name: Mapped[str] = mapped_column(String(512))
    text: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)
    changed: Mapped[datetime | None]


class AdminUser(Table):
    """An organiser with a login."""

    __tablename__ = "admin_user"
    __table_args__ = (UniqueConstraint("study_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    password: Mapped[str]
    """scrypt$N$r$p$SALT$HASH, base 64."""
    created: Mapped[datetime] = mapped_column(default=now)


class AdminSession(Table):
    """A login of an organiser, which ends by itself."""

    __tablename__ = "admin_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("admin_user.id", ondelete="CASCADE"))
    token: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the token in the cookie."""
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]


assert all(hasattr(Rating, name) for name in TICK_BOXES)
