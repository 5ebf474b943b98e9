"""Write the upload folder: a fixed list of files, built from the run."""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from echodiff import __version__
from echodiff.contact_sheet import contact_sheet
from echodiff.data.labels import read_labels
from echodiff.documents import read_json
from echodiff.errors import InputError
from echodiff.files import PARTIAL_PREFIX, write_json_atomic, write_text_atomic
from echodiff.frames.maker import MASK_SOURCE
from echodiff.frames.rows import Frame
from echodiff.hub.licences import Base
from echodiff.hub.source import Generated, Trained
from echodiff.images import read_image_u8, write_image
from echodiff.published import CONFIG, MANIFEST, PRIVACY, SCORES, SHEET
from echodiff.runs import RECORD, sha256_file
from echodiff.settings.fields import yaml_line

SHEET_IMAGES = 12
SHEET_COLUMNS = 4
_TOKEN = re.compile("[0-9a-f]{16}")
_STAYS = frozenset({
    "out", "data", "overwrite", "tracker", "threads", "memory", "checkpoint_every", "keep",
    "lora", "segmenter",
})  # fmt: skip
"""Settings of the machine and its paths, which do not affect the weights."""
_RECORD_KEYS = (
    "command", "base_sha256", "resolution", "mixed_precision", "num_captioned", "num_null_text",
    "weights_sha256", "versions", "kind", "labels", "lora", "lora_scale",
    "differential_privacy",
)  # fmt: skip
_COLUMNS = frozenset({
    "file_name", "mask_file_name", "text", "view", "phase", "modality", "source", MASK_SOURCE,
    "findings", "prompt", "seed", "weights", "settings",
})  # fmt: skip
"""Columns of a generated frame that are published; others are left out."""


@contextmanager
def folder_written_beside(out: Path) -> Iterator[Path]:
    """Yield a hidden sibling of `out` to fill, which replaces `out` when the block ends well.

    An earlier push or pull is replaced; other files in `out` are an InputError. The caller holds
    the lock next to `out`, so siblings left by a killed process are removed.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"--out {out}: exists and is not a folder")
    if strange := _find_strange(out):
        raise InputError(f"--out {out}: holds {strange}, which was not written by a push or pull")
    prefix = f"{PARTIAL_PREFIX}{out.name}-"
    for left in out.parent.glob(f"{glob.escape(prefix)}*"):
        if _TOKEN.fullmatch(left.name.removeprefix(prefix)) and not left.is_symlink():
            shutil.rmtree(left)
    scratch = out.with_name(prefix + secrets.token_hex(8))
    partial, old = scratch / "new", scratch / "old"
    scratch.mkdir(0o700)
    try:
        partial.mkdir()
        yield partial
        if out.exists():
            os.replace(out, old)
        os.replace(partial, out)
    finally:
        shutil.rmtree(scratch)


def _find_strange(out: Path) -> str | None:
    """Return a file in `out` that no push or pull wrote, or None."""
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if not p.is_dir()}
    written = {MANIFEST}
    if MANIFEST in names:
        with suppress(ValueError, KeyError, TypeError):
            written.update(read_json(out / MANIFEST)["files"])
    return min(names - written, default=None)


def write_model(
    folder: Path,
    trained: Trained,
    base: Base,
    generated: Generated | None,
    privacy: dict[str, Any] | None,
) -> None:
    """Write everything of a model except its card and its manifest."""
    for name in trained.files:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(trained.run.run_dir / name, folder / name)
    lines = [yaml_line(key, value) for key, value in public_config(trained, base).items()]
    write_text_atomic(folder / CONFIG, "".join(lines))
    record = {key: trained.run.record[key] for key in _RECORD_KEYS if key in trained.run.record}
    if name := base_name(base):
        record["base"] = name
    num_held_out = len(trained.run.record.get("held_out", []))
    write_json_atomic(
        folder / RECORD, record | {"status": "finished", "num_held_out": num_held_out}
    )
    if generated is not None:
        write_json_atomic(folder / SCORES, public_metrics(generated))
        write_sheet(folder / SHEET, generated)
    if privacy is not None:
        write_json_atomic(folder / PRIVACY, privacy)


def write_dataset(folder: Path, generated: Generated) -> None:
    """Write everything of a generated set except its card and its manifest."""
    lines = []
    for frame in generated.frames:
        row = {key: value for key, value in frame.to_row().items() if key in _COLUMNS}
        lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        # Decoded and written again, so that only pixels are published.
        write_image(folder / frame.file_name, read_image_u8(generated.folder / frame.file_name))
        if name := frame.mask_file_name:
            write_image(folder / name, read_labels(generated.folder / name, None))
    write_text_atomic(folder / "metadata.jsonl", "".join(lines))
    write_json_atomic(folder / SCORES, public_metrics(generated))
    write_sheet(folder / SHEET, generated)


def write_manifest(folder: Path, kind: str) -> dict[str, str]:
    """Write the hashes of all other files; return them and the hash of the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
    manifest = {"kind": kind, "echodiff": __version__, "files": hashes}
    write_json_atomic(folder / MANIFEST, manifest)
    return hashes | {MANIFEST: sha256_file(folder / MANIFEST)}


def write_sheet(path: Path, generated: Generated) -> None:
    """Draw the contact sheet of samples."""
    frames = choose_samples(generated.frames)
    sheet = contact_sheet(
        [read_image_u8(generated.folder / frame.file_name) for frame in frames],
        columns=SHEET_COLUMNS,
        labels=[f"{number}" for number in range(1, len(frames) + 1)],
        cell=256,
    )
    write_image(path, sheet)


def choose_samples(frames: list[Frame]) -> list[Frame]:
    """Choose the frames of the sheet: the first of every prompt, then others in order."""
    first = {frame.text: frame for frame in reversed(frames)}
    rest = [frame for frame in frames if frame is not first[frame.text]]
    of_prompts = [frame for frame in frames if frame is first[frame.text]]
    return [*of_prompts, *rest][:SHEET_IMAGES]


def base_name(base: Base) -> str:
    """Return the base as `--base` takes it on any machine; empty for a local folder."""
    return "tiny" if base.is_embedded else base.model


def public_config(trained: Trained, base: Base) -> dict[str, Any]:
    """Return the settings without those of this machine."""
    config = {
        key: _without_folder(value)
        for key, value in trained.config.items()
        if key not in _STAYS and key != "base"
    }
    return ({"base": name} if (name := base_name(base)) else {}) | config


def public_metrics(generated: Generated) -> dict[str, Any]:
    """Return scores, alarms and the settings of the set, without paths."""
    metrics, job = generated.metrics, generated.job
    return {
        "weights_sha256": job["weights_sha256"],
        "scores": {
            # Values of single images stay here: so many numbers could be an image.
            name: {key: value for key, value in score.items() if key != "values"}
            for name, score in metrics["scores"].items()
        },
        "alarms": metrics.get("alarms", []),
        "reference": reference_text(generated),
        "seed": metrics.get("seed"),
        "drawn": {
            **job["settings"],
            "num_images": len(generated.frames),
            "seed": job["config"].get("seed"),
            "num_prompts": len({frame.text for frame in generated.frames}),
        },
        "versions": metrics.get("versions", {}),
    }


def reference_text(generated: Generated) -> str:
    """Describe what the set was scored against, without a path."""
    text = str(generated.job.get("reference", ""))
    count, _, rest = text.partition(" ")
    for kind in ("held-out frames", "phantom frames"):
        if rest.startswith(kind):
            return f"{count} {kind}"
    return f"{count} frames" if count.isdigit() else "frames of an unnamed set"


def _without_folder(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_folder(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and "/" in value else value
