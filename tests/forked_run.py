"""A run of `train_lora.py` in a forked process, which has to import what it is to do by name."""

import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_script(flags: list[str], environment: dict[str, str]) -> None:
    """Run the script in this process, silent, as a launcher would with `environment`."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    os.environ.update(environment)
    sys.argv = ["train_lora.py", *flags]
    runpy.run_path(str(ROOT / "train_lora.py"), run_name="__main__")
