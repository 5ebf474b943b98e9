"""The rating page, its images, and the storing of its answers."""

from datetime import timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from echodiff.study.forms import Mistakes, read_answers
from echodiff.study.plan import MAX_PAGE
from echodiff.study.ratings import (
    Page,
    find_image,
    load_page,
    store_answers,
)
from echodiff.study.readers import ReaderRow
from echodiff.study.translation import N_
from echodiff.study.web.site import (
    checked_form,
    go,
    language_of,
    place_of,
    render,
    session_of,
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
    session, study = session_of(request), site_of(request).study
    reader, page = (None, None) if session is None else load_page(study, *session)
    if reader is None or page is None:
        return go("/" if reader is None else place_of(reader))
    if reader.study_state != "open":
        return render(request, "problem.html", 503, problem=reader.study_state)
    if page.open_from is not None:
        # With the time: the day alone is another one where the reader is, and begins too early.
        moment = page.open_from + timedelta(minutes=1)
        return render(request, "washout.html", reader=reader, day=f"{moment:%Y-%m-%d %H:%M} UTC")
    return _rating_page(request, reader, page)


def _rating_page(request: Request, reader: ReaderRow, page: Page, **values: Any) -> Response:
    status = values.pop("status", 200)
    first = page.num_rated - sum(task.is_rated for task in page.tasks) + 1
    site_of(request).remember(reader.token, (*page.tasks, *page.following))
    given: dict[str, Any] = {"values": {}, "error": "", **values}
    return render(
        request, "rating.html", status, reader=reader, page=page, first_number=first, **given
    )


async def take_ratings(request: Request) -> Response:
    """Store a page of answers. 303 or `saved` is sent after the commit, and at no other time."""
    form = await checked_form(request)
    return await run_in_threadpool(_take_ratings, request, form)


def _take_ratings(request: Request, form: dict[str, str]) -> Response:
    session, study = session_of(request), site_of(request).study
    wants_json = request.headers.get("accept", "").startswith("application/json")
    if session is None:
        return _refuse(request, "left", wants_json)
    tasks = [token for token in form.get("tasks", "").split(" ") if token][:MAX_PAGE]
    try:
        answers = read_answers(form, tasks, study.config)
    except Mistakes as wrong:
        return _show_mistakes(request, session, form, wrong, wants_json)
    stored = store_answers(study, *session, answers)
    if stored.outcome != "saved":
        return _refuse(request, stored.outcome, wants_json)
    place = "/comments" if stored.is_finished else "/rate"
    return JSONResponse({"saved": True, "next": place}) if wants_json else go(place)


def _refuse(request: Request, why: str, wants_json: bool) -> Response:
    message = site_of(request).translate(language_of(request), REFUSALS[why])
    if wants_json:
        return JSONResponse({"saved": False, "error": message}, 409)
    return render(request, "problem.html", 409, problem="refused", message=message)


def _show_mistakes(
    request: Request,
    session: tuple[str, int],
    form: dict[str, str],
    wrong: Mistakes,
    wants_json: bool,
) -> Response:
    site, language = site_of(request), language_of(request)
    texts = [site.translate(language, text, **values) for text, values in wrong.fields.values()]
    if wants_json:
        return JSONResponse({"saved": False, "error": " ".join(dict.fromkeys(texts))}, 422)
    reader, page = load_page(site.study, *session)
    if reader is None or page is None or page.open_from is not None:
        return go("/")
    return _rating_page(
        request, reader, page, values=form, mistakes=wrong.fields, error=texts[0], status=422
    )


async def show_image(request: Request) -> Response:
    """The PNG behind a task's random address, for the reader of the task alone."""
    session, site = session_of(request), site_of(request)
    if session is None:
        raise HTTPException(404)
    token = request.path_params["token"]
    image = site.remembered(session[0], token)
    if image is None:
        image = await run_in_threadpool(find_image, site.study, *session, token)
    if image is None:
        raise HTTPException(404)
    return Response(site.read_image(image), media_type="image/png", headers=IMAGE_HEADERS)


ROUTES = [
    Route("/rate", show_rating),
    Route("/rate", take_ratings, methods=["POST"]),
    Route("/image/{token}.png", show_image),
]
