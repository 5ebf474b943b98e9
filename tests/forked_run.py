"""A run of a script in a forked process, which has to import what it is to do by name."""

import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_script(script: str, flags: list[str], environment: dict[str, str], folder: Path) -> None:
    """Run `script` in `folder` as a launcher would with `environment`; what it says goes to a file
    `script-RANK.log` there."""
    os.environ.update(environment)
    os.chdir(folder)
    name = f"{Path(script).name}-{os.environ.get('RANK', '0')}.log"
    log = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    sys.argv = [script, *flags]
    runpy.run_path(str(ROOT / script), run_name="__main__")
