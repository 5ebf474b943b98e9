"""List the files that a preparation reads, and describe its job for resuming."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet
from echodiff.fingerprints import sha256_file
from echodiff.settings.fields import as_dict


def describe_job(
    config: PrepareConfig, data: DataSet, cases: Sequence[Case]
) -> dict[str, dict[str, Any]]:
    """Return the settings, a hash of every table, and a hash of path, size and time of every file.

    Splits, names and captions depend on all of them: a folder begun before they changed cannot be
    resumed.
    """
    indifferent = ("out", "overwrite", "allow_bad", "workers")
    settings = {name: value for name, value in as_dict(config).items() if name not in indifferent}
    return {
        "settings": settings,
        "tables": {str(path): sha256_file(path) for path in list_tables(config, data)},
        "files": {str(path): stamp for case in cases for path, stamp in _stamps(case)},
    }


def list_inputs(config: PrepareConfig, data: DataSet, cases: Sequence[Case]) -> Iterator[Path]:
    """List every file that is read, for the check that the output is not among them."""
    yield from list_tables(config, data)
    yield from () if config.card is None else (config.card,)
    for case in cases:
        yield from (case.path, *case.extra_paths)


def list_tables(config: PrepareConfig, data: DataSet) -> list[Path]:
    """List files that are read in addition to the cases."""
    captions = Path(config.captions)
    return [*data.listings, *([captions] if captions.is_file() else [])]


def _stamps(case: Case) -> Iterator[tuple[Path, str]]:
    for path in (case.path, *case.extra_paths):
        try:
            found = path.stat()
            stamp = f"{case.name} {found.st_size} {found.st_mtime_ns}"
        except OSError:
            stamp = f"{case.name} missing"
        yield path, hashlib.sha256(stamp.encode(errors="surrogateescape")).hexdigest()[:16]
