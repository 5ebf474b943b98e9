"""The caption page: an annotator sees one frame and writes one text."""

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.study.captions import (
    encode_frame,
    first_without_caption,
    save_caption,
)
from echodiff.study.forms import Mistakes, read_caption
from echodiff.study.readers import ReaderRow
from echodiff.study.web.site import checked_form, go, reader_of, render, site_of


def _open(request: Request) -> tuple[ReaderRow, list[Frame]]:
    """The annotator and the frames; 404 for anybody else."""
    reader, folder = reader_of(request), site_of(request).frames
    if reader is None or reader.role != "annotator" or folder is None:
        raise HTTPException(404)
    return reader, load_frames(folder)


def _number(request: Request, frames: list[Frame]) -> int:
    number: int = request.path_params["number"]
    if not 1 <= number <= len(frames):
        raise HTTPException(404)
    return number


def show_next(request: Request) -> Response:
    """Go to the first frame without a text."""
    _, frames = _open(request)
    return go(f"/captions/{first_without_caption(frames) + 1}")


def show_caption(request: Request) -> Response:
    """One frame and its text."""
    reader, frames = _open(request)
    number = _number(request, frames)
    return _page(request, reader, frames, number, frames[number - 1].text)


def _page(
    request: Request, reader: ReaderRow, frames: list[Frame], number: int, text: str, **more: object
) -> Response:
    num_written = sum(bool(frame.text) for frame in frames)
    status = 422 if more else 200
    given = {"mistakes": {}, **more}
    return render(
        request, "caption.html", status, reader=reader, number=number, num_frames=len(frames),
        num_written=num_written, text=text,
        is_saved=request.query_params.get("saved") == str(number - 1) and number > 1, **given,
    )  # fmt: skip


async def take_caption(request: Request) -> Response:
    """Store the text, then go to the next frame."""
    form = await checked_form(request)
    return await run_in_threadpool(_take_caption, request, form)


def _take_caption(request: Request, form: dict[str, str]) -> Response:
    reader, frames = _open(request)
    number = _number(request, frames)
    site = site_of(request)
    assert site.frames is not None
    try:
        text = read_caption(form)
    except Mistakes as wrong:
        return _page(
            request, reader, frames, number, form.get("caption", ""), mistakes=wrong.fields
        )
    try:
        is_saved = save_caption(site.study, site.frames, reader, frames[number - 1].file_name, text)
    except InputError as error:  # another command writes to the folder
        raise HTTPException(503) from error
    if not is_saved:
        raise HTTPException(404)
    return go(f"/captions/{number % len(frames) + 1}?saved={number}")


def show_frame(request: Request) -> Response:
    """The frame as a PNG."""
    _, frames = _open(request)
    folder = site_of(request).frames
    assert folder is not None
    data = encode_frame(folder, frames[_number(request, frames) - 1])
    return Response(data, media_type="image/png")


ROUTES = [
    Route("/captions", show_next),
    Route("/captions/{number:int}", show_caption),
    Route("/captions/{number:int}", take_caption, methods=["POST"]),
    Route("/captions/{number:int}.png", show_frame),
]
