"""What is imported before the first denoising step: nothing that only scoring or reading needs."""

import os

import pytest

LATER = {
    "av", "cleanfid", "datasets", "echodiff.evaluate", "echodiff.report", "imagehash", "matplotlib",
    "nibabel", "pandas", "phonenumbers", "pyarrow", "pydicom", "skimage.metrics", "tensorboard",
    "torchmetrics",
}  # fmt: skip
"""Packages that are only needed later, or by other commands. What diffusers and transformers import
by themselves (torch._dynamo, torchvision, scipy.stats) is not ours to leave out."""


@pytest.mark.skipif(os.name == "nt", reason="the benchmark reads the CPU time by resource")
def test_drawing_starts_without_what_only_scores_or_reads(load_benchmark):
    start = load_benchmark("start")
    loaded = set(start.measure(start.ROOT)["modules"])
    assert "torch" in loaded
    assert not loaded & LATER
