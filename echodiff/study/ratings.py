"""The tasks of a reader in pages, and the one transaction that stores the answers of a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.orm import aliased

from echodiff.study.columns import TICK_BOXES
from echodiff.study.models import Image, Rating, Reader, Task, now
from echodiff.study.readers import ReaderRow, find_current, last_answer
from echodiff.study.store import OpenStudy, log

if TYPE_CHECKING:
    from sqlalchemy import Table as FromClause


class TaskRow(NamedTuple):
    """One task of a reader, and whether it is rated."""

    id: int
    position: int
    token: str
    companion_token: str | None
    kind: str
    condition: str
    sitting: int
    image: str
    """Token of the image; never sent to the reader."""
    companion: str | None
    is_rated: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a reader gave for one task."""

    score: int
    """1 to 5."""
    ticked: frozenset[str] = frozenset()
    text: str = ""
    structured: dict[str, str] = field(default_factory=dict)
    ms: int | None = None
    display: dict[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """Columns of the table `rating`."""
        return {
            "score": self.score,
            **{name: name in self.ticked for name in TICK_BOXES},
            "text": self.text,
            "structured": self.structured,
            "ms": self.ms,
            "display": self.display,
        }


@dataclass(frozen=True, kw_only=True)
class Page:
    """The tasks to rate now, and where the reader stands."""

    tasks: tuple[TaskRow, ...]
    """Empty: all is rated."""
    following: tuple[TaskRow, ...]
    """Tasks of the page after this one, to be loaded ahead."""
    num_rated: int
    """Images rated so far; of the practice, if this page is practice."""
    num_tasks: int
    """Images of the practice, or of the rated part."""
    is_practice: bool
    open_from: datetime | None = None
    """The second sitting may not begin before this time."""


_Companion = aliased(Image)
_TASKS = (
    select(
        Task.id,
        Task.position,
        Task.token,
        Task.companion_token,
        Task.kind,
        Task.condition,
        Task.sitting,
        Image.token,
        _Companion.token,
        Rating.id.is_not(None),
    )
    .join(Image, Image.id == Task.image_id)
    .join(_Companion, _Companion.id == Task.companion_id, isouter=True)
    .join(Rating, Rating.task_id == Task.id, isouter=True)
    .where(Task.reader_id == bindparam("reader"))
    .order_by(Task.position)
)
_STORED = select(Rating).where(Rating.task_id == bindparam("task"))
# Of the tables and not of the classes: an insert of the ORM is compiled anew each time.
_INSERT = insert(cast("FromClause", Rating.__table__))
_CHANGE = update(Rating)
_SEEN = (
    update(cast("FromClause", Reader.__table__))
    .where(Reader.id == bindparam("reader"))
    .values(seen=bindparam("moment"))
)
_IMAGE = select(Image.token).join(Task, Task.image_id == Image.id)
_COMPANION = select(Image.token).join(Task, Task.companion_id == Image.id)
_OWNED = (Reader.token == bindparam("reader"), Reader.session_version == bindparam("version"))
_IMAGE_OF_TASK = _IMAGE.join(Reader).where(Task.token == bindparam("token"), *_OWNED)
_COMPANION_OF_TASK = _COMPANION.join(Reader).where(
    Task.companion_token == bindparam("token"), *_OWNED
)


def read_tasks(connection: Connection, reader: int) -> list[TaskRow]:
    """All tasks of a reader, in order."""
    return [TaskRow._make(row) for row in connection.execute(_TASKS, {"reader": reader})]


def split_pages(tasks: Sequence[TaskRow], size: int) -> list[tuple[TaskRow, ...]]:
    """Pages of at most `size` tasks; practice and sittings are never on one page."""
    pages: list[list[TaskRow]] = []
    for task in tasks:
        part = (task.kind == "practice", task.sitting)
        last = pages[-1] if pages else []
        if last and len(last) < size and (last[0].kind == "practice", last[0].sitting) == part:
            last.append(task)
        else:
            pages.append([task])
    return [tuple(page) for page in pages]


def current_page(
    connection: Connection, study: OpenStudy, reader: ReaderRow, tasks: Sequence[TaskRow]
) -> Page:
    """The first page that is not wholly rated, wherever and on whatever computer it was left."""
    pages = split_pages(tasks, study.config.images_per_page)
    number = next(
        (number for number, page in enumerate(pages) if not all(task.is_rated for task in page)),
        len(pages),
    )
    page = pages[number] if number < len(pages) else ()
    is_practice = bool(page) and page[0].kind == "practice"
    part = [task for task in tasks if (task.kind == "practice") == is_practice]
    open_from = None
    if page and page[0].sitting > 1 and not any(t.is_rated for t in tasks if t.sitting > 1):
        ended = last_answer(connection, reader.id, page[0].sitting - 1)
        earliest = (ended or now()) + timedelta(days=study.config.washout_days)
        open_from = earliest if earliest > now() else None
    following = pages[number + 1] if number + 1 < len(pages) else ()
    if following and following[0].sitting != page[0].sitting:
        following = ()  # not to be seen before the washout
    return Page(
        tasks=page,
        following=following,
        num_rated=sum(task.is_rated for task in part),
        num_tasks=len(part),
        is_practice=is_practice,
        open_from=open_from,
    )


def load_page(study: OpenStudy, token: str, version: int) -> tuple[ReaderRow | None, Page | None]:
    """The reader of a session and the page to rate, in one transaction; None if there is none."""
    with study.database.read() as connection:
        reader = find_current(connection, study, token, version)
        if reader is None or reader.state not in {"practising", "rating"}:
            return reader, None
        tasks = read_tasks(connection, reader.id)
        return reader, current_page(connection, study, reader, tasks)


def find_image(study: OpenStudy, reader: str, version: int, token: str) -> str | None:
    """Image token behind an address that this reader was given; None for any other address."""
    values = {"reader": reader, "version": version, "token": token}
    with study.database.read() as connection:
        for statement in (_IMAGE_OF_TASK, _COMPANION_OF_TASK):
            if (found := connection.scalars(statement, values).first()) is not None:
                return found
    return None


class Stored(NamedTuple):
    """What became of the answers of a page."""

    outcome: str
    """saved, or refused: paused, closed, left (the reader is not rating), ahead (the page is not
    the reader's next), early (the washout is not over)."""
    is_finished: bool = False


def store_answers(study: OpenStudy, token: str, version: int, answers: dict[str, Answer]) -> Stored:
    """Store the answers of one page, by the tasks' tokens, in one transaction.

    The same answers given twice, by a double click, by Back or in a second tab, are stored once;
    other answers to a task that is rated replace them, and the event log keeps the former.
    When this returns `saved`, the transaction is committed.
    """

    def store(connection: Connection) -> Stored:
        reader = find_current(connection, study, token, version, lock=True)
        if reader is None or reader.state not in {"practising", "rating", "done"}:
            return Stored("left")
        if reader.study_state != "open":
            return Stored(reader.study_state)
        tasks = {task.token: task for task in read_tasks(connection, reader.id)}
        page = current_page(connection, study, reader, list(tasks.values()))
        on_page = {task.token for task in page.tasks}
        if not answers:
            return Stored("ahead")
        for address in answers:
            if address not in tasks or not (tasks[address].is_rated or address in on_page):
                return Stored("ahead")
        if page.open_from is not None and on_page & set(answers):
            return Stored("early")
        for address, answer in answers.items():
            _store(connection, study, reader, tasks[address], answer)
        return Stored("saved", _move_on(connection, study, reader, tasks, set(answers)))

    return study.database.write(store)


def _store(
    connection: Connection, study: OpenStudy, reader: ReaderRow, task: TaskRow, answer: Answer
) -> None:
    row = answer.to_row()
    if not task.is_rated:
        connection.execute(_INSERT, {"task_id": task.id, **row})
        return
    before = connection.execute(_STORED, {"task": task.id}).one()._mapping
    # The time and the display belong to the first answer.
    given = {name: value for name, value in row.items() if name not in {"ms", "display"}}
    former = {name: before[name] for name in given if before[name] != given[name]}
    if former:
        change = _CHANGE.where(Rating.task_id == task.id)
        connection.execute(change.values(**given, changed=now()))
        log(connection, study.id, "changed", reader.id, position=task.position, former=former)


def _move_on(
    connection: Connection,
    study: OpenStudy,
    reader: ReaderRow,
    tasks: dict[str, TaskRow],
    answered: set[str],
) -> bool:
    """Bring the reader's state up to date; True if nothing is left to rate."""
    left = [t for t in tasks.values() if not t.is_rated and t.token not in answered]
    connection.execute(_SEEN, {"reader": reader.id, "moment": now()})
    state = reader.state
    if not left:
        state = "done"
    elif state == "practising" and not any(task.kind == "practice" for task in left):
        state = "rating"
    if state != reader.state:
        finished = now() if state == "done" else None
        change = update(Reader).where(Reader.id == reader.id)
        connection.execute(change.values(state=state, finished=finished))
        log(connection, study.id, state, reader.id)
    return not left
