"""`echodiff study analyze RATINGS.csv|STUDY --out DIR`: tests, models and figures of a study."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.fingerprints import compute_fingerprint, sha256_file
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.runs import versions
from echodiff.settings.command_line import parse, run_main
from echodiff.settings.fields import as_dict
from echodiff.study.analysis.analyze_config import AnalyzeConfig
from echodiff.study.analysis.study_files import StudyFiles, find_files

PROG = "echodiff study analyze"
ANALYSIS_FILE, REPORT_FILE, FIGURES = "analysis.json", "report.html", "figures"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_main(lambda: _analyze(parse(AnalyzeConfig, argv, prog=PROG)), PROG)


def _analyze(config: AnalyzeConfig) -> int:
    target = config.out / ANALYSIS_FILE
    if target.exists() and not config.overwrite:
        raise InputError(f"{target}: exists already; --overwrite replaces it")
    files = find_files(config.ratings, config.readers)
    refuse_inputs(config.out, [files.ratings, config.reference])
    _need("krippendorff", "pingouin")
    from echodiff.study.analysis.ratings_file import read_study
    from echodiff.study.analysis.summary import analyse, stamp
    from echodiff.study.analysis.variety import describe_variety, split_names

    study = read_study(files.ratings, real=config.real, readers=files.readers)
    sources = () if study.ratings is None else study.ratings.sources
    generated = split_names(config.generated, sources)
    result = analyse(study, margin=config.margin, seed=config.seed)
    if config.reference is not None:
        result["variety"] = describe_variety(generated, config.reference, seed=config.seed)
    inputs = _hash(files)
    result = stamp(result, compute_fingerprint(inputs))
    result |= {
        "inputs": inputs,
        "settings": {name: value for name, value in as_dict(config).items()
                     if name not in ("out", "overwrite")},
        "versions": versions(),
    }  # fmt: skip
    with FolderLock(config.out):
        _write(config, result)
    for note in result["notes"]:
        print(f"note: {note}")
    print(result["verdict"])
    print(f"Report: {config.out / REPORT_FILE}; all numbers in {target}")
    return 0


def _need(*modules: str) -> None:
    """Raise ModuleNotFoundError for a package that is missing, before anything is computed; to
    import pingouin takes seconds, and not every study needs it."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def _hash(files: StudyFiles) -> dict[str, str]:
    """SHA-256 of each file that was read, by its name."""
    read = [files.ratings] if files.readers is None else [files.ratings, files.readers]
    return {path.name: sha256_file(path) for path in read}


def _write(config: AnalyzeConfig, result: dict[str, Any]) -> None:
    from echodiff.report.study_page import write_study_page

    write_study_page(config.out / REPORT_FILE, result, figures=config.out / FIGURES)
    write_json_atomic(config.out / ANALYSIS_FILE, result)
