"""What operating systems differ in, in one place: nothing else here asks for what one alone has."""

import io
import os
import re
import sys
from pathlib import Path

_NOT_PORTABLE = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sync_file(path: Path) -> None:
    """Have the bytes of `path` on the disk, not only in memory."""
    with path.open("r+b") as file:  # Windows syncs no handle that only reads
        os.fsync(file.fileno())


def read_peak_memory_gib() -> float:
    """Most main memory that this process has held so far."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def replace_what_a_console_lacks() -> None:
    """Print `?` for characters that the console's code page does not have, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def portable_name(name: str) -> str:
    """A file's name without what Windows does not allow; most names stay as they are.

    A character becomes `-` and its number in hexadecimal; a device's name (`con`, `aux`) gets an
    `_` behind it.
    """
    name = _NOT_PORTABLE.sub(lambda found: f"-{ord(found[0]):x}", name)
    stem, dot, rest = name.partition(".")
    return f"{stem}_{dot}{rest}" if _RESERVED.fullmatch(name) else name
