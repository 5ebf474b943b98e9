"""`generate.py` as a user runs it, on a random toy base."""

import errno
import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from echodiff.diffusion.base import base_sha256, load_base
from echodiff.diffusion.lora import KOHYA_NAME, PEFT_NAMES, add_lora, lora_state, save_lora
from echodiff.files import shipped
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.frames.writer import FramesWriter
from echodiff.runs import Run
from echodiff.settings.command_line import run_main

pytestmark = pytest.mark.filterwarnings(
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", shipped("generate.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, toy_frames: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a prompt file, twelve real frames and no run."""
    monkeypatch.chdir(tmp_path)
    toy_frames.rename(tmp_path / "real")
    (tmp_path / "two.txt").write_text("ASD, four chamber view\nLVH | guidance=2\n")
    return tmp_path


@pytest.fixture
def flags(place: Path, tiny_random_base: Path) -> list[str]:
    return [
        *("--prompt-file", "two.txt", "--base", str(tiny_random_base), "--weights", "none"),
        *("--num-images", "7", "--steps", "2", "--reference", "real", "--features", "texture"),
    ]


def read_images(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.name: np.asarray(Image.open(path)).astype(int)
        for path in sorted((folder / "images").iterdir())
    }


def assert_same_set(first: Path, second: Path, levels: int = 1) -> None:
    ours, theirs = read_images(first), read_images(second)
    assert list(ours) == list(theirs)
    for name, image in ours.items():
        assert np.abs(image - theirs[name]).max() <= levels


def write_run(
    folder: Path, base: Path, data: Path, *, scale: float = 0.5, alpha: float = 8.0
) -> Run:
    """A finished run whose adapter visibly changes the picture."""
    pipeline = load_base(str(base), torch.float32)
    add_lora(pipeline.unet, rank=4, alpha=alpha, seed=1)
    generator = torch.Generator().manual_seed(2)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * scale
        for name, tensor in lora_state(pipeline.unet).items()
    }
    run = Run.create(folder, command="train_lora", config={"base": str(base)})
    sha256 = save_lora(folder, state, rank=4, alpha=alpha)
    held_out = [frame.file_name for frame in load_frames(data)][:6]
    run.finish(
        base=str(base),
        data_dir=str(data),
        held_out=held_out,
        frames=hash_frames(data, load_frames(data)),
        base_sha256=base_sha256(str(base)),
        weights_sha256=sha256,
        resolution=32,
    )
    return run


# --- What comes out ---------------------------------------------------------------------------


def test_writes_a_frames_folder_a_sheet_and_scores(
    script: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    script.main([*flags, "--out", "set"])
    frames = load_frames(place / "set")
    assert sorted(path.name for path in (place / "set").iterdir()) == [
        "generate.json",
        "images",
        "metadata.jsonl",
        "metrics.json",
        "report.html",
        "sheet.png",
    ]
    assert [frame.file_name for frame in frames] == [f"images/{i:06d}.png" for i in range(7)]
    asd, lvh = "ASD, four chamber view", "LVH"
    assert [frame.prompt for frame in frames[:3]] == [asd, lvh, asd]
    assert frames[0].seed == 0
    settings = json.loads(frames[1].settings or "")
    assert settings["guidance"] == 2.0
    assert settings["steps"] == 2
    scores = json.loads((place / "set" / "metrics.json").read_text())["scores"]
    assert scores["fd_texture@7"]["n_reference"] == 12
    assert scores["fd_texture@7"]["floor"] is not None
    out = capsys.readouterr().out
    assert "scoring against 12 frames of real" in out
    assert "\n7 images by " in out
    assert out.splitlines()[-1].startswith("Report ")


def test_opens_as_a_hugging_face_imagefolder(
    script: ModuleType, place: Path, flags: list[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    script.main([*flags, "--out", "set"])
    rows = datasets.load_dataset(
        "imagefolder", data_dir=str(place / "set"), split="train", cache_dir=str(place / "cache")
    )
    assert len(rows) == 7
    assert rows[0]["image"].size == (32, 32)
    assert rows[1]["prompt"] == "LVH"


def test_same_images_for_any_batch_size(script: ModuleType, place: Path, flags: list[str]) -> None:
    script.main([*flags, "--out", "one", "--batch-size", "1"])
    script.main([*flags, "--out", "five", "--batch-size", "5"])
    script.main([*flags, "--out", "exact", "--exact"])
    assert_same_set(place / "one", place / "five")
    assert_same_set(place / "one", place / "exact")


def test_in_16_bit_it_says_how_far_a_batch_moves_an_image(
    script: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    script.main([*flags, "--mixed-precision", "bf16", "--out", "set"])
    assert "drift: an image drawn alone differs by up to " in capsys.readouterr().out


def test_fast_stands_for_a_solver_and_its_steps(
    script: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    where = flags.index("--steps")
    flags = flags[:where] + flags[where + 2 :]
    script.main([*flags, "--fast", "--out", "fast"])
    settings = json.loads(load_frames(place / "fast")[0].settings or "")
    assert (settings["scheduler"], settings["steps"]) == ("dpmpp-karras", 12)
    spelled = ["--scheduler", "dpmpp-karras", "--steps", "12"]
    script.main([*flags, *spelled, "--out", "spelled"])
    assert_same_set(place / "fast", place / "spelled", levels=0)
    reason = "--fast: chooses --scheduler itself"
    assert reason in fail(script, [*flags, "--fast", "--scheduler", "ddim"], capsys)


def test_what_cannot_be_compiled_is_drawn_all_the_same(
    script: ModuleType,
    place: Path,
    flags: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked_for = []

    def fail_to_compile(unet: object, **options: object) -> None:
        asked_for.append(options)
        raise RuntimeError("no compiler")

    monkeypatch.setattr("diffusers.UNet2DConditionModel.compile_repeated_blocks", fail_to_compile)
    script.main([*flags, "--compile", "regional", "--batch-size", "2", "--out", "compiled"])
    assert asked_for == [{"dynamic": False}]
    assert [record.message for record in caplog.records if "--compile" in record.message] == [
        "--compile regional: no compiled or captured UNet here, drawn without "
        "(RuntimeError: no compiler)"
    ]
    script.main([*flags, "--out", "plain"])
    assert len(asked_for) == 1
    assert_same_set(place / "compiled", place / "plain")


@pytest.mark.slow
def test_64_images_of_the_embedded_base_are_the_same_in_batches_of_8_and_5(
    script: ModuleType, place: Path
) -> None:
    flags = ["--prompt-file", str(shipped("prompts/asd.txt")), "--base", "tiny"]
    flags += ["--weights", "none", "--num-images", "64", "--steps", "4", "--features", "texture"]
    script.main([*flags, "--out", "eight"])
    script.main([*flags, "--out", "five", "--batch-size", "5"])
    assert len(read_images(place / "five")) == 64
    assert_same_set(place / "eight", place / "five")


def test_prompts_that_are_never_drawn_are_counted(
    script: ModuleType, place: Path, flags: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    many = [f"heart {number}" for number in range(9)]
    (place / "many.txt").write_text("\n".join([*many, "heart 0 | weight=3"]))
    flags = [*flags, "--prompt-file", "many.txt", "--num-images", "4"]
    script.main([*flags, "--out", "few"])
    line = "6 of 10 prompts are never drawn: --num-images 4 takes the first of the cycle"
    assert line in caplog.messages
    record = json.loads((place / "few" / "generate.json").read_text())
    assert record["prompts_not_drawn"] == [*many[4:], "heart 0"]
    caplog.clear()
    script.main([*flags, "--num-images", "10", "--out", "all"])
    assert not any("never drawn" in message for message in caplog.messages)
    assert json.loads((place / "all" / "generate.json").read_text())["prompts_not_drawn"] == []


def test_more_images_begin_with_the_same_ones(
    script: ModuleType, place: Path, flags: list[str]
) -> None:
    script.main([*flags, "--out", "few", "--num-images", "4"])
    script.main([*flags, "--out", "many", "--num-images", "9"])
    few, many = read_images(place / "few"), read_images(place / "many")
    for name, image in few.items():
        assert np.abs(image - many[name]).max() <= 1


def test_without_out_takes_the_next_free_name(
    script: ModuleType, place: Path, flags: list[str]
) -> None:
    script.main(flags)
    script.main(flags)
    assert sorted(path.name for path in (place / "generated").iterdir()) == ["two-1", "two-2"]


# --- Which model, which reference ---------------------------------------------------------------


def test_newest_finished_run_is_the_default(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(place / "runs" / "lora-1", tiny_random_base, place / "real")
    plain = ["--prompt-file", "two.txt", "--num-images", "7", "--steps", "2"]
    script.main([*plain, "--features", "texture", "--out", "tuned"])
    assert "scoring against 6 held-out frames of runs/lora-1" in capsys.readouterr().out
    assert load_frames(place / "tuned")[0].weights == run.record["weights_sha256"]
    script.main([*flags, "--out", "bare"])
    tuned, bare = read_images(place / "tuned"), read_images(place / "bare")
    assert np.abs(tuned["000000.png"] - bare["000000.png"]).max() > 1


def test_merged_adapter_draws_what_the_loaded_one_draws(
    script: ModuleType, place: Path, flags: list[str], tiny_random_base: Path
) -> None:
    write_run(place / "run", tiny_random_base, place / "real", alpha=2.0)
    script.main([*flags, "--weights", "run", "--out", "merged"])

    from echodiff.diffusion.sampling.prompts import load_prompts
    from echodiff.diffusion.sampling.sampler import sample_images

    pipeline = load_base(str(tiny_random_base), torch.float32)
    pipeline.load_lora_weights(str(place / "run"))
    drawn = sample_images(
        pipeline, load_prompts(place / "two.txt"), seed=0, indices=range(3), steps=2
    )
    merged = read_images(place / "merged")
    for index, image in drawn:
        assert np.abs(merged[f"{index:06d}.png"] - image).max() <= 1


@pytest.mark.parametrize(
    ("weights", "precision"),
    [("run", "no"), ("run", "bf16"), ("kohya.safetensors", "no"), ("peft", "no")],
)
def test_scale_0_is_the_bare_base_to_the_bit_and_1_the_adapter(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    weights: str,
    precision: str,
) -> None:
    write_run(place / "run", tiny_random_base, place / "real")
    shutil.copy(place / "run" / KOHYA_NAME, place / "kohya.safetensors")
    (place / "peft").mkdir()
    for name in PEFT_NAMES:
        shutil.copy(place / "run" / name, place / "peft" / name)
    flags = [*flags, "--num-images", "4", "--mixed-precision", precision]
    script.main([*flags, "--out", "bare"])
    flags += ["--weights", weights]
    script.main([*flags, "--out", "whole"])
    for scale in ("0", "0.5", "1"):
        script.main([*flags, "--lora-scale", scale, "--out", scale])
    assert_same_set(place / "0", place / "bare", levels=0)
    assert_same_set(place / "1", place / "whole", levels=0)
    sets = {name: read_images(place / name) for name in ("0", "0.5", "1")}
    changes = [abs(sets[name]["000000.png"] - sets["0"]["000000.png"]).mean() for name in sets]
    assert changes[0] < changes[1] < changes[2]

    record = json.loads((place / "0.5" / "generate.json").read_text())
    assert record["settings"]["lora_scale"] == record["config"]["lora_scale"] == 0.5
    settings = json.loads(load_frames(place / "0.5")[0].settings or "")
    assert (settings["lora_scale"], settings["guidance_interval"]) == (0.5, [0.0, 1.0])
    assert "at scale 0.5" in (place / "0.5" / "report.html").read_text(encoding="utf-8")
    bare = json.loads((place / "bare" / "generate.json").read_text())["settings"]
    assert bare["lora_scale"] is None


def test_a_scale_without_any_adapter_is_refused(
    script: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    without = [flag for flag in flags if flag not in ("--weights", "none")]
    message = fail(script, [*without, "--lora-scale", "0.5"], capsys)
    assert "--lora-scale 0.5: no finished run" in message
    assert not (place / "generated").exists()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_adapter_is_merged_before_any_rounding(
    place: Path, tiny_random_base: Path, precision: str
) -> None:
    from echodiff.diffusion.sampling.pipeline import load_model
    from echodiff.diffusion.sampling.settings import GenerateConfig

    write_run(place / "run", tiny_random_base, place / "real", alpha=2.0)
    config = GenerateConfig(
        prompt_file=Path("two.txt"), weights="run", mixed_precision=precision
    )  # fmt: skip
    unet = load_model(config, torch.device("cpu")).pipeline.unet
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    base = load_base(str(tiny_random_base), torch.float32).unet.get_submodule(name).weight
    state = load_file(place / "run" / "pytorch_lora_weights.safetensors")
    up, down = (state[f"unet.{name}.lora_{half}.weight"] for half in "BA")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.testing.assert_close(
        unet.get_submodule(name).weight, (base + 2.0 / 4.0 * up @ down).to(dtype)
    )
    assert {parameter.dtype for parameter in unet.parameters()} == {dtype}
    assert not any("lora" in key for key, _ in unet.named_modules())


def test_reference_may_be_a_run(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(place / "run", tiny_random_base, place / "real")
    script.main([*flags, "--reference", "run", "--out", "set"])
    assert "6 held-out frames of run" in capsys.readouterr().out


# --- Stopped and started again ------------------------------------------------------------------


def test_killed_and_started_again_ends_with_the_same_set(
    script: ModuleType, place: Path, flags: list[str], fork_script: Callable[..., list[Any]]
) -> None:
    flags = [*flags, "--num-images", "60", "--batch-size", "4", "--out", "set"]
    (process,) = fork_script("generate.py", flags)
    partial = place / "set" / "metadata.partial.jsonl"
    deadline = time.monotonic() + 120
    while not partial.is_file() or partial.read_bytes().count(b"\n") < 12:
        assert process.is_alive(), (place / "generate.py-0.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.join()
    num_before = partial.read_bytes().count(b"\n")
    assert 12 <= num_before < 60
    kept = {path: path.stat().st_mtime_ns for path in (place / "set" / "images").iterdir()}
    script.main(flags)
    assert sum(path.stat().st_mtime_ns == then for path, then in kept.items()) >= num_before
    script.main([*flags, "--out", "whole"])
    assert_same_set(place / "set", place / "whole")
    rows = (place / "set" / "metadata.jsonl").read_bytes()
    assert rows == (place / "whole" / "metadata.jsonl").read_bytes()


def test_unfinished_scoring_is_gone_on_with(
    script: ModuleType, place: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("echodiff.evaluate.score_frames", _interrupt)
        assert run_main(lambda: script.main(flags), "generate.py") == 130
    drawn = (place / "generated" / "two-1" / "images" / "000000.png").stat().st_mtime_ns
    script.main(flags)
    assert [path.name for path in (place / "generated").iterdir()] == ["two-1"]
    assert (place / "generated" / "two-1" / "metrics.json").is_file()
    assert (place / "generated" / "two-1" / "images" / "000000.png").stat().st_mtime_ns == drawn


def test_pictures_are_written_while_the_next_are_drawn(
    script: ModuleType, place: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from echodiff.diffusion.sampling import drawing as generation

    monkeypatch.setattr(generation, "WAITING_IMAGES", 5)
    third_batch, order, drawn, ahead = threading.Event(), [], [], []
    real_add, real_sample = FramesWriter.add, generation.Sampler.sample

    def sample(self: object, indices: list[int], attempt: int) -> object:
        for index, image in real_sample(self, indices, attempt):  # type: ignore[arg-type]
            drawn.append(index)
            if index == 4:
                third_batch.set()
            yield index, image

    def add(self: FramesWriter, *frame: object) -> object:
        assert third_batch.wait(60)
        time.sleep(0 if order else 1)  # time enough to draw all of them
        ahead.append(len(drawn) - len(order))
        order.append(frame[0].file_name)  # type: ignore[attr-defined]
        return real_add(self, *frame)  # type: ignore[arg-type]

    monkeypatch.setattr(generation.Sampler, "sample", sample)
    monkeypatch.setattr(FramesWriter, "add", add)
    script.main([*flags, "--num-images", "12", "--batch-size", "2", "--out", "set"])
    assert order == [f"{index:06d}.png" for index in range(12)]
    assert max(ahead) <= 6  # five wait to be written, and one to wait
    assert len(load_frames(place / "set")) == 12


def test_two_processes_draw_the_same_set(
    script: ModuleType, place: Path, flags: list[str], fork_script: Callable[..., list[Any]]
) -> None:
    script.main([*flags, "--out", "alone"])
    flags = [*flags, "--batch-size", "2", "--out", "shared"]
    processes = fork_script("generate.py", flags, num_processes=2)
    for process in processes:
        process.join(200)
    said = [(place / f"generate.py-{rank}.log").read_text() for rank in range(2)]
    assert [process.exitcode for process in processes] == [0, 0], said
    assert_same_set(place / "alone", place / "shared")
    assert len(load_frames(place / "shared")) == 7
    assert "".join(said).count("scoring against") == 1


# --- Bad input ----------------------------------------------------------------------------------


def fail(script: ModuleType, flags: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run, expect exit status 2 and one line, and return the line."""
    capsys.readouterr()
    assert run_main(lambda: script.main(flags), "generate.py") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--prompt-file", "missing.txt"], "--prompt-file missing.txt: no such file"),
        (["--prompt-file", "empty.txt"], "--prompt-file empty.txt: contains no prompt"),
        (["--num-images", "0"], "--num-images 0: must be 1 or more"),
        (["--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["--seed", "-1"], "--seed -1: must be 0 or more"),
        (["--seed", str(2**64)], "must be below 2^64"),
        (["--guidance", "nan"], "--guidance"),
        (["--guidance-interval", "0.5"], "--guidance-interval 0.5: must be START,END, 0 to 1"),
        (["--guidance-interval", "0,0.5,1"], "--guidance-interval 0,0.5,1: must be START,END"),
        (["--guidance-interval", "0.6,0.2"], "--guidance-interval 0.6,0.2: must be START,END"),
        (["--guidance-interval", "0,1.1"], "--guidance-interval 0,1.1: must be START,END"),
        (["--guidance-interval", "0,nan"], "--guidance-interval"),
        (["--lora-scale", "-0.1"], "--lora-scale -0.1: must be 0 to 2"),
        (["--lora-scale", "2.1"], "--lora-scale 2.1: must be 0 to 2"),
        (["--lora-scale", "inf"], "--lora-scale"),
        (["--lora-scale", "0.5"], "--lora-scale 0.5: --weights none has no adapter"),
        (["--scheduler", "lms"], "--scheduler: expected"),
        (["--steps", "0"], "--steps 0: must be 1 to 1000"),
        (["--steps", "1001"], "--steps 1001: must be 1 to 1000"),
        (["--fast"], "--fast: chooses --steps itself"),
        (["--compile", "most"], "--compile: expected"),
        (["--exact", "--compile", "full"], "--compile full: its bits differ"),
        (["--resolution", "33"], "--resolution 33: must be a multiple of"),
        (["--segmenter", "missing"], "--segmenter missing: model.safetensors is missing"),
        (["--features", "missing.pt"], "--features: no file missing.pt; or one of inception, tiny"),
        (["--features", "texture,texture"], "two networks called texture"),
        (["--features", "empty.txt"], "empty.txt: a TorchScript file is a program"),
        (["--features", "empty.txt", "--trust"], "empty.txt: not a TorchScript file"),
        (["--reference", "missing"], "--reference missing: no such folder"),
        (["--reference", "real", "--out", "real", "--overwrite"], "real: lies inside --out"),
        (["--base", "disguised.safetensors"], "disguised.safetensors: not a safetensors file"),
        (["--base", "torn"], "torn/vae/diffusion_pytorch_model.safetensors: not a safetensors"),
        (["--weights", "missing"], "--weights missing: no such file or run folder"),
        (["--weights", "pickle.bin"], "--weights pickle.bin: a pickle"),
        (["--weights", "disguised.safetensors"], "disguised.safetensors: not a safetensors file"),
        (["--weights", "wide"], "wide/pytorch_lora_weights.safetensors: made for another base"),
        (["--out", "full"], "full: is not empty and is not a frames folder"),
        (["--out", "two.txt"], "two.txt: is a file, not a folder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    reason: str,
) -> None:
    (place / "empty.txt").write_text("# nothing\n")
    (place / "full").mkdir()
    (place / "full" / "thesis.txt").write_text("mine")
    torch.save({"weight": torch.zeros(2)}, place / "pickle.bin")
    torch.save({"weight": torch.zeros(2)}, place / "disguised.safetensors")
    if change[-1] == "torn":
        shutil.copytree(tiny_random_base, place / "torn")
        path = place / "torn" / "vae" / "diffusion_pytorch_model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
    if change[-1] == "wide":
        write_run(place / "wide", tiny_random_base, place / "real")
        path = place / "wide" / "pytorch_lora_weights.safetensors"
        wide = {name: torch.zeros([n * 2 for n in t.shape]) for name, t in load_file(path).items()}
        save_file(wide, path)
    before = sorted(place.rglob("*"))
    assert reason in fail(script, [*flags, "--out", "set", *change], capsys)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_that_is_not_finite_names_its_tensor(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
    value: float,
) -> None:
    write_run(place / "run", tiny_random_base, place / "real")
    path = place / "run" / "pytorch_lora_weights.safetensors"
    state = load_file(path)
    name = sorted(state)[3]
    state[name][1, 2] = value
    save_file(state, path)
    line = fail(script, [*flags, "--weights", "run", "--out", "set"], capsys)
    assert f"pytorch_lora_weights.safetensors: {name} holds NaN or infinity" in line
    assert not (place / "set").exists()


def test_a_base_that_is_not_finite_names_its_tensor(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the VAE's and the text encoder's tensors too; and what overflows in 16 bit."""
    shutil.copytree(tiny_random_base, place / "spoilt")
    flags = [*flags, "--base", "spoilt", "--out", "set"]
    path = place / "spoilt" / "vae" / "diffusion_pytorch_model.safetensors"
    sound = load_file(path)
    save_file(sound | {"decoder.conv_in.bias": sound["decoder.conv_in.bias"] / 0}, path)
    line = fail(script, flags, capsys)
    assert "--base spoilt in float32: vae.decoder.conv_in.bias holds NaN or infinity" in line
    save_file(sound, path)
    write_run(place / "huge", tiny_random_base, place / "real", scale=1e25)
    line = fail(script, [*flags, "--weights", "huge"], capsys)
    assert "--base spoilt with --weights huge in float32: unet." in line
    assert not (place / "set").exists()


def test_every_network_that_evaluate_takes_is_taken(
    script: ModuleType, place: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of its own refused what `echodiff evaluate --features` takes."""
    (place / "mine.py").write_text(
        "def means(batch):\n    return batch[:, 0, ::60, ::60].flatten(1)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    features = ["--features", "mine:means", "--features-path", "."]
    script.main([*flags, *features, "--out", "set"])
    scores = json.loads((place / "set" / "metrics.json").read_text())["scores"]
    assert "mmd_means" in scores


def test_finished_and_other_sets_are_refused_until_overwrite(
    script: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*flags, "--out", "set"]
    script.main(flags)
    before = read_images(place / "set")
    assert "set: is a finished frames folder" in fail(script, flags, capsys)
    assert "set: is a finished frames folder" in fail(script, [*flags, "--seed", "1"], capsys)
    assert_same_set(place / "set", place / "set")
    script.main([*flags, "--seed", "1", "--overwrite"])
    assert not np.array_equal(before["000000.png"], read_images(place / "set")["000000.png"])


def test_begun_with_other_settings_is_refused(
    script: ModuleType,
    place: Path,
    flags: list[str],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_run(place / "run", tiny_random_base, place / "real")
    flags = [*flags, "--weights", "run", "--batch-size", "2", "--out", "set"]
    with monkeypatch.context() as patched:
        stop_after(patched, 3, KeyboardInterrupt())
        assert run_main(lambda: script.main(flags), "generate.py") == 130
    for flag, value in (
        ("--steps", "3"), ("--lora-scale", "0.6"), ("--guidance-interval", "0.2,1"),
    ):  # fmt: skip
        message = fail(script, [*flags, flag, value], capsys)
        assert "set: was begun with other settings" in message
        assert f"{flag} (" in message
    script.main(flags)
    assert len(load_frames(place / "set")) == 7


@pytest.mark.parametrize("last_word", ["000004.png", "000006.png", "metrics.json"])
def test_full_disk_is_one_line_and_the_job_goes_on_later(
    script: ModuleType,
    place: Path,
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    last_word: str,
) -> None:
    real_replace = os.replace

    def fill_up(source: Path, target: Path) -> None:
        if Path(target).name == last_word:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_replace(source, target)

    flags = [*flags, "--batch-size", "2", "--out", "set"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fill_up)
        line = fail(script, flags, capsys)
    assert f"{last_word}: No space left on device" in line
    assert (place / "set" / "metadata.jsonl").exists() == (last_word == "metrics.json")
    assert not list(place.rglob(".partial-*"))
    script.main(flags)
    assert len(load_frames(place / "set")) == 7
    assert (place / "set" / "metrics.json").is_file()


def test_a_place_that_may_not_be_written_is_one_line(
    script: ModuleType,
    place: Path,
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_mkdir = Path.mkdir

    def forbid(self: Path, *args: object, **kwargs: object) -> None:
        if self.name == "set":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        real_mkdir(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", forbid)  # a superuser may write anywhere
    assert "set: Permission denied" in fail(script, [*flags, "--out", "set"], capsys)
    assert not (place / "set").exists()


def stop_after(patched: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    """Let the writer take `count` frames, then fail."""
    add, num_added = FramesWriter.add, 0

    def add_until(self: FramesWriter, *frame: object) -> object:
        nonlocal num_added
        if num_added == count:
            raise error
        num_added += 1
        return add(self, *frame)  # type: ignore[arg-type]

    patched.setattr(FramesWriter, "add", add_until)


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


# --- Documentation ------------------------------------------------------------------------------


def test_shipped_prompts_are_eight_a_file() -> None:
    from echodiff.diffusion.sampling.prompts import load_prompts

    for path in shipped("prompts").glob("*.txt"):
        assert len(load_prompts(path)) == 8, path
    prompts = load_prompts(shipped("prompts/paediatric.txt"))
    assert all(prompt.text.endswith(("of the child", "of the infant")) for prompt in prompts)


def test_every_flag_is_documented() -> None:
    from dataclasses import fields

    from echodiff.diffusion.sampling.settings import GenerateConfig

    text = (shipped("generate.py").parent / "docs" / "generation.md").read_text(encoding="utf-8")
    for field in fields(GenerateConfig):
        assert "--" + field.name.replace("_", "-") in text, field.name
