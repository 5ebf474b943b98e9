"""What the whole tool rests on: captions teach a LoRA findings, and shuffled captions do not.

Each finding is in about as many of the frames as the base draws it unasked (a fifth): where ill
hearts were more common, shuffled captions would raise the share too, by teaching how common they
are.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from echodiff.anatomy import Finding
from echodiff.captions.findings import read_findings
from echodiff.diffusion.base import load_base
from echodiff.diffusion.lora import load_lora
from echodiff.diffusion.sampling.sampler import sample_images
from echodiff.frames.reader import load_frames
from echodiff.images import read_gray_u8
from echodiff.metrics.faithfulness import compute_faithfulness
from echodiff.metrics.features import load_features
from echodiff.metrics.kernel import build_rbf_kernel, compute_bandwidth, compute_mmd2
from echodiff.metrics.tiny_features import load_tiny_features
from echodiff.phantom.acquisition import Population, render, sample_acquisition
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


@pytest.fixture(scope="module")
def drawn(frames_folder, tmp_path_factory):
    """Images of the base, of a LoRA with true captions, and of one with shuffled ones."""
    place = tmp_path_factory.mktemp("runs")
    flags = ("--config", "demo", "--base", "tiny", "--data", frames_folder)
    train_lora(*flags, "--out", place / "true")
    shuffle_captions(frames_folder)
    train_lora(*flags, "--out", place / "shuffled")
    return {name: draw(run_dir) for name, run_dir in (
        ("base", None), ("true", place / "true"), ("shuffled", place / "shuffled")
    )}  # fmt: skip


def train_lora(*flags: object) -> None:
    """The real script in a process of its own."""
    script = Path(__file__).parent.parent / "train_lora.py"
    subprocess.run([sys.executable, str(script), *map(str, flags)], check=True)


def draw(run_dir: Path | None) -> list[np.ndarray]:
    """NUM_IMAGES images for PROMPTS in turn, the same noise for every model."""
    pipeline = load_base("tiny", torch.float32)
    if run_dir is not None:
        load_lora(pipeline, run_dir)
    images = dict(
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
    return [images[i] for i in range(NUM_IMAGES)]


def found_share(images: list[np.ndarray]) -> float:
    """Mean over the findings taught of the share of images that show what their prompt names."""
    judge = load_tiny_features()
    stated = [read_findings(PROMPTS[i % len(PROMPTS)]) for i in range(NUM_IMAGES)]
    result = compute_faithfulness(judge.findings(images), judge.thresholds, stated)
    average = result.average_found()
    assert average is not None
    return average.value


# Diffusers' solver hands a tensor to numpy.
SOLVER = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@SOLVER
def test_captions_teach_findings_and_shuffled_captions_do_not(drawn):
    base, true, shuffled = (found_share(drawn[name]) for name in ("base", "true", "shuffled"))
    assert true - base >= 0.3, (base, true, shuffled)
    assert shuffled - base < 0.15, (base, true, shuffled)
    assert true - shuffled >= 0.3, (base, true, shuffled)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@SOLVER
@pytest.mark.parametrize("features", ["tiny", "texture"])
def test_real_is_nearer_than_the_lora_and_that_than_the_base_and_that_than_noise(
    drawn, frames_folder, features
):
    network = load_features(features)
    population = Population(styles=("cedar",), findings=TAUGHT, finding_rate=0.5, child_rate=0.0)
    others = [render(sample_acquisition(77, i, population), "echo", 128) for i in range(NUM_IMAGES)]
    noise = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 128, 128), dtype=np.uint8)
    real = network([read_gray_u8(frames_folder / f.file_name) for f in load_frames(frames_folder)])
    kernel = build_rbf_kernel(compute_bandwidth(real))
    distances = [
        compute_mmd2(network(images), real, kernel)
        for images in (others, drawn["true"], drawn["base"], list(noise))
    ]
    assert distances == sorted(distances), distances
