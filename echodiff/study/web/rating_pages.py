"""The rating page, its images, and the storing of its answers."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from echodiff.study.forms import Mistakes, read_answers
from echodiff.study.ratings import (
    Page,
    TaskRow,
    find_image,
    load_page,
    read_tasks,
    store_answers,
)
from echodiff.study.readers import ReaderRow
from echodiff.study.store import read_state
from echodiff.study.translation import N_
from echodiff.study.web.site import (
    checked_form,
    go,
    language_of,
    place_of,
    reader_of,
    render,
    site_of,
)

IMAGE_HEADERS = {"cache-control": "private, max-age=600"}
"""The same for all images, and long enough for the next image to be loaded ahead."""
REFUSALS = {
    "paused": N_("The study is paused. Your answer was not saved; please try again later."),
    "closed": N_("The study is closed. Your answer was not saved."),
    "left": N_("Your part in the study has ended. Your answer was not saved."),
    "ahead": N_("This page is out of date. Your answer was not saved; please reload the page."),
    "early": N_("The second sitting is not open yet. Your answer was not saved."),
}


def show_rating(request: Request) -> Response:
    """The first page of images that is not rated; `saved` in it comes from the database."""
    reader, study = reader_of(request), site_of(request).study
    if reader is None or place_of(reader) != "/rate":
        return go("/" if reader is None else place_of(reader))
    with study.database.read() as connection:
        state = read_state(connection, study)
    if state != "open":
        return render(request, "problem.html", 503, problem=state)
    page = load_page(study, reader)
    if page.open_from is not None:
        day = page.open_from.date().isoformat()
        return render(request, "washout.html", reader=reader, day=day)
    return _rating_page(request, reader, page)


def _rating_page(request: Request, reader: ReaderRow, page: Page, **values: Any) -> Response:
    status = values.pop("status", 200)
    first = page.num_rated - sum(task.is_rated for task in page.tasks) + 1
    given: dict[str, Any] = {"values": {}, "error": "", **values}
    return render(
        request, "rating.html", status, reader=reader, page=page, first_number=first, **given
    )


async def take_ratings(request: Request) -> Response:
    """Store a page of answers. 303 or `saved` is sent after the commit, and at no other time."""
    form = await checked_form(request)
    return await run_in_threadpool(_take_ratings, request, form)


def _take_ratings(request: Request, form: dict[str, str]) -> Response:
    reader, study = reader_of(request), site_of(request).study
    wants_json = request.headers.get("accept", "").startswith("application/json")
    if reader is None or reader.role != "reader":
        return _refuse(request, None, form, "left", wants_json)
    given = [token for token in form.get("tasks", "").split(" ") if token][:12]
    with study.database.read() as connection:
        mine = {task.token: task for task in read_tasks(connection, reader.id)}
    tasks = [mine[token] for token in given if token in mine]
    if not tasks or len(tasks) != len(given):
        return _refuse(request, reader, form, "ahead", wants_json)
    try:
        answers = read_answers(form, tasks, study.config)
    except Mistakes as wrong:
        return _show_mistakes(request, reader, form, tasks, wrong, wants_json)
    stored = store_answers(study, reader.token, answers)
    if stored.outcome != "saved":
        return _refuse(request, reader, form, stored.outcome, wants_json)
    place = "/comments" if stored.is_finished else "/rate"
    return JSONResponse({"saved": True, "next": place}) if wants_json else go(place)


def _refuse(
    request: Request, reader: ReaderRow | None, form: dict[str, str], why: str, wants_json: bool
) -> Response:
    message = site_of(request).translate(language_of(request), REFUSALS[why])
    if wants_json:
        return JSONResponse({"saved": False, "error": message}, 409)
    return render(request, "problem.html", 409, problem="refused", message=message, reader=reader)


def _show_mistakes(
    request: Request,
    reader: ReaderRow,
    form: dict[str, str],
    tasks: list[TaskRow],
    wrong: Mistakes,
    wants_json: bool,
) -> Response:
    site, language = site_of(request), language_of(request)
    texts = [site.translate(language, text, **values) for text, values in wrong.fields.values()]
    if wants_json:
        return JSONResponse({"saved": False, "error": " ".join(dict.fromkeys(texts))}, 422)
    page = load_page(site.study, reader)
    if {task.token for task in page.tasks} != {task.token for task in tasks}:
        return go(place_of(reader))
    return _rating_page(
        request, reader, page, values=form, mistakes=wrong.fields, error=texts[0], status=422
    )


def show_image(request: Request) -> Response:
    """The PNG behind a task's random address, for the reader of the task alone."""
    token, version = request.session.get("reader"), request.session.get("version")
    site = site_of(request)
    if not isinstance(token, str) or not isinstance(version, int):
        raise HTTPException(404)
    image = find_image(site.study, token, version, request.path_params["token"])
    if image is None:
        raise HTTPException(404)
    return Response(site.read_image(image), media_type="image/png", headers=IMAGE_HEADERS)


ROUTES = [
    Route("/rate", show_rating),
    Route("/rate", take_ratings, methods=["POST"]),
    Route("/image/{token}.png", show_image),
]
