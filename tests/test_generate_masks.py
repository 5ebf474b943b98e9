"""`generate.py --masks` as a user runs it: a labelled data set, one image for each mask."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from echodiff.diffusion.base import base_sha256, load_base
from echodiff.diffusion.lora import add_lora, lora_state, save_lora
from echodiff.diffusion.mask_files import copy_lora, save_masked
from echodiff.diffusion.mask_networks import build_masked
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.images import read_mask_u8, write_mask
from echodiff.published import TRAIN_CONTROLNET
from echodiff.runs import Run
from echodiff.settings.command_line import run_main

pytestmark = pytest.mark.filterwarnings(
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
CHANNELS = ["BACKGROUND", "LV", "LV_MYOCARDIUM", "LA"]


@pytest.fixture(scope="module")
def script(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("../generate")


def write_lora(folder: Path, base: Path) -> Path:
    """A LoRA that visibly changes the image."""
    unet = load_base(str(base), torch.float32).unet
    add_lora(unet, rank=4, alpha=8.0, seed=1)
    generator = torch.Generator().manual_seed(2)
    state = {
        name: torch.randn(values.shape, generator=generator) * 0.5
        for name, values in lora_state(unet).items()
    }
    save_lora(folder, state, rank=4, alpha=8.0)
    return folder


def write_run(folder: Path, base: Path, data: Path, kind: Any, lora: Path | None = None) -> Path:
    """A finished run of a kind whose masks visibly change the image."""
    unet = load_base(str(base), torch.float32).unet
    network, parameters = build_masked(
        kind, unet, num_channels=4, factor=4, rank=4, alpha=8.0, seed=0
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    run = Run.create(folder, command=TRAIN_CONTROLNET, config={"base": str(base)})
    sha256 = save_masked(folder, kind, network, rank=4, alpha=8.0)
    frames = load_frames(data)
    copied = {} if lora is None else {"lora": copy_lora(lora, folder), "lora_scale": 1.0}
    run.finish(
        base=str(base),
        base_sha256=base_sha256(str(base)),
        weights_sha256=sha256,
        resolution=32,
        kind=kind,
        labels=CHANNELS,
        data_dir=str(data),
        held_out=[frame.file_name for frame in frames][:6],
        frames=hash_frames(data, frames, has_masks=True),
        **copied,
    )
    return folder


@pytest.fixture
def place(
    tmp_path: Path,
    tiny_random_base: Path,
    masked_frames: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working folder with masked frames and a finished run on them."""
    monkeypatch.chdir(tmp_path)
    masked_frames.write_masked_frames(tmp_path / "frames")
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "one", tiny_random_base, tmp_path / "frames", "t2i-adapter")
    return tmp_path


@pytest.fixture
def generate(script: ModuleType, tiny_random_base: Path) -> Callable[..., Path]:
    def run(*flags: object) -> Path:
        base = ["--base", str(tiny_random_base), "--steps", "2", "--reference", "frames"]
        script.main([*base, "--features", "texture", *map(str, flags)])
        return Path(dict(zip(map(str, flags), map(str, flags[1:]), strict=False))["--out"])

    return run


@pytest.fixture
def refused(
    generate: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """The one line with which generate.py refuses flags; nothing is written."""

    def run(*flags: object) -> str:
        capsys.readouterr()
        assert run_main(lambda: generate(*flags, "--out", "refused") and 0, "generate.py") == 2
        assert not Path("refused").exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def images_of(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.name: np.asarray(Image.open(path)).astype(int)
        for path in sorted((folder / "images").iterdir())
    }


def largest_difference(first: Path, second: Path) -> int:
    ours, theirs = images_of(first), images_of(second)
    return max(int(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def test_one_image_for_each_mask_is_a_labelled_data_set(
    place: Path, generate: Callable[..., Path]
) -> None:
    """The newest run that obeys masks is taken; captions are those of the masks' frames."""
    out = generate("--masks", "frames", "--out", "out")
    frames, asked = load_frames(out, require_mask=True), load_frames(place / "frames")
    assert len(frames) == len(asked) == 12
    for frame, source in zip(frames, asked, strict=True):
        mask = read_mask_u8(out / str(frame.mask_file_name))
        assert np.array_equal(mask, read_mask_u8(place / "frames" / str(source.mask_file_name)))
        assert (frame.text, frame.prompt) == (source.text, source.text)
        assert (frame.patient_id, frame.view) == (source.patient_id, "A4C")
        assert frame.extra["mask"] == source.mask_file_name
    job = json.loads((out / "generate.json").read_text("utf-8"))
    assert job["finished"]
    assert job["settings"]["kind"] == "t2i-adapter"
    assert (out / "report.html").is_file()


def test_an_image_is_the_same_in_any_batch_and_after_an_interruption(
    place: Path, generate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--masks", "frames", "--num-images", 5]
    whole = generate(*flags, "--out", "whole")
    single = generate(*flags, "--batch-size", 1, "--out", "single")
    assert largest_difference(whole, single) <= 1

    from echodiff.frames.writer import FramesWriter

    real, count = FramesWriter.add, []

    def add_three(self: FramesWriter, *args: Any) -> Any:
        if len(count) == 3:
            raise KeyboardInterrupt
        count.append(0)
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(FramesWriter, "add", add_three)
        with pytest.raises(KeyboardInterrupt):
            generate(*flags, "--out", "halves", "--batch-size", 2)
    halves = generate(*flags, "--out", "halves", "--batch-size", 2)
    assert largest_difference(whole, halves) <= 1
    assert len(load_frames(halves, require_mask=True)) == 5
    # Of more masks than images the others are not read.
    (place / "frames" / "masks" / "0007.png").write_bytes(b"")
    assert len(load_frames(generate(*flags, "--out", "unread"))) == 5
    # More images than masks: mask and prompt i modulo their numbers.
    more = generate("--masks", "frames/masks/0001.png", "--num-images", 2, "--out", "more")
    assert [frame.extra["mask"] for frame in load_frames(more)] == ["0001.png", "0001.png"]


def test_masks_and_their_scale_change_the_image_and_the_prompt_file_names_the_text(
    place: Path, generate: Callable[..., Path]
) -> None:
    (place / "two.txt").write_text("ASD\nLVH\n")
    flags = ["--masks", "frames/masks", "--num-images", 2, "--prompt-file", "two.txt",
             "--guidance", 5]  # fmt: skip
    full = generate(*flags, "--out", "full")
    none = generate(*flags, "--out", "none", "--conditioning-scale", 0)
    assert [frame.text for frame in load_frames(full)] == ["ASD", "LVH"]
    assert largest_difference(full, none) > 20
    # Without the mask this is the image of the base alone.
    plain = generate(
        "--prompt-file", "two.txt", "--num-images", 2, "--out", "plain", "--weights", "none"
    )
    assert largest_difference(none, plain) <= 1


@pytest.mark.parametrize("kind", ["concat", pytest.param("controlnet", marks=pytest.mark.slow)])
def test_a_lora_underneath_is_loaded_too_and_can_be_replaced(
    place: Path, tiny_random_base: Path, generate: Callable[..., Path], kind: Any
) -> None:
    lora = write_lora(place / "lora", tiny_random_base)
    write_run(place / "runs" / "with", tiny_random_base, place / "frames", kind, lora)
    write_run(place / "runs" / "without", tiny_random_base, place / "frames", kind)
    flags = ["--masks", "frames", "--num-images", 2]
    both = generate(*flags, "--weights", "runs/with", "--out", "both")
    added = generate(*flags, "--weights", "runs/without", "--lora", "lora", "--out", "added")
    alone = generate(*flags, "--weights", "runs/with", "--lora", "none", "--out", "alone")
    bare = generate(*flags, "--weights", "runs/without", "--out", "bare")
    assert largest_difference(both, added) <= 1
    assert largest_difference(alone, bare) <= 1
    assert largest_difference(both, bare) > 10


def test_some_labels_of_some_patients_are_asked_for(
    place: Path, generate: Callable[..., Path]
) -> None:
    """Masks of training patients alone, without LA: what is asked for is what the set says."""
    flags = ["--masks", "frames", "--mask-split", "test", "--out"]
    out = generate(*flags, "some", "--labels", "lv,LV_MYOCARDIUM")
    full = generate(*flags, "all")
    frames, whole = (load_frames(one, require_mask=True) for one in (out, full))
    assert [frame.extra["mask"] for frame in frames] == ["masks/0005.png", "masks/0011.png"]
    for frame, other in zip(frames, whole, strict=True):
        mask = read_mask_u8(out / str(frame.mask_file_name))
        asked = read_mask_u8(full / str(other.mask_file_name))
        assert set(np.unique(asked)) == {0, 1, 2, 3}
        assert np.array_equal(mask, np.where(asked == 3, 0, asked))
        settings = json.loads(str(frame.settings))
        assert settings["labels"] == ["LV", "LV_MYOCARDIUM"]
        assert settings["guidance"] == 2  # 5 without masks
    assert largest_difference(out, full) > 5  # a left-out label changes the image
    # The reference is of the same patients: that is told, also to later scores.
    notes = json.loads((out / "metrics.json").read_text())["notes"]
    told = "2 of 2 images were generated for masks of patients of the reference"
    assert any(note.startswith(told) for note in notes)
    other = generate("--masks", "frames", "--mask-split", "train", "--num-images", 2, "--split",
                     "test", "--out", "train")  # fmt: skip
    notes = json.loads((other / "metrics.json").read_text())["notes"]
    assert not [note for note in notes if "masks of patients" in note]


def write_label(path: Path, value: int) -> Path:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = value
    write_mask(path, mask)
    return path


def test_what_is_wrong_with_masks_is_refused_in_one_line(
    place: Path, refused: Callable[..., str], tiny_random_base: Path
) -> None:
    (place / "odd").mkdir()
    write_label(place / "odd" / "rv.png", 4)
    line = refused("--masks", "odd")
    assert (
        "rv.png: holds RV, which the weights do not know; they know LV, LV_MYOCARDIUM, LA" in line
    )
    assert "--mask-labels" in line
    assert "--labels HEART: not one of" in refused("--masks", "frames", "--labels", "HEART")
    assert "--labels RV: none of the masks has it" in refused("--masks", "frames", "--labels", "RV")
    line = refused("--masks", "frames/masks/0001.png", "--mask-split", "val")
    assert "is of that split (there are: train)" in line
    assert "--mask-split all: 'all' is not one of" in refused(
        "--masks", "frames", "--mask-split", "all"
    )
    Image.new("RGB", (32, 32), (200, 0, 0)).save(place / "colour.png")
    assert "this one is in colour" in refused("--masks", "colour.png")
    Image.new("L", (32, 32), 1).save(place / "lossy.jpg")
    assert "JPEG changes the numbers of a mask" in refused("--masks", "lossy.jpg")
    write_label(place / "odd" / "rv.png", 200)
    assert "label 200 in the mask" in refused("--masks", "odd")
    assert "--masks nowhere: no such folder" in refused("--masks", "nowhere")
    assert "holds the images of" in refused("--masks", "frames/images")
    (place / "empty").mkdir()
    assert "--masks empty: holds no image" in refused("--masks", "empty")
    # Weights that obey none, and the other way round.
    lora = write_lora(place / "runs" / "lora", tiny_random_base)
    assert "is of another kind" in refused("--masks", "frames", "--weights", lora)
    (place / "p.txt").write_text("ASD\n")
    line = refused("--prompt-file", "p.txt", "--weights", "runs/one")
    assert line.endswith("was trained to obey masks: give some with --masks")
    assert "missing: --prompt-file" in refused()
    for name, value in (("conditioning-scale", 0.5), ("labels", "LV"), ("mask-split", "train")):
        line = refused("--prompt-file", "p.txt", f"--{name}", value)
        assert f"--{name}: needs --masks" in line


def test_a_label_map_an_empty_mask_and_another_shape(
    place: Path, generate: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers of another program are mapped, masks padded as images are, empty ones drawn."""
    (place / "own").mkdir()
    mask = np.zeros((40, 20), np.uint8)
    mask[10:30, 5:15] = 7
    Image.fromarray(mask).save(place / "own" / "a.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(place / "own" / "b.png")
    (place / "map.yaml").write_text("7: LV\n")
    out = generate("--masks", "own", "--mask-labels", "map.yaml", "--out", "mapped")
    masks = [read_mask_u8(out / str(frame.mask_file_name)) for frame in load_frames(out)]
    assert [mask.shape for mask in masks] == [(32, 32), (32, 32)]
    assert set(np.unique(masks[0])) == {0, 1}
    rows, columns = np.nonzero(masks[0])
    # 40 x 20 padded to 40 x 40 and resized to 32 x 32.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 12, 19)
    assert not masks[1].any()
    assert any("1 of 2 masks (b.png, ...) are empty" in r.getMessage() for r in caplog.records)
