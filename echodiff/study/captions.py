"""Captions that annotators write for the frames of a folder: one frame, one text.

A text goes to `metadata.jsonl` of the frames folder first, which is replaced as a whole, and then
to the database with its author; all other rows and columns stay as they are.
"""

import io
from dataclasses import replace
from pathlib import Path

from PIL import Image as PillowImage
from sqlalchemy import insert, select, update

from echodiff.files import write_text_atomic
from echodiff.folders import FolderLock
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import Frame, read_rows, to_line
from echodiff.images import read_image_u8
from echodiff.study.models import Caption, now
from echodiff.study.readers import ReaderRow
from echodiff.study.store import OpenStudy, log


def first_without_caption(frames: list[Frame]) -> int:
    """Number of the first frame with an empty text, from 0; 0 if all have one."""
    return next((number for number, frame in enumerate(frames) if not frame.text), 0)


def encode_frame(folder: Path, frame: Frame) -> bytes:
    """The frame as an 8-bit PNG without its name or metadata."""
    buffer = io.BytesIO()
    PillowImage.fromarray(read_image_u8(folder / frame.file_name)).save(buffer, "PNG")
    return buffer.getvalue()


def save_caption(
    study: OpenStudy, folder: Path, reader: ReaderRow, file_name: str, text: str
) -> bool:
    """Store the text of one frame in the folder and the database; False if it has no such frame.

    The event log keeps the text that it replaces, as two annotators may write at the same time.
    """
    with FolderLock(folder):
        rows = [frame for _, frame in read_rows(folder / METADATA)]
        former = next((row.text for row in rows if row.file_name == file_name), None)
        if former is None:
            return False
        changed = [replace(row, text=text) if row.file_name == file_name else row for row in rows]
        write_text_atomic(folder / METADATA, "".join(to_line(row) + "\n" for row in changed))
        mine = (Caption.study_id == study.id, Caption.file_name == file_name)
        with study.database.begin() as connection:
            values = {"text": text, "reader_id": reader.id}
            if connection.execute(select(Caption.id).where(*mine)).first() is None:
                values |= {"study_id": study.id, "file_name": file_name}
                connection.execute(insert(Caption).values(values))
            else:
                change = update(Caption).where(*mine)
                connection.execute(change.values(**values, changed=now()))
            log(connection, study.id, "caption", reader.id, file_name=file_name, former=former)
    return True
