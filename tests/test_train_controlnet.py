"""`echodiff train-controlnet` at toy size: its files, its resume, plain diffusers, its refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from echodiff.diffusion.base import load_base
from echodiff.diffusion.command import main
from echodiff.diffusion.condition import Channels, one_hot
from echodiff.diffusion.mask_files import load_masked
from echodiff.diffusion.mask_networks import KINDS, build_masked
from echodiff.diffusion.sampling.mask_control import MaskControl
from echodiff.diffusion.sampling.sampler import draw_noise, sample_images
from echodiff.diffusion.sampling.schedulers import build_scheduler
from echodiff.published import MASK_FILES
from echodiff.runs import Run

pytestmark = pytest.mark.filterwarnings(
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

Train = Callable[..., Path]
CHANNELS = ["BACKGROUND", "LV", "LV_MYOCARDIUM", "LA"]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory, masked_frames: ModuleType) -> Path:
    folder: Path = masked_frames.write_masked_frames(tmp_path_factory.mktemp("masked") / "frames")
    return folder


@pytest.fixture
def train(
    tiny_random_base: Path, masked: Path, tmp_path: Path, fresh_accelerate: Callable[[], None]
) -> Train:
    """`train("name", "--kind", ...)` trains a few steps on the toy base; returns the run folder."""

    def run(name: str, *flags: object, data: Path = masked) -> Path:
        fresh_accelerate()
        main(
            [
                *("--base", str(tiny_random_base), "--threads", "1", "--data", str(data)),
                *("--out", str(tmp_path / name), "--obedience-images", "0", *map(str, flags)),
            ]
        )
        return tmp_path / name

    return run


def digest_of(folder: Path, kind: Any) -> list[bytes]:
    return [(folder / name).read_bytes() for name in MASK_FILES[kind]]


@pytest.fixture(scope="module")
def numbers(masked_frames: ModuleType) -> np.ndarray:
    """Two masks as channel numbers (2, 32, 32)."""
    channels = Channels.of_names(CHANNELS, "test")
    return np.stack([channels.number(masked_frames.draw_mask(i, 32)) for i in range(2)])


def draw(run_dir: Path, base: Path, kind: Any, numbers: np.ndarray, **settings: Any) -> np.ndarray:
    """Draw two images by our sampler for two masks, without guidance."""
    pipeline = load_base(str(base), torch.float32)
    network = load_masked(run_dir, kind, pipeline.unet, num_channels=4, factor=4)
    control = MaskControl(network, lambda i, _side: numbers[i], settings.pop("scale", 1.0))
    options = {"seed": 3, "indices": range(2), "steps": 3, "guidance": 1.0} | settings
    images = dict(sample_images(pipeline, ["ASD", "LVH"], control=control, **options))
    return np.stack([images[0], images[1]]).astype(int)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_saved_and_resumed_to_the_last_bit(
    train: Train, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--kind", kind, "--batch-size", 4, "--checkpoint-every", 2, "--log-every", 1]
    flags += ["--ema-decay", 0.9, "--held-out-every", 2]
    whole = train("whole", *flags, "--max-steps", 4)
    record = Run.load(whole).record
    assert (record["command"], record["kind"]) == ("train-controlnet", kind)
    assert record["labels"] == CHANNELS
    found = {p.relative_to(whole).as_posix() for p in whole.rglob("*.safetensors")}
    weights = {name for name in found if not name.startswith("checkpoints/")}
    assert weights == {name for name in MASK_FILES[kind] if name.endswith(".safetensors")}

    from echodiff.training import loop

    real = loop.save_checkpoint

    def stop_after(*args: Any, **kwargs: Any) -> Path:
        real(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", stop_after)
        with pytest.raises(KeyboardInterrupt):
            train("halves", *flags, "--max-steps", 4)
    halves = train("halves", *flags, "--max-steps", 4)
    assert digest_of(halves, kind) == digest_of(whole, kind)
    losses = [
        [row for row in Run.load(run_dir).read_metrics() if "loss" in row]
        for run_dir in (whole, halves)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def trained(network: Any, seed: int = 5) -> None:
    """Random weights in place of the zeros that a branch starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.fixture(params=KINDS)
def saved(
    request: pytest.FixtureRequest, tiny_random_base: Path, tmp_path: Path
) -> tuple[Any, Path]:
    """A kind, and a folder with weights of it that change the image."""
    from echodiff.diffusion.mask_files import save_masked

    kind = request.param
    unet = load_base(str(tiny_random_base), torch.float32).unet
    network, _ = build_masked(kind, unet, num_channels=4, factor=4, rank=4, alpha=8.0, seed=0)
    trained(network)
    save_masked(tmp_path / "run", kind, network, rank=4, alpha=8.0)
    return kind, tmp_path / "run"


def test_our_images_are_those_of_the_plain_pipeline_of_diffusers(
    saved: tuple[Any, Path], tiny_random_base: Path, numbers: np.ndarray
) -> None:
    kind, run_dir = saved
    ours = draw(run_dir, tiny_random_base, kind, numbers)
    bare = draw(run_dir, tiny_random_base, kind, numbers, scale=0.0)
    assert np.abs(ours - bare).max() > 5
    if kind == "concat":
        return
    theirs = draw_by_diffusers(run_dir, tiny_random_base, kind, numbers)
    assert np.abs(ours - theirs).max() <= 1


def draw_by_diffusers(run_dir: Path, base: Path, kind: Any, numbers: np.ndarray) -> np.ndarray:
    """The same two images by the pipelines that the documentation names."""
    from diffusers import (
        ControlNetModel,
        StableDiffusionAdapterPipeline,
        StableDiffusionControlNetPipeline,
        T2IAdapter,
    )

    plain = load_base(str(base), torch.float32)
    plain.scheduler = build_scheduler("dpmpp", plain)
    folder = run_dir / Path(MASK_FILES[kind][0]).parent
    if kind == "t2i-adapter":
        adapter = T2IAdapter.from_pretrained(folder)
        parts = {name: part for name, part in plain.components.items() if name != "image_encoder"}
        pipeline: Any = StableDiffusionAdapterPipeline(
            **parts, adapter=adapter, requires_safety_checker=False
        )
    else:
        if kind == "controlnet":
            controlnet = ControlNetModel.from_pretrained(folder)
        else:
            config = json.loads((folder / "config.json").read_text())
            controlnet = ControlNetModel.from_unet(
                plain.unet,
                conditioning_channels=config["conditioning_channels"],
                conditioning_embedding_out_channels=config["conditioning_embedding_out_channels"],
            )
            controlnet.load_lora_adapter(
                str(folder), weight_name="control_lora.safetensors", prefix=None
            )
        pipeline = StableDiffusionControlNetPipeline(**plain.components, controlnet=controlnet)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        ["ASD", "LVH"],
        image=one_hot(torch.from_numpy(numbers[:, None]), 4, torch.float32),
        num_inference_steps=3,
        guidance_scale=1.0,
        latents=torch.stack([draw_noise(3, i, (4, 8, 8)) for i in range(2)]),
        height=32,
        width=32,
        output_type="latent",
    ).images
    with torch.no_grad():
        decoded = plain.vae.decode(drawn / plain.vae.config.scaling_factor).sample
    images_01 = (decoded / 2 + 0.5).clamp(0, 1).mean(dim=1)
    return (images_01 * 255).round().numpy().astype(int)
