"""Pages of a reader before and after the rating: invitation, consent, questionnaire, thanks."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echodiff.study import readers
from echodiff.study.forms import Mistakes, read_comment, read_questionnaire
from echodiff.study.readers import ReaderRow, find_invited
from echodiff.study.translation import Refusal, preferred_language
from echodiff.study.web.site import (
    checked_form,
    go,
    language_of,
    place_of,
    reader_of,
    render,
    site_of,
    start_session,
)

Step = Callable[[Request, ReaderRow, dict[str, str]], Response]


def home(request: Request) -> Response:
    """Send a reader on; tell anybody else that a link is needed."""
    reader = reader_of(request)
    return render(request, "welcome.html") if reader is None else go(place_of(reader))


def _invited(request: Request) -> ReaderRow | None:
    study = site_of(request).study
    with study.database.read() as connection:
        return find_invited(connection, study, request.path_params["token"])


def show_invitation(request: Request) -> Response:
    """The languages to choose from. Looking changes nothing: previews of the link are harmless."""
    reader = _invited(request)
    if reader is None:
        return render(request, "problem.html", 404, problem="invitation")
    offered = site_of(request).study.config.languages
    accepted = request.headers.get("accept-language", "")
    chosen = reader.language or preferred_language(accepted, offered)
    return render(request, "invitation.html", token=request.path_params["token"], chosen=chosen)


async def accept_invitation(request: Request) -> Response:
    """Start the reader's session in the chosen language; the link stays valid, to resume by."""
    form = await checked_form(request)
    return await run_in_threadpool(_accept_invitation, request, form)


def _accept_invitation(request: Request, form: dict[str, str]) -> Response:
    reader, site = _invited(request), site_of(request)
    if reader is None:
        return render(request, "problem.html", 404, problem="invitation")
    language = form.get("language", "")
    if language not in site.study.config.languages:
        return go(request.url.path)
    if reader.language != language:
        readers.set_language(site.study, reader, language)
    start_session(request, reader, language)
    return go(place_of(reader))


async def change_language(request: Request) -> Response:
    """Another language at any time; the page stays the same."""
    form = await checked_form(request)
    language = form.get("language", "")
    if language in site_of(request).study.config.languages:
        request.session["language"] = language
        await run_in_threadpool(_store_language, request, language)
    return go("/")


def _store_language(request: Request, language: str) -> None:
    if (reader := reader_of(request)) is not None and reader.language != language:
        readers.set_language(site_of(request).study, reader, language)


def _show(place: str, template: str) -> Callable[[Request], Response]:
    """A page that is shown to readers who stand there; all others go where they stand."""

    def show(request: Request) -> Response:
        reader = reader_of(request)
        if reader is None or place_of(reader) != place:
            return go("/" if reader is None else place_of(reader))
        if (closed := _unless_open(request, reader)) is not None and place != "/thanks":
            return closed
        paragraphs = site_of(request).consents[language_of(request)]
        return render(request, template, reader=reader, consent=paragraphs, values={})

    return show


def _take(place: str, step: Step) -> Callable[[Request], object]:
    """A form that is taken from readers who stand there."""

    def take(request: Request, form: dict[str, str]) -> Response:
        reader = reader_of(request)
        if reader is None or place_of(reader) != place:
            return go("/" if reader is None else place_of(reader))
        if (closed := _unless_open(request, reader)) is not None and place != "/comments":
            return closed
        return step(request, reader, form)

    async def endpoint(request: Request) -> Response:
        form = await checked_form(request)
        return await run_in_threadpool(take, request, form)

    return endpoint


def _unless_open(request: Request, reader: ReaderRow) -> Response | None:
    if reader.study_state == "open":
        return None
    return render(request, "problem.html", 503, problem=reader.study_state)


def take_consent(request: Request, reader: ReaderRow, form: dict[str, str]) -> Response:
    """Store the consent to the text that was shown; without the tick, ask again."""
    study, language = site_of(request).study, language_of(request)
    paragraphs = site_of(request).consents[language]
    if form.get("agree") != "yes":
        return render(
            request,
            "consent.html",
            422,
            reader=reader,
            consent=paragraphs,
            mistakes={"agree": True},
        )
    readers.accept_consent(study, reader.token, "\n\n".join(paragraphs), language)
    return go("/")


def take_questionnaire(request: Request, reader: ReaderRow, form: dict[str, str]) -> Response:
    """Store the answers, or show the form again with what is missing."""
    study = site_of(request).study
    try:
        answers, name, birth_date = read_questionnaire(form, study.config)
    except Mistakes as wrong:
        return render(
            request, "questionnaire.html", 422, reader=reader, values=form, mistakes=wrong.fields
        )
    try:
        readers.store_questionnaire(study, reader.token, answers, name, birth_date)
    except Refusal as full:
        message = site_of(request).translate(language_of(request), full.message)
        return render(request, "problem.html", 409, problem="refused", message=message)
    return go("/")


def take_comment(request: Request, reader: ReaderRow, form: dict[str, str]) -> Response:
    """Store the comment; an empty one too, so that the thanks come next."""
    try:
        comment = read_comment(form)
    except Mistakes as wrong:
        return render(
            request, "comments.html", 422, reader=reader, values=form, mistakes=wrong.fields
        )
    readers.store_comment(site_of(request).study, reader.token, comment)
    return go("/")


def show_withdrawal(request: Request) -> Response:
    """Ask whether the reader means it, and what becomes of the ratings."""
    reader = reader_of(request)
    return go("/") if reader is None else render(request, "withdraw.html", reader=reader)


async def take_withdrawal(request: Request) -> Response:
    """Withdraw the reader, or erase all that the reader gave."""
    form = await checked_form(request)
    return await run_in_threadpool(_take_withdrawal, request, form)


def _take_withdrawal(request: Request, form: dict[str, str]) -> Response:
    reader, study = reader_of(request), site_of(request).study
    if reader is None:
        return go("/")
    if form.get("what") not in {"withdraw", "erase"}:
        return render(request, "withdraw.html", 422, reader=reader, mistakes={"what": True})
    leave = readers.erase if form["what"] == "erase" else readers.withdraw
    leave(study, reader.token)
    language = language_of(request)
    request.session.clear()
    request.session["language"] = language
    return render(request, "problem.html", problem="left")


ROUTES = [
    Route("/", home),
    Route("/invitation/{token}", show_invitation),
    Route("/invitation/{token}", accept_invitation, methods=["POST"]),
    Route("/language", change_language, methods=["POST"]),
    Route("/consent", _show("/consent", "consent.html")),
    Route("/consent", _take("/consent", take_consent), methods=["POST"]),
    Route("/questionnaire", _show("/questionnaire", "questionnaire.html")),
    Route("/questionnaire", _take("/questionnaire", take_questionnaire), methods=["POST"]),
    Route("/comments", _show("/comments", "comments.html")),
    Route("/comments", _take("/comments", take_comment), methods=["POST"]),
    Route("/thanks", _show("/thanks", "thanks.html")),
    Route("/withdraw", show_withdrawal),
    Route("/withdraw", take_withdrawal, methods=["POST"]),
]
