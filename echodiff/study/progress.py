"""What the organiser may see while the study runs: who stands where, and nothing of the sources."""

from typing import NamedTuple

from sqlalchemy import Integer, case, cast, func, select

from echodiff.study.models import Rating, Reader, Task
from echodiff.study.store import OpenStudy


class Progress(NamedTuple):
    """One reader on the administration page."""

    token: str
    role: str
    state: str
    language: str
    sequence: int | None
    num_rated: int
    num_tasks: int
    mean_seconds: float | None
    """Mean time per image in seconds; None before the first."""
    last_seen: str
    is_linked: bool
    """Whether the invitation link works."""


def read_progress(study: OpenStudy) -> list[Progress]:
    """All readers and annotators, in the order of their invitation."""
    rated = case((Rating.id.is_not(None), 1), else_=0)
    is_main = Task.kind != "practice"
    counts = (
        select(
            Task.reader_id,
            func.sum(case((is_main, rated), else_=0)).label("rated"),
            func.sum(case((is_main, 1), else_=0)).label("tasks"),
            func.avg(case((is_main, cast(Rating.ms, Integer)))).label("ms"),
        )
        .join(Rating, Rating.task_id == Task.id, isouter=True)
        .group_by(Task.reader_id)
        .subquery()
    )
    found = (
        select(Reader, counts.c.rated, counts.c.tasks, counts.c.ms)
        .join(counts, counts.c.reader_id == Reader.id, isouter=True)
        .where(Reader.study_id == study.id)
        .order_by(Reader.id)
    )
    with study.database.read() as connection:
        rows = connection.execute(found).all()
    return [
        Progress(
            token=row.token,
            role=row.role,
            state=row.state,
            language=row.language or "",
            sequence=row.sequence,
            num_rated=int(row.rated or 0),
            num_tasks=int(row.tasks or 0),
            mean_seconds=None if row.ms is None else float(row.ms) / 1000,
            last_seen="" if row.seen is None else row.seen.strftime("%Y-%m-%d %H:%M"),
            is_linked=row.invitation is not None,
        )
        for row in rows
    ]
