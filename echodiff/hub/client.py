"""One folder to one repository in one commit, by huggingface_hub's client.

HF_ENDPOINT says which hub. Large files go up first, by LFS or Xet as client and hub agree; they
belong to nothing until the commit names them: a broken push leaves an empty repository or the old
one, and the next one finds what is there already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff.config import InputError
from echodiff.connection import endpoint, told_in_one_line
from echodiff.published import MANIFEST

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


def push_folder(folder: Path, target: Target, message: str) -> str:
    """Make the repository if it is not there, commit the folder's files, return in words what
    happened, with the commit's URL.

    InputError in one line where the hub refuses or the connection breaks; a repository of that
    name which holds something else, or which is public unasked, is left alone.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    with told_in_one_line(f"--repo {target.repo}"):
        api = HfApi(endpoint=endpoint(), token=target.token, library_name="echodiff")
        there, head = _open_repository(api, target)
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names
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
        raise InputError(f"--repo {target.repo}: is public already; --public says that you mean it")
    return there, info.sha
