"""What all pages share: the study, the templates in each language, sessions and forms."""

import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from echodiff.study import forms
from echodiff.study.columns import SCORES, STRUCTURED
from echodiff.study.ratings import TaskRow
from echodiff.study.readers import ReaderRow, find_current
from echodiff.study.store import OpenStudy
from echodiff.study.translation import LANGUAGE_NAMES, preferred_language, translations
from echodiff.study.web.consent import load_consent
from echodiff.study.web.middleware import Buckets

PLACE = Path(__file__).parent
MAX_ADDRESSES = 20_000
REMEMBERED_SECONDS = 30.0
IMAGES_IN_MEMORY = 512 * 2**20
ASSETS = {"style.css": "text/css", "rating.js": "text/javascript", "admin.js": "text/javascript"}


@dataclass
class Site:
    """One study as a web site."""

    study: OpenStudy
    frames: Path | None = None
    """Frames folder that annotators write captions for."""
    logins: Buckets = field(default_factory=lambda: Buckets(1 / 20, 10))
    """Attempts of each address to log in."""

    def __post_init__(self) -> None:
        self.assets = {name: (PLACE / "static" / name).read_bytes() for name in ASSETS}
        self.versions = {
            name: hashlib.sha256(data).hexdigest()[:12] for name, data in self.assets.items()
        }
        self.consents = {
            language: load_consent(self.study, language) for language in self.study.config.languages
        }
        self.environments = {
            language: self._environment(language) for language in self.study.config.languages
        }
        size = max((path.stat().st_size for path in self._files), default=1)
        held = max(16, min(len(self._files), math.floor(IMAGES_IN_MEMORY / size)))
        self.read_image = lru_cache(maxsize=held)(self._read_image)
        self._addresses: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    @cached_property
    def _files(self) -> list[Path]:
        return [self.study.image_path(token) for token in self.study.image_ids]

    def remember(self, reader: str, tasks: Iterable[TaskRow]) -> None:
        """Keep which images a page shows: the browser is about to ask for them."""
        moment = time.monotonic()
        for task in tasks:
            self._addresses[reader, task.token] = task.image, moment
            if task.companion_token is not None and task.companion is not None:
                self._addresses[reader, task.companion_token] = task.companion, moment
        while len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)

    def remembered(self, reader: str, token: str) -> str | None:
        """Image token behind an address on a page that this process sent to the reader just now;
        later the database is asked, which knows whether the session has ended."""
        image, moment = self._addresses.get((reader, token), (None, 0.0))
        return image if time.monotonic() < moment + REMEMBERED_SECONDS else None

    def _read_image(self, token: str) -> bytes:
        return self.study.image_path(token).read_bytes()

    def _environment(self, language: str) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PLACE / "templates"),
            extensions=["jinja2.ext.i18n"],
            autoescape=True,
            auto_reload=False,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.install_gettext_translations(  # type: ignore[attr-defined]
            translations(language), newstyle=True
        )
        environment.globals.update(
            language=language,
            languages={name: LANGUAGE_NAMES[name] for name in self.study.config.languages},
            study=self.study.config,
            versions=self.versions,
            forms=forms,
            scores=SCORES,
            structured=STRUCTURED,
        )
        return environment

    def environment(self, language: str) -> jinja2.Environment:
        """Templates in this language, or in the study's first."""
        return self.environments.get(language) or next(iter(self.environments.values()))

    def translate(self, language: str, message: str, **values: Any) -> str:
        """A text in this language, with its values filled in."""
        return translations(language).gettext(message).format(**values)


def site_of(request: Request) -> Site:
    """The site that a request belongs to."""
    site: Site = request.app.state.site
    return site


def language_of(request: Request) -> str:
    """Language that the reader chose, else what the browser asks for."""
    offered = site_of(request).study.config.languages
    chosen = request.session.get("language")
    if chosen in offered:
        return str(chosen)
    return preferred_language(request.headers.get("accept-language", ""), offered)


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page in the reader's language."""
    page = site_of(request).environment(language_of(request)).get_template(template)
    values = {"csrf": csrf_token(request), "reader": None, "mistakes": {}, **values}
    return HTMLResponse(page.render(values), status)


def go(place: str) -> Response:
    """Redirect by GET."""
    return RedirectResponse(place, 303)


def csrf_token(request: Request) -> str:
    """Token of this session that every form sends back."""
    token = request.session.get("csrf")
    if not isinstance(token, str):
        token = request.session["csrf"] = secrets.token_urlsafe(16)
    return token


async def checked_form(request: Request) -> dict[str, str]:
    """Text fields of a form; 403 unless it carries the session's token."""
    form = await request.form(max_files=0, max_fields=1000)
    values = {name: value for name, value in form.items() if isinstance(value, str)}
    token = request.session.get("csrf")
    given = values.get("csrf", "")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), given.encode()):
        raise HTTPException(403)
    return values


def start_session(request: Request, reader: ReaderRow, language: str) -> None:
    """Make this browser the reader's, in place of whoever had it before."""
    request.session.clear()
    request.session.update(reader=reader.token, version=reader.session_version, language=language)
    csrf_token(request)


def session_of(request: Request) -> tuple[str, int] | None:
    """Identifier and version of a reader's session; whether it still holds, the database says."""
    token, version = request.session.get("reader"), request.session.get("version")
    return (token, version) if isinstance(token, str) and isinstance(version, int) else None


def reader_of(request: Request) -> ReaderRow | None:
    """The reader whose session this is; None without one, or after it was ended."""
    session, study = session_of(request), site_of(request).study
    if session is None:
        return None
    with study.database.read() as connection:
        return find_current(connection, study, *session)


def place_of(reader: ReaderRow) -> str:
    """The page where this reader goes on."""
    if reader.role == "annotator":
        return "/captions"
    if reader.state == "done":
        return "/thanks" if reader.has_comment else "/comments"
    return {"invited": "/consent", "consented": "/questionnaire"}.get(reader.state, "/rate")
