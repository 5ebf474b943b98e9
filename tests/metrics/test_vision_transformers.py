"""Vision transformers: opened from a folder of safetensors, never fetched, never unpickled."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from echodiff.errors import InputError
from echodiff.metrics.features import load_features
from echodiff.runs import sha256_file

WEIGHTS = "model.safetensors"


def build_network():
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Dinov2Model(
            Dinov2Config(
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=28,
                patch_size=14,
                mlp_ratio=2,
            )
        ).eval()


@pytest.fixture
def folder(tmp_path):
    from transformers import BitImageProcessor

    place = tmp_path / "small-dino"
    build_network().save_pretrained(place)
    BitImageProcessor(
        size={"shortest_edge": 32},
        crop_size={"height": 28, "width": 28},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    ).save_pretrained(place)
    return place


def frames():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side), dtype=np.uint8) for side in (32, 32, 50)]


def test_features_are_the_class_token_of_the_processed_picture(folder):
    network = load_features(str(folder))
    assert (network.name, network.num_features) == ("small-dino", 16)
    assert network.sha256 == sha256_file(folder / WEIGHTS)
    assert network.frechet_name == "fd_small-dino"
    images = frames()
    features = network(images)
    assert features.shape == (3, 16)
    # 32 px needs no resize: the centre of 28, over 255, minus mean, over spread.
    crops = np.stack([image[2:30, 2:30] for image in images[:2]]).astype(np.float32)
    batch = torch.from_numpy((crops / 255 - 0.5) / 0.25)[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        expected = build_network()(pixel_values=batch).last_hidden_state[:, 0].numpy()
    assert np.abs(features[:2] - expected).max() < 1e-5


def test_the_processor_is_part_of_the_resize(folder):
    before = load_features(str(folder))
    config = json.loads((folder / "preprocessor_config.json").read_text())
    config["image_mean"] = [0.1, 0.1, 0.1]
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    after = load_features(str(folder))
    assert before.resize != after.resize
    assert "28" in after.resize
    assert before.sha256 == after.sha256
    assert not np.allclose(before(frames()), after(frames()))


def test_several_safetensors_have_one_hash(folder):
    single = load_features(str(folder))
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[:5], "two.safetensors": names[5:]}
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file, {"format": "pt"})
    weight_map = {key: file for file, keys in parts.items() for key in keys}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    several = load_features(str(folder))
    assert np.array_equal(several(frames()), single(frames()))
    assert len(several.sha256) == 64
    assert several.sha256 != single.sha256


def without_weights(folder):
    (folder / WEIGHTS).unlink()


def with_pickled_weights(folder):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def cut_short(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])


def without_a_layer(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors = {key: value for key, value in tensors.items() if "layer.1." not in key}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def without_processor(folder):
    (folder / "preprocessor_config.json").unlink()


def of_an_unknown_kind(folder):
    (folder / "config.json").write_text('{"model_type": "nothing"}')


def without_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_weights, "holds no model.safetensors"),
        (with_pickled_weights, "holds no model.safetensors"),
        (cut_short, "cannot open it"),
        (without_a_layer, "the weights lack encoder.layer.1"),
        (without_processor, "cannot open it"),
        (of_an_unknown_kind, "cannot open it"),
        (without_config, "cannot open it"),
    ],
)
def test_a_folder_that_does_not_fit_is_named_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_features(str(folder))
    assert f"--features {folder}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_without_class_token_is_refused(folder):
    from transformers import ResNetConfig, ResNetModel

    ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    ).save_pretrained(folder)
    with pytest.raises(InputError, match="no class token"):
        load_features(str(folder))


@pytest.mark.parametrize(
    ("name", "repository"),
    [("dinov2", "facebook/dinov2-large"), ("rad-dino", "microsoft/rad-dino")],
)
def test_weights_that_are_not_local_are_not_fetched(tmp_path, monkeypatch, name, repository):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"hf download {repository}") as caught:
        load_features(name)
    assert "\n" not in str(caught.value)


def test_weights_in_the_hub_cache_are_found(tmp_path, monkeypatch, folder):
    from huggingface_hub import constants

    commit = "a" * 40
    repository = tmp_path / "hub" / "models--microsoft--rad-dino"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    network = load_features("rad-dino")
    assert (network.name, network.num_features) == ("rad-dino", 16)
