"""Upload one folder to one repository in one commit, with huggingface_hub's client.

HF_ENDPOINT names the hub. Large files are sent first, by LFS or Xet; they are not part of the
repository until the commit names them. An interrupted push leaves the repository empty or as it
was, and the next push does not send them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff.connection import endpoint, told_in_one_line
from echodiff.errors import InputError
from echodiff.fingerprints import sha256_file
from echodiff.published import MANIFEST

_TEXTS = frozenset({".md", ".json", ".jsonl", ".yaml"})
_LARGEST_TEXT = 5_000_000
"""Larger text files (bytes) are not kept in memory between hashing and upload; the hub stores them
by their hash, as it does images and weights."""
_OF_THE_HUB = frozenset({".gitattributes"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """Repository that a folder is pushed to."""

    repo: str
    kind: str
    """model or dataset."""
    is_public: bool
    token: str


def find_token() -> str | None:
    """Return the token of huggingface_hub: HF_TOKEN, or that of `hf auth login`."""
    from huggingface_hub import get_token

    return get_token()


def push_folder(folder: Path, target: Target, message: str, hashes: Mapping[str, str]) -> str:
    """Create the repository if needed and commit the files of `hashes`; return a line with the URL.

    hashes: name to SHA-256 of each scanned file. Other files of the folder are not sent; a file
    that has changed is an InputError.

    InputError also if the hub refuses, the connection breaks, or the repository holds files of
    others or is public without --public; then nothing is changed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    with told_in_one_line(f"--repo {target.repo}"):
        api = HfApi(endpoint=endpoint(), token=target.token, library_name="echodiff")
        there, head = _open_repository(api, target)
        names = sorted(hashes)
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=_open_scanned(folder / name, sha))
            for name, sha in sorted(hashes.items())
        ]
        operations += [
            CommitOperationDelete(path_in_repo=name, is_folder=False)
            for name in sorted(there - set(names) - _OF_THE_HUB)
        ]
        commit = api.create_commit(
            target.repo,
            operations,
            commit_message=message,
            repo_type=target.kind,
            parent_commit=head,
        )
    done = "unchanged, already pushed" if commit.oid == head else "pushed"
    return f"{done}: {commit.commit_url}"


def _open_scanned(path: Path, sha256: str) -> bytes | Path:
    """Return the bytes of a text file, or the path of a binary file; check its hash."""
    is_text = path.suffix in _TEXTS and path.is_file() and path.stat().st_size <= _LARGEST_TEXT
    data = path.read_bytes() if is_text else None
    found = hashlib.sha256(data).hexdigest() if data is not None else sha256_file(path)
    if found != sha256:
        raise InputError(
            f"{path}: changed after the scan; nothing was pushed, run the command again"
        )
    return path if data is None else data


def _open_repository(api: Any, target: Target) -> tuple[set[str], str | None]:
    """Return the names of the files in the repository and its commit; create it if needed."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(target.repo, repo_type=target.kind)
    except RepositoryNotFoundError:
        api.create_repo(target.repo, repo_type=target.kind, private=not target.is_public)
        return set(), None
    there = {file.rfilename for file in info.siblings or []}
    if there - _OF_THE_HUB and MANIFEST not in there:
        raise InputError(f"--repo {target.repo}: this repository holds files that no push wrote")
    if not info.private and not target.is_public:
        raise InputError(
            f"--repo {target.repo}: this repository is already public; --public confirms it"
        )
    return there, info.sha
