"""What `echodiff push` put on a model hub: found by name, fetched, and held against its hashes.

`hub:USER/NAME@REV` names it everywhere; HF_ENDPOINT says which hub. Nothing here needs torch.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any, NamedTuple

from echodiff.config import InputError
from echodiff.rows import check_inside
from echodiff.runs import RECORD, sha256_file

PREFIX = "hub:"
MANIFEST = "push.json"
"""In every pushed repository: what it is, and the SHA-256 of each other file."""
SCORES, CONFIG, PRIVACY = "metrics.json", "config.yaml", "privacy.json"
CARD, SHEET = "README.md", "sheet.png"
MODEL_FILES = (
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights_kohya.safetensors",
    CARD, SHEET, SCORES, PRIVACY, CONFIG, RECORD, MANIFEST,
)  # fmt: skip
"""Everything that may lie in a pushed model, and nothing else may."""
DATASET_FILES = ("metadata.jsonl", CARD, SHEET, SCORES, MANIFEST)
"""The same of a pushed set of generated frames, beside its pictures under `images/`."""
PICTURES = "images/*.png"


class HubName(NamedTuple):
    """A repository, and perhaps a revision of it."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return PREFIX + self.repo + (f"@{self.revision}" if self.revision else "")


def parse_name(text: str, flag: str) -> HubName:
    """`USER/NAME`, with `hub:` before and `@REV` behind it where wanted; else an InputError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    repo, at, revision = text.removeprefix(PREFIX).partition("@")
    if at and not revision:
        raise InputError(f"{flag} {text}: nothing stands behind the @")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        reason = str(error).split(":")[0].replace("Repo id", "a name")
        raise InputError(f"{flag} {text}: {reason}; it is written USER/NAME") from error
    if repo.count("/") != 1:
        raise InputError(f"{flag} {text}: whose? It is written USER/NAME")
    return HubName(repo, revision or None)


def endpoint() -> str | None:
    """The hub of HF_ENDPOINT, as it is set now; None is huggingface_hub's own default."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def fetch_published(name: HubName, *, is_dataset: bool = False) -> Path:
    """The folder of a pushed model or data set in the hub's cache, downloaded where it is not there
    yet, every file of it compared with the hash that was pushed."""
    from huggingface_hub import snapshot_download

    patterns = [*DATASET_FILES, PICTURES] if is_dataset else list(MODEL_FILES)
    with told_in_one_line(str(name)):
        folder = snapshot_download(
            name.repo,
            revision=name.revision,
            repo_type="dataset" if is_dataset else "model",
            endpoint=endpoint(),
            allow_patterns=patterns,
        )
    check_hashes(Path(folder), str(name), kind="dataset" if is_dataset else "model")
    return Path(folder)


def check_hashes(folder: Path, name: str, *, kind: str) -> None:
    """Hold every file that the manifest of `folder` lists against its hash."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{name}: holds no {MANIFEST}: it was not pushed by echodiff")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        hashes = {str(file): str(digest) for file, digest in manifest["files"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{name}: {MANIFEST} is damaged ({error})") from error
    if manifest.get("kind") != kind:
        raise InputError(f"{name}: is a {manifest.get('kind')}, not a {kind}")
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if strange := sorted(there - set(hashes) - {MANIFEST}):
        raise InputError(f"{name}: {strange[0]} is not among the files that were pushed")
    for file, digest in hashes.items():
        check_inside(file, "file")
        if not (folder / file).is_file():
            raise InputError(f"{name}: {file} is missing")
        if sha256_file(folder / file) != digest:
            raise InputError(
                f"{name}: {file} is not the file that was pushed (its SHA-256 differs)"
            )


@contextmanager
def told_in_one_line(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into an InputError of one line that begins with `name`."""
    import httpx2
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # its retries: only what comes of them is told
    try:
        yield
    except InputError:
        raise
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: {_explain(error)}") from error
    finally:
        logging.set_verbosity(verbosity)


_ANSWERS = {
    401: "the hub does not accept the token: `hf auth login`, or set HF_TOKEN",
    403: "this token may not do that there: is the name another user's, or the token read-only?",
    404: "there is no such repository, or this token may not see it",
    409: "the name is taken, or the repository changed meanwhile: run again to see what is there",
    412: "the repository changed meanwhile: run again to see what is there",
    413: "the hub finds it too large",
    429: "the hub asks for a pause: run again later, it goes on",
}


def _explain(error: BaseException) -> str:
    import httpx2
    from huggingface_hub.errors import RevisionNotFoundError

    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    for one in chain:
        if isinstance(one, RevisionNotFoundError):
            return "there is no such revision (404)"
        status = getattr(getattr(one, "response", None), "status_code", None)
        if status is None:
            continue
        said = str(getattr(one, "server_message", None) or "").strip()
        if status >= 500:
            answer = "the hub failed: run again, it goes on"
        else:
            answer = _ANSWERS.get(status, "the hub refused")
        return f"{answer} ({status}{': ' if said else ''}{' '.join(said.split())})"
    for one in chain:
        if isinstance(one, httpx2.HTTPError | ConnectionError):
            return f"the connection broke ({type(one).__name__}): run again, it goes on"
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # a disk, not the hub
    if isinstance(error, RuntimeError) and len(chain) > 1:
        return f"{error} ({type(chain[-1]).__name__}: {' '.join(str(chain[-1]).split())})"
    return " ".join(str(error).split())
