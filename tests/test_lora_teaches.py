"""What the whole tool rests on: captions teach a LoRA findings, and shuffled captions do not.

Each finding is in about as many of the frames as the base draws it unasked (a fifth): where ill
hearts were more common, shuffled captions would raise the share too, by teaching how common they
are.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from echodiff.anatomy import Finding
from echodiff.diffusion.base import load_base
from echodiff.diffusion.lora import load_lora
from echodiff.diffusion.sample import sample_images
from echodiff.frames import load_frames
from echodiff.metrics.faithfulness import compute_faithfulness
from echodiff.metrics.tiny_features import load_tiny_features
from echodiff.phantom.captions import findings_in
from echodiff.phantom.dataset import write_phantom_frames

TAUGHT = (Finding.ASD, Finding.LVH, Finding.DILATED_LV)
PROMPTS = (
    "ASD, secundum, in the middle of the atrial septum, walls not thickened, "
    "4-chamber position, end of diastole, echocardiogram of the adult",
    "LVH, left ventricular walls thickened, cavity narrow, septa intact without defects, "
    "4-chamber position, end of diastole, echocardiogram of the adult",
    "dilated left ventricle, septa intact without defects, walls not thickened, "
    "4-chamber position, end of diastole, echocardiogram of the adult",
)
NUM_IMAGES = 96


@pytest.fixture(scope="module")
def frames_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("teach") / "frames"
    write_phantom_frames(
        out,
        num=480,
        seed=5,
        size=128,
        styles=("cedar",),
        findings=TAUGHT,
        finding_rate=0.5,
        child_rate=0.0,
        splits=(1, 0, 0),
        progress=False,
    )
    return out


def shuffle_captions(folder: Path) -> None:
    rows = [frame.to_row() for frame in load_frames(folder)]
    order = np.random.default_rng(0).permutation(len(rows))
    texts = [rows[i]["text"] for i in order]
    shuffled = [row | {"text": text} for row, text in zip(rows, texts, strict=True)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shuffled))


def found_share(run_dir: Path | None) -> float:
    """Mean over the findings taught of the share of images that show what their prompt names."""
    pipeline = load_base("tiny", torch.float32)
    if run_dir is not None:
        load_lora(pipeline, run_dir)
    drawn = dict(
        sample_images(
            pipeline,
            PROMPTS,
            seed=3,
            indices=range(NUM_IMAGES),
            steps=20,
            guidance=5,
            batch_size=16,
        )
    )
    judge = load_tiny_features()
    named = [findings_in(PROMPTS[i % len(PROMPTS)]) for i in range(NUM_IMAGES)]
    images = [drawn[i] for i in range(NUM_IMAGES)]
    result = compute_faithfulness(judge.findings(images), judge.thresholds, named)
    average = result.average_found()
    assert average is not None
    return average.value


@pytest.mark.slow
@pytest.mark.timeout(1800)
# Diffusers' solver hands a tensor to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_captions_teach_findings_and_shuffled_captions_do_not(frames_folder, train_lora, tmp_path):
    flags = ("--config", "demo", "--base", "tiny", "--data", frames_folder)
    train_lora(*flags, "--out", tmp_path / "true")
    shuffle_captions(frames_folder)
    train_lora(*flags, "--out", tmp_path / "shuffled")
    base, true, shuffled = map(found_share, (None, tmp_path / "true", tmp_path / "shuffled"))
    assert true - base >= 0.3, (base, true, shuffled)
    assert shuffled - base < 0.15, (base, true, shuffled)
    assert true - shuffled >= 0.3, (base, true, shuffled)
