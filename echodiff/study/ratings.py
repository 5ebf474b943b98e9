"""The tasks of a reader in pages, and the one transaction that stores the answers of a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from echodiff.study.columns import TICK_BOXES
from echodiff.study.models import Image, Rating, Reader, Task, now
from echodiff.study.readers import ReaderRow, find_reader, last_answer
from echodiff.study.store import OpenStudy, log, read_state


class TaskRow(NamedTuple):
    """One task of a reader, and whether it is rated."""

    id: int
    position: int
    token: str
    companion_token: str | None
    kind: str
    condition: str
    sitting: int
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


_TASKS = (
    select(
        Task.id,
        Task.position,
        Task.token,
        Task.companion_token,
        Task.kind,
        Task.condition,
        Task.sitting,
        Rating.id.is_not(None),
    )
    .join(Rating, Rating.task_id == Task.id, isouter=True)
    .where(Task.reader_id == bindparam("reader"))
    .order_by(Task.position)
)
_STORED = select(Rating).where(Rating.task_id == bindparam("task"))
_INSERT = insert(Rating)
_CHANGE = update(Rating).where(Rating.task_id == bindparam("task"))
_READER = update(Reader).where(Reader.id == bindparam("reader"))
_IMAGE = select(Image.token).join(Task, Task.image_id == Image.id)
_COMPANION = select(Image.token).join(Task, Task.companion_id == Image.id)
_OWNED = (Reader.token == bindparam("reader"), Reader.session_version == bindparam("version"))
_IMAGE_OF_TASK = _IMAGE.join(Reader).where(Task.token == bindparam("token"), *_OWNED)
_COMPANION_OF_TASK = _COMPANION.join(Reader).where(
    Task.companion_token == bindparam("token"), *_OWNED
)


def read_tasks(connection: Connection, reader: int) -> list[TaskRow]:
    """All tasks of a reader, in order."""
    return [TaskRow(*row) for row in connection.execute(_TASKS, {"reader": reader})]


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
    return Page(
        tasks=page,
        following=pages[number + 1] if number + 1 < len(pages) else (),
        num_rated=sum(task.is_rated for task in part),
        num_tasks=len(part),
        is_practice=is_practice,
        open_from=open_from,
    )


def load_page(study: OpenStudy, reader: ReaderRow) -> Page:
    """`current_page` in a transaction of its own."""
    with study.database.read() as connection:
        return current_page(connection, study, reader, read_tasks(connection, reader.id))


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


def store_answers(study: OpenStudy, token: str, answers: dict[str, Answer]) -> Stored:
    """Store the answers of one page, by the tasks' tokens, in one transaction.

    The same answers given twice, by a double click, by Back or in a second tab, are stored once;
    other answers to a task that is rated replace them, and the event log keeps the former.
    When this returns `saved`, the transaction is committed.
    """
    with study.database.begin() as connection:
        reader = find_reader(connection, study, token, lock=True)
        if reader is None or reader.state not in {"practising", "rating", "done"}:
            return Stored("left")
        if (state := read_state(connection, study)) != "open":
            return Stored(state)
        tasks = {task.token: task for task in read_tasks(connection, reader.id)}
        page = current_page(connection, study, reader, list(tasks.values()))
        on_page = {task.token for task in page.tasks}
        for address in answers:
            if address not in tasks or not (tasks[address].is_rated or address in on_page):
                return Stored("ahead")
        if page.open_from is not None and on_page & set(answers):
            return Stored("early")
        for address, answer in answers.items():
            _store(connection, study, reader, tasks[address], answer)
        return Stored("saved", _move_on(connection, study, reader, tasks, set(answers)))


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
        connection.execute(_CHANGE, {"task": task.id, **given, "changed": now()})
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
    values: dict[str, Any] = {"seen": now()}
    state = reader.state
    if not left:
        state = "done"
    elif state == "practising" and not any(task.kind == "practice" for task in left):
        state = "rating"
    if state != reader.state:
        values["state"] = state
        log(connection, study.id, state, reader.id)
        if state == "done":
            values["finished"] = now()
    connection.execute(_READER.values(values), {"reader": reader.id})
    return not left
