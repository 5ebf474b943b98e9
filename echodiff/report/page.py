"""Write the report: one HTML file with settings, images and scores, without external resources."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.anatomy import Finding
from echodiff.captions.findings import findings_in
from echodiff.contact_sheet import contact_sheet
from echodiff.data.leaks import read_maker
from echodiff.documents import Kinds, read_record
from echodiff.files import shipped, write_text_atomic
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.images import pad_square, read_gray_u8, read_size, resize_u8
from echodiff.report.broken import draw_broken
from echodiff.report.charts import draw_counts, draw_curves, draw_score_curves, draw_shares
from echodiff.report.tables import (
    FINDING_NAMES,
    build_difference_rows,
    build_look_rows,
    build_score_rows,
    list_networks,
    list_sampling_facts,
    list_training_facts,
)
from echodiff.runs import Run, versions

if TYPE_CHECKING:
    from echodiff.metrics.comparison import Difference

_SCORES: Kinds = {
    "scores": dict[str, dict[str, Any]],
    "alarms": list[str],
    "notes": list[str],
    "by_count": list[dict[str, Any]],
    "anatomy": dict[str, Any],
}
NUM_MATCHES, NUM_IN_GRID, GRID_COLUMNS = 12, 24, 8
SAMPLE_CELL = 160
"""Side of an image in a sheet of samples, pixels."""
SHOWN_SIDE = 256
"""Largest side of an embedded image, pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One generated frames folder, with the metrics.json and generate.json in it."""

    title: str
    folder: Path
    note: str = ""
    """One-sentence description."""
    metrics: Mapping[str, Any] | None = None
    """Scores, if the folder has no metrics.json."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One number at the top of the page."""

    label: str
    value: str
    interval: str
    note: str
    is_good: bool | None = None
    """Whether it reached its target, if it has one."""


def write_report(
    out: Path,
    *,
    title: str,
    summary: str,
    sets: Sequence[ImageSet],
    reference: Path | Sequence[Path],
    reference_text: str,
    reference_title: str = "Real",
    run: Run | None = None,
    headlines: Sequence[Headline] = (),
    commands: Sequence[str] = (),
    differences: Sequence[Difference] = (),
    samples: NDArray[np.uint8] | None = None,
    white_level: int | None = None,
) -> None:
    """Write the report of `sets`, scored against `reference` (a frames folder, or images).

    white_level: white level of the training, for images of more than 8 bits whose rows state none.
    Sets whose prompts are captions of the reference are shown frame by frame next to the real ones.
    """
    import jinja2

    real = find_pictures(reference)
    drawn = [find_pictures(one.folder) for one in sets]
    metrics = [one.metrics or _read_scores(one.folder / "metrics.json") for one in sets]
    jobs = [_read_job(one.folder / "generate.json") for one in sets]
    scores: list[dict[str, Any]] = [one.get("scores", {}) for one in metrics]
    side = min(SHOWN_SIDE, min(read_size(path)[0] for (path, _), *_ in (*drawn, real)))
    # Generated frames have 8 bits: the white level is that of the reference.
    white = find_white_level(reference, known=white_level)
    pairs = list(zip(sets, drawn, strict=True))
    matching = [i for i, pictures in enumerate(drawn) if _is_matched(pictures, real)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(
        title=title,
        summary=summary,
        headlines=headlines,
        reference_text=reference_text,
        reference_title=reference_title,
        match_titles=[reference_title, *(sets[i].title for i in matching)],
        matches=_matches(real, [drawn[i] for i in matching], side, white) if matching else [],
        grids=[
            _grid(reference_title, reference_text, real, side, white),
            *(_grid(one.title, one.note, pictures, side, white) for one, pictures in pairs),
        ],
        share_titles=[sets[i].title for i in matching or range(len(sets))],
        shares=draw_shares(
            [scores[i] for i in matching or range(len(sets))], FINDING_NAMES, "faithfulness"
        ),
        score_rows=build_score_rows([one.title for one in sets], scores),
        look_rows=build_look_rows([one.title for one in sets], scores),
        sets_shown=len(sets),
        samples=None if samples is None else embed_png(samples),
        difference_rows=build_difference_rows(differences),
        counts=[(one.title, chart) for one, result in zip(sets, metrics, strict=True)
                for chart in draw_counts(result.get("by_count", []))],
        examples=[(one.title, _examples(result["examples"], side, white))
                  for one, result in zip(sets, metrics, strict=True) if result.get("examples")],
        alarms=[f"{s.title}: {a}" for s, m in zip(sets, metrics, strict=True)
                for a in m.get("alarms", [])],
        notes=sorted({note for one in metrics for note in one.get("notes", [])}),
        broken=[(one.title, shown)
                for one, pictures, result in zip(sets, drawn, metrics, strict=True)
                if (shown := draw_broken(pictures, result.get("anatomy", {}), embed_png))],
        networks=list_networks(scores),
        curves=draw_curves(run.read_metrics()) if run else None,
        score_charts=draw_score_curves(run.read_metrics()) if run else [],
        training=list_training_facts(run) if run else [],
        sampling=[(s.title, list_sampling_facts(j)) for s, j in zip(sets, jobs, strict=True) if j],
        commands=commands,
        versions=versions(),
    )  # fmt: skip
    write_text_atomic(out, page)


def draw_samples(
    pictures: Mapping[str, Sequence[Path]], *, seed: int, white: int | None = None
) -> NDArray[np.uint8]:
    """Draw a sheet of randomly chosen frames, one labelled row per set.

    white: grey value shown as white, for images of more than 8 bits.
    """
    generator = np.random.default_rng(seed)
    num = min(GRID_COLUMNS, *(len(paths) for paths in pictures.values()))
    images, labels = [], []
    for name, paths in pictures.items():
        chosen = generator.choice(len(paths), num, replace=False)
        images += [pad_square(read_gray_u8(paths[i], max_value=white)) for i in chosen]
        labels += [name, *[""] * (num - 1)]
    return contact_sheet(images, columns=num, labels=labels, cell=SAMPLE_CELL)


def find_pictures(source: Path | Sequence[Path]) -> list[tuple[Path, str]]:
    """Return (image, caption) pairs of a frames folder, or of images in frames folders."""
    if isinstance(source, Path):
        return [(source / frame.file_name, frame.text) for frame in load_frames(source)]
    frames: dict[Path, Frame] = {}
    for path in source:
        if path not in frames:
            folder = next((f for f in path.parents if (f / METADATA).is_file()), None)
            frames |= {folder / f.file_name: f for f in load_frames(folder)} if folder else {}
    return [(path, frames[path].text if path in frames else "") for path in source]


# --- Images -----------------------------------------------------------------------------------


def embed_png(image_u8: NDArray[np.uint8]) -> str:
    """Encode a (H, W) uint8 image as a data URI."""
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _matches(
    real: Sequence[tuple[Path, str]],
    drawn: Sequence[Sequence[tuple[Path, str]]],
    side: int,
    white: int | None,
) -> list[dict[str, Any]]:
    """Match captions with their real frame and the images drawn for them, with varied findings."""
    by_text = [{text: path for path, text in reversed(pictures)} for pictures in drawn]
    common = [(p, t) for p, t in real if t and all(t in paths for paths in by_text)]
    # One frame of each combination of findings first, then the others in their order.
    seen: dict[frozenset[Finding], int] = {}
    rounds = []
    for _, text in common:
        rounds.append(seen.get(findings_in(text), 0))
        seen[findings_in(text)] = rounds[-1] + 1
    order = sorted(range(len(common)), key=rounds.__getitem__)[:NUM_MATCHES]
    return [
        {
            "caption": common[i][1],
            "images": [
                embed_png(_read(path, side, white))
                for path in (common[i][0], *(paths[common[i][1]] for paths in by_text))
            ],
        }
        for i in order
    ]


def _grid(
    title: str, note: str, pictures: Sequence[tuple[Path, str]], side: int, white: int | None
) -> dict[str, Any]:
    chosen = [path for path, _ in pictures[:NUM_IN_GRID]]
    sheet = contact_sheet(
        [_read(path, side, white) for path in chosen],
        columns=GRID_COLUMNS,
        cell=min(max(side, 128), 160),
    )
    return {
        "title": title, "note": note, "image": embed_png(sheet),
        "count": f"first {len(chosen)} of {len(pictures)}",
        # Of the page: a set of few images is not blown up.
        "width": f"{100 * min(len(chosen), GRID_COLUMNS) / GRID_COLUMNS:g}%",
    }  # fmt: skip


def _examples(examples: Mapping[str, Any], side: int, white: int | None) -> dict[str, Any]:
    """Show the least and most typical frames, and generated frames next to the nearest real."""
    rows = {
        name: embed_png(contact_sheet(
            [_read(Path(path), side, white) for path in examples[name]], columns=GRID_COLUMNS,
            cell=min(max(side, 128), 160),
        ))
        for name in ("worst", "best") if examples[name]
    }  # fmt: skip
    pairs = [
        [embed_png(_read(Path(path), side, white)) for path in pair] for pair in examples["nearest"]
    ]
    return {**rows, "nearest": pairs, "nearest_of": examples["nearest_of"],
            "features": examples["features"]}  # fmt: skip


def _read(path: Path, side: int, white: int | None) -> NDArray[np.uint8]:
    """Read an image at the size of the generated ones, so that sharpness is compared at one scale.

    white: grey value shown as white, for images of more than 8 bits.
    """
    image = read_gray_u8(path, max_value=white)
    scale = side / max(image.shape)
    return resize_u8(image, (round(image.shape[0] * scale), round(image.shape[1] * scale)))


def _is_matched(pictures: Sequence[tuple[Path, str]], real: Sequence[tuple[Path, str]]) -> bool:
    """Whether the set's prompts are captions of the real frames."""
    captions = {text for _, text in real if text}
    return all(text in captions for _, text in pictures)


def _read_scores(path: Path) -> dict[str, Any]:
    """Scores that may be absent, without the paths of images among them: the author of the file
    chose these."""
    record = read_record(path, _SCORES) if path.is_file() else {}
    record.pop("examples", None)
    return record


def _read_job(path: Path) -> dict[str, Any]:
    """The record of a generation, which may be absent."""
    return read_maker(path) if path.is_file() else {}
