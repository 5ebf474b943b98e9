"""The organiser's pages: login, progress, invitations, pause, withdrawal, erasure and export."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import delete, insert, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echodiff.study import readers
from echodiff.study.export import zip_export
from echodiff.study.models import AdminSession, AdminUser, now
from echodiff.study.progress import read_progress
from echodiff.study.secrecy import hash_password, hash_token, is_password, new_token
from echodiff.study.store import OpenStudy, log, read_state, set_state
from echodiff.study.translation import N_, Refusal
from echodiff.study.web.middleware import client_address
from echodiff.study.web.site import (
    checked_form,
    csrf_token,
    go,
    language_of,
    render,
    site_of,
)

HOURS = 12
MAX_INVITED = 200


@cache
def _unknown() -> str:
    """A password's hash for names that do not exist, so that they cost as much time."""
    return hash_password("unknown")


def _login(study: OpenStudy, name: str, password: str) -> str | None:
    """Token of a new session, or None if name or password is wrong."""
    with study.database.read() as connection:
        found = select(AdminUser.id, AdminUser.password).where(
            AdminUser.study_id == study.id, AdminUser.name == name
        )
        user = connection.execute(found).first()
    if not is_password(password, _unknown() if user is None else user.password) or user is None:
        return None
    token = new_token()
    with study.database.begin() as connection:
        connection.execute(delete(AdminSession).where(AdminSession.expires < now()))
        values = {"user_id": user.id, "token": hash_token(token)}
        expires = now() + timedelta(hours=HOURS)
        connection.execute(insert(AdminSession).values(**values, expires=expires))
        log(connection, study.id, "login")
    return token


def is_admin(request: Request) -> bool:
    """Whether this session is an organiser's of this study."""
    token, study = request.session.get("admin"), site_of(request).study
    if not isinstance(token, str):
        return False
    found = (
        select(AdminSession.id)
        .join(AdminUser)
        .where(
            AdminUser.study_id == study.id,
            AdminSession.token == hash_token(token),
            AdminSession.expires > now(),
        )
    )
    with study.database.read() as connection:
        return connection.execute(found).first() is not None


def show_login(request: Request) -> Response:
    """The login form."""
    return go("/admin") if is_admin(request) else render(request, "login.html")


async def take_login(request: Request) -> Response:
    """Check the password; after ten attempts an address waits."""
    form = await checked_form(request)
    return await run_in_threadpool(_take_login, request, form)


def _take_login(request: Request, form: dict[str, str]) -> Response:
    site, address = site_of(request), client_address(request.scope)
    if not site.logins.take(address):  # before the hash, or many at once would all pass
        return render(request, "login.html", 429, mistakes={"wait": True})
    # A password of a megabyte would be hashed at our cost.
    token = _login(site.study, form.get("name", "")[:64], form.get("password", "")[:1000])
    if token is None:
        return render(request, "login.html", 403, mistakes={"password": True})
    request.session.clear()
    request.session["admin"] = token
    csrf_token(request)
    return go("/admin")


def _page(request: Request, status: int = 200, **values: Any) -> Response:
    study = site_of(request).study
    with study.database.read() as connection:
        state = read_state(connection, study)
    rows = read_progress(study)
    shown = {"error": "", "links": [], **values}
    return render(
        request, "admin.html", status, rows=rows, state=state,
        has_captions=site_of(request).frames is not None, **shown,
    )  # fmt: skip


def show_admin(request: Request) -> Response:
    """Progress of every reader, source-blind."""
    return _page(request) if is_admin(request) else go("/admin/login")


def show_rows(request: Request) -> Response:
    """The table of the page alone, which the page's script fetches."""
    if not is_admin(request):
        return Response(status_code=403)
    return render(request, "admin_rows.html", rows=read_progress(site_of(request).study))


def _action(act: Callable[[Request, dict[str, str]], Response]) -> Callable[[Request], Any]:
    """A form of the page; a refusal is shown on the page."""

    def work(request: Request, form: dict[str, str]) -> Response:
        if not is_admin(request):
            return go("/admin/login")
        try:
            return act(request, form)
        except Refusal as refusal:
            site, language = site_of(request), language_of(request)
            text = site.translate(language, refusal.message, **refusal.values)
            return _page(request, 409, error=text)

    async def endpoint(request: Request) -> Response:
        form = await checked_form(request)
        return await run_in_threadpool(work, request, form)

    return endpoint


def _log_out(request: Request, form: dict[str, str]) -> Response:
    token = hash_token(request.session["admin"])
    with site_of(request).study.database.begin() as connection:
        connection.execute(delete(AdminSession).where(AdminSession.token == token))
    request.session.clear()
    return go("/admin/login")


def _set_state(request: Request, form: dict[str, str]) -> Response:
    state = form.get("state", "")
    if state == "closed" and form.get("sure") != "yes":
        raise Refusal(N_("Tick the box to close the study: it cannot be opened again."))
    if state in {"open", "paused", "closed"}:
        set_state(site_of(request).study, state)
    return go("/admin")


def invitation_url(request: Request, token: str) -> str:
    """The link that is sent to a reader."""
    return str(request.url.replace(path=f"/invitation/{token}", query=""))


def _invite(request: Request, form: dict[str, str]) -> Response:
    role = form.get("role", "reader")
    count = int(form["count"]) if form.get("count", "").isascii() and form["count"].isdigit() else 0
    if not 1 <= count <= MAX_INVITED or role not in {"reader", "annotator"}:
        raise Refusal(N_("The number of links must be 1 to {limit}."), limit=MAX_INVITED)
    invited = readers.invite(site_of(request).study, count, role)
    links = [(reader, invitation_url(request, token)) for reader, token in invited]
    return _page(request, links=links)


def _change_reader(request: Request, form: dict[str, str]) -> Response:
    study, reader = site_of(request).study, request.path_params["reader"]
    action = form.get("action")
    if action in {"withdraw", "erase"} and form.get("sure") != "yes":
        raise Refusal(N_("Tick “Sure” to withdraw or erase a reader."))
    if action == "renew":
        token = readers.renew_invitation(study, reader)
        return _page(request, links=[(reader, invitation_url(request, token))])
    acts = {
        "revoke": readers.revoke_invitation, "withdraw": readers.withdraw, "erase": readers.erase,
    }  # fmt: skip
    if action in acts:
        acts[action](study, reader)
    return go("/admin")


def send_export(request: Request) -> Response:
    """All files of an export as one zip; without the sources until the study is closed."""
    if not is_admin(request):
        return go("/admin/login")
    headers = {"content-disposition": 'attachment; filename="study.zip"'}
    data = zip_export(site_of(request).study)
    return Response(data, media_type="application/zip", headers=headers)


ROUTES = [
    Route("/admin", show_admin),
    Route("/admin/login", show_login),
    Route("/admin/login", take_login, methods=["POST"]),
    Route("/admin/rows", show_rows),
    Route("/admin/logout", _action(_log_out), methods=["POST"]),
    Route("/admin/state", _action(_set_state), methods=["POST"]),
    Route("/admin/invite", _action(_invite), methods=["POST"]),
    Route("/admin/reader/{reader}", _action(_change_reader), methods=["POST"]),
    Route("/admin/export.zip", send_export),
]
