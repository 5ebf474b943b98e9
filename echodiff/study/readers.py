"""The way of a reader through the study: invitation, consent, questionnaire, end, withdrawal."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from echodiff.study.models import (
    LEFT_STATES,
    Caption,
    Event,
    Rating,
    Reader,
    ReaderName,
    Study,
    Task,
    now,
)
from echodiff.study.plan import PlannedTask
from echodiff.study.secrecy import hash_token, new_identifier, new_token
from echodiff.study.store import OpenStudy, log
from echodiff.study.translation import N_, Refusal


class ReaderRow(NamedTuple):
    """What every request needs to know of a reader."""

    id: int
    token: str
    role: str
    state: str
    language: str | None
    session_version: int
    sequence: int | None
    consent_version: str | None
    has_comment: bool
    study_state: str
    """open, paused or closed."""


_COLUMNS = (
    Reader.id, Reader.token, Reader.role, Reader.state, Reader.language, Reader.session_version,
    Reader.sequence, Reader.consent_version, Reader.comment.is_not(None),
    Study.state,
)  # fmt: skip
_READERS = (
    select(*_COLUMNS)
    .join(Study, Study.id == Reader.study_id)
    .where(Reader.study_id == bindparam("study"))
)
_BY_TOKEN = _READERS.where(Reader.token == bindparam("token"))
_LOCKED_BY_TOKEN = _BY_TOKEN.with_for_update(of=Reader)
_BY_INVITATION = _READERS.where(Reader.invitation == bindparam("invitation"))


def find_reader(
    connection: Connection, study: OpenStudy, token: str, *, lock: bool = False
) -> ReaderRow | None:
    """The reader with this identifier; `lock` holds the row until the end of the transaction."""
    statement = _LOCKED_BY_TOKEN if lock else _BY_TOKEN
    row = connection.execute(statement, {"study": study.id, "token": token}).first()
    return None if row is None else ReaderRow._make(row)


def find_current(
    connection: Connection, study: OpenStudy, token: str, version: int, *, lock: bool = False
) -> ReaderRow | None:
    """The reader of a session; None if the session was ended or the reader left."""
    reader = find_reader(connection, study, token, lock=lock)
    if reader is None or reader.session_version != version or reader.state in LEFT_STATES:
        return None
    return reader


def find_invited(connection: Connection, study: OpenStudy, invitation: str) -> ReaderRow | None:
    """The reader that an invitation token belongs to; looking at it changes nothing."""
    values = {"study": study.id, "invitation": hash_token(invitation)}
    row = connection.execute(_BY_INVITATION, values).first()
    return None if row is None else ReaderRow._make(row)


def invite(study: OpenStudy, count: int = 1, role: str = "reader") -> list[tuple[str, str]]:
    """Create readers and return (identifier, invitation token) of each; only the hash is stored.

    Refusal if the plan has fewer sequences left than readers are invited.
    """
    invited = [(new_identifier(), new_token()) for _ in range(count)]
    with study.database.begin() as connection:
        connection.execute(select(Study.id).where(Study.id == study.id).with_for_update())
        if role == "reader":
            _check_room(connection, study, count)
        for identifier, token in invited:
            values = {"study_id": study.id, "token": identifier, "role": role}
            values["invitation"] = hash_token(token)
            number = connection.execute(insert(Reader).values(values).returning(Reader.id)).scalar()
            log(connection, study.id, "invited", number, role=role)
    return invited


def _check_room(connection: Connection, study: OpenStudy, count: int) -> None:
    present = select(func.count()).where(
        Reader.study_id == study.id, Reader.role == "reader", Reader.state.not_in(LEFT_STATES)
    )
    taken = connection.scalars(present).one()
    if taken + count > len(study.sequences):
        raise Refusal(
            N_(
                "The plan has {num_sequences} sequences and {num_readers} readers; {count} more do "
                "not fit. Withdraw those who will not come, or plan more sequences."
            ),
            num_sequences=len(study.sequences),
            num_readers=taken,
            count=count,
        )


def renew_invitation(study: OpenStudy, token: str) -> str:
    """Return a new invitation token of a reader; the old link and its sessions end."""
    invitation = new_token()
    with study.database.begin() as connection:
        _end_sessions(connection, study, token, hash_token(invitation), "renewed")
    return invitation


def revoke_invitation(study: OpenStudy, token: str) -> None:
    """End the invitation link and the sessions of a reader; the ratings stay."""
    with study.database.begin() as connection:
        _end_sessions(connection, study, token, None, "revoked")


def _end_sessions(
    connection: Connection, study: OpenStudy, token: str, invitation: str | None, name: str
) -> None:
    reader = find_reader(connection, study, token, lock=True)
    if reader is None or reader.state in LEFT_STATES:
        raise Refusal(N_("Reader {reader} is not in the study."), reader=token)
    change = update(Reader).where(Reader.id == reader.id)
    version = Reader.session_version + 1
    connection.execute(change.values(invitation=invitation, session_version=version))
    log(connection, study.id, name, reader.id)


def set_language(study: OpenStudy, reader: ReaderRow, language: str) -> None:
    """Store the language that a reader chose."""
    with study.database.begin() as connection:
        change = update(Reader).where(Reader.id == reader.id)
        connection.execute(change.values(language=language, seen=now()))
        log(connection, study.id, "language", reader.id, language=language)


def accept_consent(study: OpenStudy, token: str, text: str, language: str) -> None:
    """Store that a reader accepted this text: its version, language and hash, and the time."""
    with study.database.begin() as connection:
        reader = find_reader(connection, study, token, lock=True)
        if reader is None or reader.state != "invited":
            return
        digest = hashlib.sha256(text.encode()).hexdigest()
        values: dict[str, Any] = {
            "state": "consented",
            "consent_version": study.config.consent_version,
            "consent_language": language,
            "consent_sha256": digest,
            "consented": now(),
        }
        connection.execute(update(Reader).where(Reader.id == reader.id).values(values))
        log(connection, study.id, "consented", reader.id, version=study.config.consent_version)


def store_questionnaire(
    study: OpenStudy,
    token: str,
    answers: dict[str, Any],
    name: str | None = None,
    birth_date: str | None = None,
) -> None:
    """Store the answers and give the reader the first free sequence.

    A sequence is free if nobody has it who is still in the study, so that the design is balanced
    over those who finish. Refusal if none is free.
    """
    with study.database.begin() as connection:
        connection.execute(select(Study.id).where(Study.id == study.id).with_for_update())
        reader = find_reader(connection, study, token, lock=True)
        if reader is None or reader.state != "consented":
            return
        number = _free_sequence(connection, study)
        tasks = study.sequences[number]
        state = "practising" if tasks[0].kind == "practice" else "rating"
        values = {"questionnaire": answers, "sequence": number, "state": state}
        connection.execute(update(Reader).where(Reader.id == reader.id).values(values))
        if name is not None or birth_date is not None:
            person = {"reader_id": reader.id, "name": name or "", "birth_date": birth_date}
            connection.execute(insert(ReaderName).values(person))
        connection.execute(insert(Task), _task_rows(study, reader.id, tasks))
        log(connection, study.id, "sequence", reader.id, sequence=number)


def _free_sequence(connection: Connection, study: OpenStudy) -> int:
    taken = select(Reader.sequence).where(
        Reader.study_id == study.id,
        Reader.sequence.is_not(None),
        Reader.state.not_in(LEFT_STATES),
    )
    free = set(range(len(study.sequences))) - set(connection.scalars(taken))
    if not free:
        raise Refusal(
            N_("All places of the study are taken. Please tell the person who invited you.")
        )
    return min(free)


def _task_rows(study: OpenStudy, reader: int, tasks: Sequence[PlannedTask]) -> list[dict[str, Any]]:
    return [
        {
            "reader_id": reader,
            "position": position,
            "token": new_identifier(),
            "companion_token": new_identifier() if task.companion_token else None,
            "image_id": study.image_ids[task.image_token],
            "companion_id": study.image_ids.get(task.companion_token or ""),
            "kind": task.kind,
            "condition": task.condition,
            "sitting": task.sitting,
        }
        for position, task in enumerate(tasks)
    ]


def store_comment(study: OpenStudy, token: str, comment: str) -> None:
    """Store the comment after the last image; empty: none."""
    with study.database.begin() as connection:
        reader = find_reader(connection, study, token, lock=True)
        if reader is not None and reader.state == "done":
            change = update(Reader).where(Reader.id == reader.id)
            connection.execute(change.values(comment=comment, seen=now()))
            log(connection, study.id, "commented", reader.id)


def withdraw(study: OpenStudy, token: str) -> None:
    """End a reader's part and free the sequence; the ratings stay, marked as withdrawn."""
    _leave(study, token, erase=False)


def erase(study: OpenStudy, token: str) -> None:
    """Delete all that a reader gave: name, answers, ratings, texts and events.

    What stays is the random identifier with the state `erased`, so that counts add up, the time of
    the erasure in the event log, and captions, which belong to the frames, without their author.
    """
    _leave(study, token, erase=True)
    study.database.empty_log()


def _leave(study: OpenStudy, token: str, *, erase: bool) -> None:
    with study.database.begin() as connection:
        reader = find_reader(connection, study, token, lock=True)
        if reader is None or reader.state == "erased":
            raise Refusal(N_("Reader {reader} is not in the study."), reader=token)
        mine = Reader.id == reader.id
        left: dict[str, Any] = {
            "state": "erased" if erase else "withdrawn",
            "invitation": None,
            "session_version": Reader.session_version + 1,
            "finished": now(),
        }
        if not erase:
            connection.execute(update(Reader).where(mine).values(left))
            log(connection, study.id, "withdrawn", reader.id)
            return
        for table in (ReaderName, Task, Event):  # ratings go with their tasks
            connection.execute(delete(table).where(table.reader_id == reader.id))
        connection.execute(
            update(Caption).where(Caption.reader_id == reader.id).values(reader_id=None)
        )
        given = (
            "language", "sequence", "consent_version", "consent_language", "consent_sha256",
            "consented", "questionnaire", "comment", "seen",
        )  # fmt: skip
        connection.execute(update(Reader).where(mine).values({**dict.fromkeys(given), **left}))
        log(connection, study.id, "erased", reader.id)


def last_answer(connection: Connection, reader: int, sitting: int) -> datetime | None:
    """Time of the last rating of a sitting; the washout counts from it."""
    found = (
        select(func.max(Rating.created))
        .join(Task, Task.id == Rating.task_id)
        .where(Task.reader_id == reader, Task.sitting == sitting)
    )
    return connection.scalars(found).one()
