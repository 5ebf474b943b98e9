"""A segmentation network: exact resume, saving and opening, and what its augmentation does."""

import json

import numpy as np
import pytest
import torch

from echodiff.anatomy import Label
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.segmentation.augmentation import (
    NUM_DRAWS,
    STRENGTHS,
    Strength,
    apply_augmentation,
    sample_augmentation,
)
from echodiff.segmentation.labelled_frames import load_labelled_frames
from echodiff.segmentation.reader import load_mask_reader
from echodiff.segmentation.segmentation_config import SegmentationConfig
from echodiff.segmentation.trainer import SegmentationTrainer
from echodiff.segmentation.training import TrainingFrames, find_run_dir, train_segmentation
from echodiff.training.precision import start_accelerator
from echodiff.training.streams import Stream, build_stream

LABELS = (Label.LV, Label.LV_MYOCARDIUM, Label.LA)


@pytest.fixture(scope="module")
def frames(tmp_path_factory, hearts):
    folder = hearts(tmp_path_factory.mktemp("hearts") / "frames", 12)
    one = load_labelled_frames(folder, load_frames(folder), 32, flag="--data")
    assert one.labels == LABELS
    return folder, TrainingFrames.of_set("data", one)


@pytest.fixture
def accelerator():
    return start_accelerator("no", num_parameters=0, tracker="none", threads=None)[0]


@pytest.mark.parametrize("network", ["basic-unet", "dynunet"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    frames, tmp_path, accelerator, monkeypatch, network
):
    _, data = frames
    settings = SegmentationConfig(
        network=network, width=2, resolution=32, steps=6, batch_size=2,
        augmentation="classical",
    )  # fmt: skip
    first, second = (
        find_run_dir(tmp_path / n, settings, data.hashes, LABELS, seed=3) for n in "ab"
    )
    assert first.name == second.name
    options = {"seed": 3, "checkpoint_every": 2}
    whole = train_segmentation(first, settings, data, LABELS, accelerator, **options)
    run = SegmentationTrainer.run

    def kill(self, step):
        if step == 4:
            raise KeyboardInterrupt
        return run(self, step)

    monkeypatch.setattr(SegmentationTrainer, "run", kill)
    with pytest.raises(KeyboardInterrupt):
        train_segmentation(second, settings, data, LABELS, accelerator, **options)
    monkeypatch.setattr(SegmentationTrainer, "run", run)
    resumed = train_segmentation(second, settings, data, LABELS, accelerator, **options)
    assert resumed.sha256 == whole.sha256
    assert find_run_dir(tmp_path, settings, data.hashes, LABELS, seed=4).name != first.name

    # What was saved is opened, and reads images of any size as labels of that size.
    opened = load_mask_reader(first)
    assert opened.labels == (Label.BACKGROUND, *LABELS)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 56), (32, 32))]
    masks = opened(images)
    assert [mask.shape for mask in masks] == [(40, 56), (32, 32)]
    assert set(np.unique(masks[0])) <= set(map(int, opened.labels))


def test_what_is_no_network_is_refused_by_its_file(frames, tmp_path, accelerator):
    folder, data = frames
    settings = SegmentationConfig(width=2, resolution=32, steps=1, batch_size=2)
    train_segmentation(tmp_path / "run", settings, data, LABELS, accelerator, seed=0)
    with pytest.raises(InputError, match=r"holds no segmentation network"):
        load_mask_reader(folder)
    record = tmp_path / "run" / "segmentation.json"
    for change in ({"width": 4}, {"width": 0}, {"labels": ["background", "heart"]}, {"width": "2"}):
        text = record.read_text()
        record.write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(InputError, match=r"segmentation\.(json|safetensors)"):
            load_mask_reader(tmp_path / "run")
        record.write_text(text)
    assert load_mask_reader(tmp_path / "run").resolution == 32


def test_few_frames_are_warned_of_and_frames_without_a_mask_are_counted(
    tmp_path, hearts, accelerator, caplog
):
    folder = hearts(tmp_path / "frames", 6)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows[2].pop("mask_file_name")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = load_labelled_frames(folder, load_frames(folder), 32, flag="--data")
    settings = SegmentationConfig(width=2, resolution=32, steps=1, batch_size=2)
    data = TrainingFrames.of_set("data", one)
    train_segmentation(tmp_path / "run", settings, data, LABELS, accelerator, seed=0)
    assert f"{folder}: 1 of 6 frames have no mask: left out" in caplog.messages
    assert "5 frames with masks are few to train a segmentation on" in caplog.messages


def test_a_run_folder_goes_by_settings_frames_and_seed(frames, tmp_path):
    _, data = frames
    settings = SegmentationConfig(steps=5)
    others = [
        (SegmentationConfig(steps=6), data.hashes, 0), (settings, data.hashes, 1),
        (settings, data.list_hashes([0, 1]), 0), (settings, data.list_hashes([0, 2]), 0),
    ]  # fmt: skip
    folders = {
        find_run_dir(tmp_path, one, hashes, LABELS, seed=seed)
        for one, hashes, seed in [(settings, data.hashes, 0), *others]
    }
    assert len(folders) == 5
    assert find_run_dir(tmp_path, settings, data.hashes, LABELS, seed=0) in folders


# --- Augmentation --------------------------------------------------------------------------------


def one_hot(side=16):
    masks = torch.zeros(1, 3, side, side)
    masks[:, 0] = 1
    masks[:, :2, 2:6, 3:9] = torch.tensor([0.0, 1.0])[:, None, None]
    masks[:, ::2, 8:10, 3:5] = torch.tensor([0.0, 1.0])[:, None, None]
    return masks


def test_image_and_mask_move_together_and_labels_stay_whole():
    masks = one_hot()
    images = (masks[:, 1:2] + 0.5 * masks[:, 2:3]).clone()
    strength = Strength(shift=0.25)
    draws = torch.zeros(1, NUM_DRAWS)
    draws[0, 2] = 1.0  # a quarter of the side
    moved, labels = apply_augmentation(images, masks, draws, torch.empty(0), strength)
    expected = torch.roll(images, -4, 3)
    expected[..., -4:] = 0
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(labels[:, 1:2] + 0.5 * labels[:, 2:3], expected)
    torch.testing.assert_close(labels.sum(1), torch.ones(1, 16, 16))


@pytest.mark.parametrize("name", STRENGTHS)
def test_every_strength_keeps_one_label_a_pixel_and_never_mirrors(name):
    strength = STRENGTHS[name]
    stream = build_stream(0, Stream.STEP, 0)
    masks = one_hot(32).repeat(8, 1, 1, 1)
    images = masks[:, 1:2] * 0.8
    draws, noise = sample_augmentation(stream, strength, 8, 32)
    shaded, labels = apply_augmentation(images, masks, draws, noise, strength)
    assert 0 <= shaded.min() <= shaded.max() <= 1
    torch.testing.assert_close(labels.sum(1), torch.ones(8, 32, 32))
    # The small square stays below the large one and not to its right.
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for label in labels:
        (top, left), (low, side) = (
            ((one * y).sum() / one.sum(), (one * x).sum() / one.sum()) for one in label[1:]
        )
        assert low > top
        assert side < left + 1
    if name == "none":
        torch.testing.assert_close(shaded, images)
