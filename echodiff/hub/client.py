"""Upload one folder to one repository in one commit, by huggingface_hub's client.

HF_ENDPOINT says which hub. Large files go up first, by LFS or Xet as client and hub agree; they
belong to nothing until the commit names them: a broken push leaves an empty repository or the old
one, and the next one finds what is there already.
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
"""Bytes of a text that is held in memory between the check of its hash and its upload; the hub
stores larger ones by their hash, as it does images and weights."""
_OF_THE_HUB = frozenset({".gitattributes"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a folder goes."""

    repo: str
    kind: str
    """model or dataset."""
    is_public: bool
    token: str


def find_token() -> str | None:
    """The token that huggingface_hub would use: HF_TOKEN, or that of `hf auth login`."""
    from huggingface_hub import get_token

    return get_token()


def push_folder(folder: Path, target: Target, message: str, hashes: Mapping[str, str]) -> str:
    """Make the repository if it is not there, commit the files of `hashes`, return in words what
    happened, with the commit's URL.

    hashes: name -> SHA-256 of what was scanned. Another file of the folder does not go up, and one
    that is no longer the same is an InputError.

    InputError in one line where the hub refuses or the connection breaks; a repository of that
    name which holds something else, or which is public unasked, is left alone.
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
    done = "there already, unchanged" if commit.oid == head else "pushed"
    return f"{done}: {commit.commit_url}"


def _open_scanned(path: Path, sha256: str) -> bytes | Path:
    """The bytes of a text, or the path of a binary file, which the client sends by its hash."""
    is_text = path.suffix in _TEXTS and path.is_file() and path.stat().st_size <= _LARGEST_TEXT
    data = path.read_bytes() if is_text else None
    found = hashlib.sha256(data).hexdigest() if data is not None else sha256_file(path)
    if found != sha256:
        raise InputError(f"{path}: changed after the scan; nothing was pushed, run it again")
    return path if data is None else data


def _open_repository(api: Any, target: Target) -> tuple[set[str], str | None]:
    """Names of the files that are in the repository, and the commit they are of."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(target.repo, repo_type=target.kind)
    except RepositoryNotFoundError:
        api.create_repo(target.repo, repo_type=target.kind, private=not target.is_public)
        return set(), None
    there = {file.rfilename for file in info.siblings or []}
    if there - _OF_THE_HUB and MANIFEST not in there:
        raise InputError(
            f"--repo {target.repo}: the name is taken: it holds files that no push wrote"
        )
    if not info.private and not target.is_public:
        raise InputError(
            f"--repo {target.repo}: is a public repository already; --public confirms it"
        )
    return there, info.sha
