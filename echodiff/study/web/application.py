"""Build the web application of an open study."""

import logging
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from echodiff.study.store import OpenStudy
from echodiff.study.translation import N_
from echodiff.study.web import admin_pages, caption_pages, rating_pages, reader_pages
from echodiff.study.web.middleware import BodyLimit, RateLimit, SecurityHeaders
from echodiff.study.web.site import ASSETS, Site, language_of, render, site_of

logger = logging.getLogger(__name__)

SESSION_DAYS = 14
UNAVAILABLE = N_(
    "The server cannot reach its database. Nothing was saved just now; please try again in a "
    "minute. Everything that was shown as saved is kept."
)
TOO_FAST = N_("Not saved: too many requests. Please wait ten seconds, then press Save again.")
NOT_SAVED = N_("Not saved. Please reload the page, or open your invitation link again.")


def build_application(
    study: OpenStudy, *, frames: Path | None = None, is_https: bool = False, rate: float = 50
) -> ASGIApp:
    """The ASGI application.

    frames: frames folder of the caption page. is_https: the site is reached by HTTPS, so cookies
    are sent over nothing else. rate: requests per second of one session, in the long run.
    """
    routes = [
        *reader_pages.ROUTES, *rating_pages.ROUTES, *admin_pages.ROUTES, *caption_pages.ROUTES,
        Route("/static/{name}", send_asset),
        Route("/health", send_health),
    ]  # fmt: skip
    middleware = [
        Middleware(
            SessionMiddleware,
            secret_key=study.secret,
            session_cookie="study",
            max_age=SESSION_DAYS * 24 * 3600,
            https_only=is_https,
        ),
        Middleware(RateLimit, refuse=refusal(429, "fast"), rate=rate, burst=6 * rate),
        Middleware(BodyLimit, refuse=refusal(413, "request")),
    ]
    handlers = {
        HTTPException: show_http_error,
        DBAPIError: show_unavailable,
        PoolTimeout: show_unavailable,
        Exception: show_http_error,
    }
    application = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    application.state.site = Site(study, frames)
    return SecurityHeaders(application, is_https=is_https)


def refusal(status: int, problem: str) -> ASGIApp:
    """Answer every request with one page."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(Request(scope), status, problem)(scope, receive, send)

    return refuse


def _answer(request: Request, status: int, problem: str) -> Response:
    request.scope.setdefault("session", {})  # the error may have come before it
    if request.headers.get("accept", "").startswith("application/json"):
        message = {503: UNAVAILABLE, 429: TOO_FAST}.get(status, NOT_SAVED)
        text = site_of(request).translate(language_of(request), message)
        return JSONResponse({"saved": False, "error": text}, status)
    return render(request, "problem.html", status, problem=problem)


def send_asset(request: Request) -> Response:
    """Style sheet or script."""
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(404)
    headers = {"cache-control": "public, max-age=86400"}
    return Response(site_of(request).assets[name], media_type=ASSETS[name], headers=headers)


def send_health(request: Request) -> Response:
    """Whether the server and its database answer, for a supervisor."""
    with site_of(request).study.database.read():
        return JSONResponse({"status": "ok"})


def show_http_error(request: Request, error: Exception) -> Response:
    """A page with the kind of the error, and no more."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    problem = {403: "form", 404: "unknown", 503: "unavailable"}.get(status, "request")
    return _answer(request, status, problem)


def show_unavailable(request: Request, error: Exception) -> Response:
    """The database does not answer: say that nothing was saved; the log has the reason."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    logger.error("database: %s", reason)
    return _answer(request, 503, "unavailable")
