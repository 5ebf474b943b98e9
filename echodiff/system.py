"""Everything that depends on the operating system."""

import io
import os
import re
import sys
from pathlib import Path

_NOT_PORTABLE = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sync_file(path: Path) -> None:
    """Flush the bytes of `path` to disk."""
    with path.open("r+b") as file:  # Windows syncs no handle that only reads
        os.fsync(file.fileno())


def read_peak_memory_gib() -> float:
    """Return the peak main memory of this process so far, in GiB."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def replace_what_a_console_lacks() -> None:
    """Print `?` for characters missing in the console's code page, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def portable_name(name: str) -> str:
    """Return a file name that Windows allows; most names are returned unchanged.

    A forbidden character becomes `-` and its number in hexadecimal; a device name (`con`, `aux`)
    gets a trailing `_`.
    """
    name = _NOT_PORTABLE.sub(lambda found: f"-{ord(found[0]):x}", name)
    stem, dot, rest = name.partition(".")
    return f"{stem}_{dot}{rest}" if _RESERVED.fullmatch(name) else name
