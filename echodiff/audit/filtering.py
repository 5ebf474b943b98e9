"""Write a generated set without its copies of training frames, with its scores before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.copies import Copies, Reference, find_copies
from echodiff.audit.membership import Membership
from echodiff.audit.verdict import judge_images
from echodiff.documents import read_json
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.frames.reader import load_frames
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_image_u8, read_mask_u8
from echodiff.metrics.evaluation import score_measured
from echodiff.metrics.frame_features import Networks, measure_frames
from echodiff.published import SCORES, hash_images

MAKERS = ("generate.json", "translate.json")
SHOWN = ("value", "low", "high", "n")


def drop_copies(
    config: AuditConfig, copies: Copies, reference: Reference, membership: Membership | None
) -> dict[str, Any]:
    """Write --drop-copies; return the entry of the new set in privacy.json."""
    assert config.generated is not None
    assert config.drop_copies is not None
    out, frames = config.drop_copies, load_frames(config.generated)
    kept = [frame for frame, is_copy in zip(frames, copies.is_copy, strict=True) if not is_copy]
    if not kept:
        raise InputError(f"--drop-copies {out}: every image of {config.generated} is a copy")
    digest = hash_images(config.generated)
    with FramesWriter(
        out, overwrite=config.overwrite, fingerprint={"set": digest, "limit": copies.limit},
        inputs=[config.generated], beside=(*MAKERS, SCORES),
    ) as writer:  # fmt: skip
        for frame in kept:
            if frame.file_name in writer:
                continue
            mask = None
            if frame.mask_file_name is not None:
                mask = read_mask_u8(config.generated / frame.mask_file_name)
            writer.add(frame, read_image_u8(config.generated / frame.file_name), mask)
        for name in MAKERS:
            if (config.generated / name).is_file():
                record = read_json(config.generated / name)
                note = {"num_copies_dropped": copies.num_copies, "likeness_limit": copies.limit}
                write_json_atomic(out / name, record | note)
    before, after = score_sets(config, [config.generated, out], reference)
    write_json_atomic(out / SCORES, after)
    paths = [out / frame.file_name for frame in load_frames(out)]
    found = find_copies(paths, reference, str(out))
    verdict = judge_images(found, membership)
    return {
        "sha256": hash_images(out), "n": len(paths), "passed": verdict.passed,
        "verdict": verdict.text, "copies": found.to_record(), "num_dropped": copies.num_copies,
        "scores": {
            name: {side: {key: one["scores"][name].get(key) for key in SHOWN}
                   for side, one in (("before", before), ("after", after))}
            for name in before["scores"] if name in after["scores"] and name.startswith(
                ("mmd_", "kid_", "coverage_", "density_", "recall_", "copies_"))
        },
    }  # fmt: skip


def score_sets(
    config: AuditConfig, folders: Sequence[Path], reference: Reference
) -> list[dict[str, Any]]:
    """Scores of sets against the held-out frames, as `echodiff evaluate` gives them."""
    networks = Networks(tuple(reference.networks), ())
    read = partial(measure_frames, networks=networks.opened, white_level=reference.white_level)
    held_out = read(reference.others.paths, name="held-out frames")
    train = read(reference.everything.paths, name="training frames")
    scored = [
        score_measured(
            measure_frames(folder, networks=networks.opened, name=folder.name), held_out, networks,
            seed=config.seed, train=train,
        )
        for folder in folders
    ]  # fmt: skip
    return [json.loads(json.dumps(one)) for one in scored]
