"""`echodiff train-controlnet` at toy size: its files, its resume, plain diffusers, its refusals."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from echodiff.diffusion.base import load_base
from echodiff.diffusion.command import main
from echodiff.diffusion.condition import Channels, one_hot
from echodiff.diffusion.controlnet_config import TrainControlNetConfig
from echodiff.diffusion.dataset import load_set
from echodiff.diffusion.mask_files import load_masked
from echodiff.diffusion.mask_networks import KINDS, build_masked
from echodiff.diffusion.sampling.mask_control import MaskControl
from echodiff.diffusion.sampling.sampler import draw_noise, sample_images
from echodiff.diffusion.sampling.schedulers import build_scheduler
from echodiff.published import MASK_FILES
from echodiff.runs import Run
from echodiff.settings.command_line import run_main

pytestmark = pytest.mark.filterwarnings(
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

Train = Callable[..., Path]
SLOW = pytest.mark.slow
OTHERS = ("control-lora", "t2i-adapter")
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


# All four are trained in tests/hub/test_push_masks.py and tests/diffusion/test_condition.py.
@pytest.mark.parametrize(
    "kind", ["controlnet", "concat", *(pytest.param(one, marks=SLOW) for one in OTHERS)]
)
def test_a_kind_is_trained_saved_and_resumed_to_the_last_bit(
    train: Train, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--kind", kind, "--batch-size", 4, "--checkpoint-every", 2, "--log-every", 1]
    flags += ["--ema-decay", 0.9, "--held-out-every", 2, "--augment", 2]
    whole = train("whole", *flags, "--max-steps", 4)
    record = Run.load(whole).record
    assert (record["command"], record["kind"]) == ("train-controlnet", kind)
    assert record["labels"] == CHANNELS
    found = {p.relative_to(whole).as_posix() for p in whole.rglob("*.safetensors")}
    weights = {name for name in found if not name.startswith("checkpoints/")}
    assert weights == {name for name in MASK_FILES[kind] if name.endswith(".safetensors")}
    if kind == "controlnet":  # two halvings, as of a VAE of 4
        config = json.loads((whole / "controlnet" / "config.json").read_text())
        assert config["conditioning_embedding_out_channels"] == [16, 32, 96]

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


def draw_by_diffusers(
    run_dir: Path, base: Path, kind: Any, numbers: np.ndarray, side: int = 32, steps: int = 3
) -> np.ndarray:
    """The same two images by the pipelines that the documentation names."""
    from diffusers import (
        ControlNetModel,
        StableDiffusionAdapterPipeline,
        StableDiffusionControlNetPipeline,
        T2IAdapter,
    )

    plain = load_base(str(base), torch.float32)
    factor = plain.vae_scale_factor
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
        num_inference_steps=steps,
        guidance_scale=1.0,
        latents=torch.stack(
            [draw_noise(3, i, (4, side // factor, side // factor)) for i in range(2)]
        ),
        height=side,
        width=side,
        output_type="latent",
    ).images
    with torch.no_grad():
        decoded = plain.vae.decode(drawn / plain.vae.config.scaling_factor).sample
    images_01 = (decoded / 2 + 0.5).clamp(0, 1).mean(dim=1)
    return (images_01 * 255).round().numpy().astype(int)


# --- What else a training has ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["concat", pytest.param("control-lora", marks=SLOW)])
def test_in_16_bit_grids_are_drawn_with_masks_and_what_is_trained_stays_float32(
    train: Train, kind: str
) -> None:
    out = train("run", "--kind", kind, "--mixed-precision", "bf16", "--max-steps", 1,
                "--sample-every", 1, "--sample-steps", 1, "--num-samples", 2,
                "--obedience-images", 2, "--checkpoint-every", 1)  # fmt: skip
    sheet = np.asarray(Image.open(out / "samples" / "step-000001.png").convert("RGB")).astype(int)
    assert (sheet.max(axis=2) - sheet.min(axis=2)).max() > 50  # masks stand above, in colour
    (weights,) = (name for name in MASK_FILES[kind] if name.endswith(".safetensors"))
    state = out / "checkpoints" / "step-000001" / "tensors.safetensors"
    for path in (out / weights, state):
        kinds = {values.dtype for values in load_file(path).values()}
        assert kinds <= {torch.float32, torch.int64}, (path, kinds)
    rows = [row for row in Run.load(out).read_metrics() if "drawn_dice_real" in row]
    assert [row["step"] for row in rows] == [0, 1]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"--masks DIR --weights {out}" in page
    assert "asked for and drawn" in page


def test_a_lora_underneath_is_kept_with_the_run_and_its_frames_are_remembered(
    train: Train, tiny_random_base: Path, toy_frames: Path, tmp_path: Path,
    train_lora: Callable[..., None],
) -> None:  # fmt: skip
    train_lora("--data", toy_frames, "--out", tmp_path / "lora", "--max-steps", 1)
    out = train("run", "--kind", "t2i-adapter", "--lora", tmp_path / "lora", "--max-steps", 1)
    name = "pytorch_lora_weights.safetensors"
    assert (out / "lora" / name).read_bytes() == (tmp_path / "lora" / name).read_bytes()
    record = Run.load(out).record
    assert (record["lora"], record["lora_scale"]) == (f"lora/{name}", 1.0)
    theirs = Run.load(tmp_path / "lora").record["trained_on"]
    assert set(theirs["pixels"]) < set(record["trained_on"]["pixels"])


def test_labels_can_be_left_out_and_a_map_read(train: Train, tmp_path: Path, masked: Path) -> None:
    out = train("one", "--kind", "t2i-adapter", "--labels", "lv,LA", "--max-steps", 1)
    assert Run.load(out).record["labels"] == ["BACKGROUND", "LV", "LA"]
    flags = ["--kind", "concat", "--mask-labels", "1=LV,2=RV,3=BACKGROUND", "--max-steps", 1]
    out = train("two", *flags)
    assert Run.load(out).record["labels"] == ["BACKGROUND", "LV", "RV"]


def test_what_cannot_be_trained_on_is_refused_in_one_line(
    train: Train, masked: Path, toy_frames: Path, other_random_base: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refusal(*flags: object, data: Path = masked) -> str:
        capsys.readouterr()
        assert run_main(lambda: train("no", *flags, data=data) and None, "train-controlnet") == 2
        assert not (tmp_path / "no").exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    def change(name: str, mask: Image.Image, suffix: str = "png") -> Path:
        folder = tmp_path / name
        shutil.copytree(masked, folder)
        (folder / "masks" / "0000.png").unlink()
        mask.save(folder / "masks" / f"0000.{suffix}")
        rows = (folder / "metadata.jsonl").read_text()
        (folder / "metadata.jsonl").write_text(
            rows.replace("masks/0000.png", f"masks/0000.{suffix}")
        )
        return folder

    assert "none of its 12 frames has a mask" in refusal(data=toy_frames)
    small = Image.fromarray(np.ones((16, 32), np.uint8))
    assert "is 32x16, its image 32x32" in refusal(data=change("small", small))
    colour = Image.new("RGB", (32, 32), (255, 0, 0))
    assert "this one is in colour" in refusal(data=change("colour", colour))
    grey = Image.fromarray(np.ones((32, 32), np.uint8))
    assert "JPEG changes the numbers" in refusal(data=change("lossy", grey, "jpg"))
    assert "--labels RV: no mask in" in refusal("--labels", "RV,LV")
    assert "--labels HEART: not one of" in refusal("--labels", "HEART")
    assert "--init-from" in refusal("--init-from", masked)
    assert "--kind" in refusal("--kind", "spade")
    assert "--lora-scale 0.5: there is no --lora" in refusal("--lora-scale", 0.5)
    assert "--lora" in refusal("--lora", tmp_path / "nowhere")
    # An empty mask is a frame without labels; of none but such nothing can be learned.
    empty = tmp_path / "empty"
    shutil.copytree(masked, empty)
    for path in (empty / "masks").iterdir():
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    assert "its masks hold background alone" in refusal(data=empty)


def test_few_pairs_are_told(
    tmp_path: Path, masked_frames: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    few = masked_frames.write_masked_frames(tmp_path / "few", num=6)
    load_set(TrainControlNetConfig(), few)
    assert "6 frames have a mask: with fewer than 10, masks are hardly obeyed" in caplog.text


def test_the_memory_of_a_training_is_measured_and_nothing_written(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("run", "--kind", "concat", "--memory")
    assert "a training step" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


# --- Full size ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", MASK_FILES)
def test_sd_15_takes_a_step_draws_an_image_and_opens_in_plain_diffusers(
    kind: Any, full_size_base: Path, masked_frames: ModuleType, tmp_path: Path,
    fresh_accelerate: Callable[[], None], load_benchmark: Callable[[str], ModuleType],
) -> None:  # fmt: skip
    """Random weights in the sizes of SD 1.5, at 256 pixels, through the real commands."""
    frames = masked_frames.write_masked_frames(tmp_path / "frames", num=12)
    out = tmp_path / "run"
    main(
        [
            *("--base", str(full_size_base), "--data", str(frames), "--kind", kind),
            *("--resolution", "256", "--batch-size", "1", "--max-steps", "1", "--out", str(out)),
            *("--obedience-images", "0", "--held-out-frames", "0", "--checkpoint-every", "0"),
        ]
    )
    assert Run.load(out).is_finished
    if kind != "concat":
        numbers = np.stack([masked_frames.draw_mask(i, 256) for i in range(2)])
        shapes = {"side": 256, "steps": 1}
        assert draw_by_diffusers(out, full_size_base, kind, numbers, **shapes).shape[1:] == (
            256, 256,
        )  # fmt: skip
    fresh_accelerate()
    load_benchmark("../generate").main(
        [
            *("--masks", str(frames), "--num-images", "1", "--weights", str(out), "--steps", "1"),
            *("--base", str(full_size_base), "--reference", str(frames), "--features", "texture"),
            *("--out", str(tmp_path / "drawn")),
        ]
    )
    assert (tmp_path / "drawn" / "images" / "000000.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["controlnet", "concat"])
def test_two_processes_train_and_draw_what_one_does(
    kind: str, tiny_random_base: Path, masked: Path, tmp_path: Path
) -> None:
    def launch(processes: int, *words: object) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node",
                   str(processes)] if processes > 1 else [sys.executable]  # fmt: skip
        done = subprocess.run(
            [*command, "-m", "echodiff", *map(str, words)], capture_output=True, text=True,
            timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    rows, images = [], []
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        launch(processes, "train-controlnet", "--base", tiny_random_base, "--data", masked,
               "--kind", kind, "--batch-size", 4, "--max-steps", 3, "--log-every", 1,
               "--threads", 1, "--obedience-images", 0, "--out", out)  # fmt: skip
        rows.append([row["loss"] for row in Run.load(out).read_metrics() if "loss" in row])
        drawn = tmp_path / f"drawn-{processes}"
        launch(processes, "generate", "--masks", masked, "--weights", tmp_path / "run-1",
               "--base", tiny_random_base, "--steps", 2, "--num-images", 5, "--reference", masked,
               "--features", "texture", "--out", drawn)  # fmt: skip
        paths = sorted([*(drawn / "images").iterdir(), *(drawn / "masks").iterdir()])
        images.append([(path.name, path.read_bytes()) for path in paths])
    assert rows[1] == pytest.approx(rows[0], rel=1e-4)
    assert len(images[0]) == 10
    assert [name for name, _ in images[0]] == [name for name, _ in images[1]]
