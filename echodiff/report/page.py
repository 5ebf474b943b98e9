"""Write the report: one HTML file with settings, images and scores, without external resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding
from echodiff.captions.findings import findings_in
from echodiff.data.leaks import read_maker
from echodiff.documents import Kinds, check_kinds, read_record
from echodiff.errors import InputError
from echodiff.frames.white_level import find_white_level
from echodiff.images import read_size
from echodiff.report.alarms import list_alarms
from echodiff.report.broken import draw_broken
from echodiff.report.cards import Card, build_cards, write_ranking_verdict, write_verdict
from echodiff.report.charts import draw_counts, draw_curves, draw_score_curves, draw_shares
from echodiff.report.pictures import SHOWN_SIDE, Picture, Scale, Shown, embed_png, find_pictures
from echodiff.report.tables import (
    FINDING_NAMES,
    build_difference_rows,
    build_look_rows,
    build_mask_rows,
    build_score_rows,
    list_networks,
    list_sampling_facts,
    list_training_facts,
)
from echodiff.report.template import write_page
from echodiff.runs import Run

if TYPE_CHECKING:
    from echodiff.metrics.comparison import Difference

_SCORES: Kinds = {
    "scores": dict[str, dict[str, Any]],
    "alarms": list[str],
    "notes": list[str],
    "by_count": list[dict[str, Any]],
    "alarm_frames": dict[str, list[int]],
    "anatomy": dict[str, Any],
}
NUM_MATCHES, NUM_IN_GRID = 12, 24


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One generated frames folder, with the metrics.json and generate.json in it."""

    title: str
    folder: Path
    note: str = ""
    """One-sentence description."""
    metrics: Mapping[str, Any] | None = None
    """Scores, if the folder has no metrics.json."""


def write_report(
    out: Path,
    *,
    title: str,
    summary: str,
    sets: Sequence[ImageSet],
    reference: Path | Sequence[Path],
    reference_text: str,
    run: Run | None = None,
    cards: Sequence[Card] | None = None,
    verdict: str | None = None,
    commands: Sequence[str] = (),
    differences: Sequence[Difference] = (),
    samples: NDArray[np.uint8] | None = None,
    white_level: int | None = None,
) -> None:
    """Write the report of `sets`, scored against `reference` (a frames folder, or images).

    cards, verdict: the top of the page; by default, those of the scores.
    white_level: white level of the training, for images of more than 8 bits whose rows state none.
    Sets whose prompts are captions of the reference are shown frame by frame next to the real ones.
    """
    real = find_pictures(reference)
    drawn = [find_pictures(one.folder) for one in sets]
    metrics = [one.metrics or _read_scores(one.folder / "metrics.json") for one in sets]
    jobs = [_read_job(one.folder / "generate.json") for one in sets]
    scores: list[dict[str, Any]] = [one.get("scores", {}) for one in metrics]
    titles = [one.title for one in sets]
    is_one = len(sets) == 1
    # Generated frames have 8 bits: the white level is that of the reference.
    scale = Scale(
        side=min(SHOWN_SIDE, *(read_size(first.path)[0] for first, *_ in (*drawn, real))),
        white=find_white_level(reference, known=white_level),
    )
    reference_title = "Reference"
    if all(one.is_simulated for one in real):
        reference_title, reference_text = "Reference (simulated)", f"{reference_text} (simulated)"
    of_sets = list(zip(titles, metrics, drawn, strict=True))
    alarms = [alarm for name, one, pictures in of_sets
              for alarm in list_alarms("" if is_one else name, one, pictures, scale)]  # fmt: skip
    if verdict is None and is_one:
        verdict = write_verdict(scores[0], num_alarms=len(alarms))
    matching = [i for i, pictures in enumerate(drawn) if _is_matched(pictures, real)]
    shown = matching or range(len(sets))
    write_page(
        out,
        "report.html.jinja",
        title=title,
        summary=summary,
        verdict=write_ranking_verdict(differences) if verdict is None else verdict,
        cards=build_cards(titles, scores) if cards is None else cards,
        alarms=alarms,
        broken=[(name, *draw_broken(pictures, one.get("anatomy", {})))
                for name, one, pictures in of_sets],
        reference_text=reference_text,
        reference_title=reference_title,
        match_titles=[reference_title, *(titles[i] for i in matching)],
        matches=_matches(real, [drawn[i] for i in matching], scale) if matching else [],
        grids=[
            _grid(reference_title, reference_text, real, scale),
            *(_grid(s.title, s.note, pictures, scale)
              for s, pictures in zip(sets, drawn, strict=True)),
        ],
        share_titles=[titles[i] for i in shown],
        shares=draw_shares([scores[i] for i in shown], FINDING_NAMES, "faithfulness"),
        score_rows=build_score_rows(titles, scores),
        look_rows=build_look_rows(titles, scores),
        mask_rows=build_mask_rows(titles, scores),
        sets_shown=len(sets),
        samples=None if samples is None else embed_png(samples),
        difference_rows=build_difference_rows(differences),
        counts=[(name, chart) for name, one, _ in of_sets
                for chart in draw_counts(one.get("by_count", []))],
        examples=[(name, _examples(one["examples"], scale))
                  for name, one, _ in of_sets if one.get("examples")],
        notes=sorted({note for one in metrics for note in one.get("notes", [])}),
        networks=list_networks(scores),
        **_describe_training(run),
        sampling=[(name, list_sampling_facts(j)) for name, j in zip(titles, jobs, strict=True)
                  if j],
        commands=commands,
    )  # fmt: skip


def _describe_training(run: Run | None) -> dict[str, Any]:
    """Curves and settings of the training, if there was one."""
    rows = run.read_metrics() if run else []
    return {
        "curves": draw_curves(rows),
        "score_charts": draw_score_curves(rows),
        "training": list_training_facts(run) if run else [],
    }


# --- Images -----------------------------------------------------------------------------------


def _matches(
    real: Sequence[Picture], drawn: Sequence[Sequence[Picture]], scale: Scale
) -> list[dict[str, Any]]:
    """Match captions with their real frame and the images drawn for them, with varied findings."""
    by_text = [{one.text: one.path for one in reversed(pictures)} for pictures in drawn]
    common = [one for one in real if one.text and all(one.text in paths for paths in by_text)]
    # One frame of each combination of findings first, then the others in their order.
    seen: dict[frozenset[Finding], int] = {}
    rounds = []
    for one in common:
        findings = findings_in(one.text)
        rounds.append(seen.get(findings, 0))
        seen[findings] = rounds[-1] + 1
    order = sorted(range(len(common)), key=rounds.__getitem__)[:NUM_MATCHES]
    return [
        {
            "caption": common[i].text,
            "images": [
                scale.embed(path)
                for path in (common[i].path, *(paths[common[i].text] for paths in by_text))
            ],
        }
        for i in order
    ]


def _grid(title: str, note: str, pictures: Sequence[Picture], scale: Scale) -> dict[str, Any]:
    """Show the first images of a set."""
    chosen = pictures[:NUM_IN_GRID]
    return {
        "title": title,
        "note": note,
        "count": f"first {len(chosen)} of {len(pictures)}",
        "images": [Shown(scale.embed(one.path), one.path.name) for one in chosen],
    }


def _examples(examples: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Show the least and most typical frames, and generated frames next to the nearest real."""
    rows = {
        name: [Shown(scale.embed(Path(path)), Path(path).name, Path(path).stem)
               for path in examples[name]]
        for name in ("worst", "best")
    }  # fmt: skip
    pairs = [[scale.embed(Path(path)) for path in pair] for pair in examples["nearest"]]
    return {**rows, "nearest": pairs, "nearest_of": examples["nearest_of"],
            "features": examples["features"]}  # fmt: skip


def _is_matched(pictures: Sequence[Picture], real: Sequence[Picture]) -> bool:
    """Whether the set's prompts are captions of the real frames."""
    captions = {one.text for one in real if one.text}
    return all(one.text in captions for one in pictures)


def _read_scores(path: Path) -> dict[str, Any]:
    """Scores that may be absent, without the paths of images among them: the author of the file
    chose these."""
    record = read_record(path, _SCORES) if path.is_file() else {}
    record.pop("examples", None)
    anatomy = record.get("anatomy", {})
    try:
        check_kinds(anatomy, {"broken": list[dict[str, Any]]})
    except InputError as error:
        raise InputError(f"{path}: anatomy: {error}") from error
    return record


def _read_job(path: Path) -> dict[str, Any]:
    """The record of a generation, which may be absent."""
    return read_maker(path) if path.is_file() else {}
