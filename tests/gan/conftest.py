"""Two toy domains, a folder with masks, and the real command in this process."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.images import write_mask


def write_toy_domain(
    folder: Path,
    *,
    count: int = 6,
    size: int = 40,
    stripes: int = 0,
    with_masks: bool = False,
    colour: bool = False,
    **columns: object,
) -> Path:
    """Frames of soft blobs, one a patient; with `stripes` the blob has that many across it."""
    rng = np.random.default_rng(stripes)
    rows = []
    for index in range(count):
        y, x = np.mgrid[:size, :size] / size - 0.5
        radius = x**2 + (y - 0.03 * index) ** 2
        image = 220 * np.exp(-12 * radius) * (1 - 0.5 * (np.sin(stripes * 9 * y) > 0.5))
        image_u8 = (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
        if colour:
            image_u8 = np.stack([image_u8, image_u8 // 2, image_u8 // 4], axis=-1)
        name = f"images/{index:04d}.png"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_u8).save(folder / name)
        row = {"file_name": name, "text": f"blob {index}", "patient_id": f"p{index}",
               "pair_id": f"pair-{index}"}  # fmt: skip
        if with_masks:
            mask = (radius < 0.09).astype(np.uint8) * 2
            mask[radius < 0.05] = 1
            mask[y > 0.3] = 3
            write_mask(folder / "masks" / f"{index:04d}.png", mask)
            row["mask_file_name"] = f"masks/{index:04d}.png"
        rows.append(row | columns)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def write_domain() -> Callable[..., Path]:
    """`write_domain(folder, count=6, size=40, stripes=0, with_masks=False, colour=False, ...)`."""
    return write_toy_domain


@pytest.fixture
def domains(tmp_path: Path) -> list[str]:
    """`--source` and `--target` of two toy domains: pseudo images, and echoes with stripes."""
    source = write_toy_domain(
        tmp_path / "pseudo", modality="pseudo", with_masks=True, spacing_mm=2.0
    )
    target = write_toy_domain(tmp_path / "echo", stripes=3, count=7, modality="echo")
    return ["--source", str(source), "--target", str(target)]


@pytest.fixture
def echodiff(fresh_accelerate: Callable[[], None]) -> Callable[..., int]:
    """`echodiff("train-gan", "--source", ...)` runs the real command; its exit status."""

    def run(*words: object) -> int:
        fresh_accelerate()
        return main([*map(str, words), "--threads", "1"])

    return run


@pytest.fixture
def refusal(echodiff: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refusal("train-gan", ...)` -> the one line of a command that ends with status 2."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert echodiff(*words) == 2
        printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
        lines = [line for line in printed if line.strip() and not re.search(r"/s[)\]]|\?", line)]
        assert len(lines) == 1, lines
        assert "error: " in lines[0]
        return lines[0]

    return run


@pytest.fixture
def toy_flags() -> dict[str, list[object]]:
    """Flags that make each method small; `cyclegan_batch` has batch norms."""
    toy = ["--width", 2, "--resolution", 32, "--load-size", 36, "--pool-size", 3]
    return {
        "cyclegan": [*toy, "--generator", "resnet_6"],
        "cyclegan_batch": [*toy, "--generator", "resnet_6", "--norm", "batch", "--batch-size", 2],
        "cut": [*toy, "--generator", "resnet_6_antialiased"],
        "patch_cgan": [*toy, "--generator", "patch_cgan", "--source-kind", "mask",
                       "--batch-size", 2, "--resolution", 128, "--load-size", 132],
        "regression": [*toy, "--generator", "cnn", "--pairing", "paired"],
        "srgan": [*toy, "--generator", "srgan_x2", "--batch-size", 2],
    }  # fmt: skip
