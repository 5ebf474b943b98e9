"""`echodiff utility --real DIR --synthetic DIR ... --test DIR --out DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.runs import versions
from echodiff.segmentation.label_names import name_label
from echodiff.settings.command_line import parse, run_main
from echodiff.settings.fields import as_dict
from echodiff.utility.utility_config import UtilityConfig

PROG = "echodiff utility"
UTILITY_FILE, REPORT_FILE = "utility.json", "report.html"
_PLACES = ("out", "overwrite", "threads", "checkpoint_every")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_main(lambda: _compare(parse(UtilityConfig, argv, prog=PROG)), PROG)


def _compare(config: UtilityConfig) -> int:
    target = config.out / UTILITY_FILE
    if target.exists() and not config.overwrite:
        raise InputError(f"{target}: exists already; --overwrite replaces it")
    refuse_inputs(config.out, [config.real, config.test, *config.synthetic])
    import monai  # noqa: F401  # missing, it is named before anything is read

    from echodiff.training.precision import start_accelerator
    from echodiff.utility.arms import list_arms
    from echodiff.utility.sources import open_sources
    from echodiff.utility.summary import summarise
    from echodiff.utility.trainings import plan_trainings, run_trainings

    sources = open_sources(config)
    arms = list_arms(config, [*sources.synthetic])
    plan = plan_trainings(config, sources, arms)
    accelerator, _ = start_accelerator(
        "no", num_parameters=0, tracker="none", threads=config.threads
    )
    test = sources.test
    print(
        f"{plan.num_trainings} trainings of {config.steps} steps; test: "
        f"{test.text}, {len(test.frames)} of them with a mask"
    )
    for name, reason in plan.left_out.items():
        print(f"{name}: left out, {reason}")
    for note in sources.notes:
        print(f"note: {note}")
    with FolderLock(config.out):
        trained = run_trainings(config, plan, accelerator)
        result = summarise(trained, test.frames, sources.labels, seed=config.seed)
        result |= {
            "left_out": dict(plan.left_out),
            "notes": list(sources.notes),
            "labels": [name_label(label) for label in sources.labels],
            "num_test": len(test.frames),
            "settings": {k: v for k, v in as_dict(config).items() if k not in _PLACES},
            "versions": versions(),
        }
        _write(config, result)
    print(result["verdict"])
    print(f"Report: {config.out / REPORT_FILE}; all numbers in {target}")
    return 0


def _write(config: UtilityConfig, result: dict[str, Any]) -> None:
    from echodiff.report.utility_page import write_utility_page

    write_utility_page(config.out / REPORT_FILE, result)
    write_json_atomic(config.out / UTILITY_FILE, result)
