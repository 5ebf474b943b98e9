"""Weights come back as they were; published files open; files that carry code do not."""

import collections
import os

import pytest
import torch
from safetensors.torch import save_file

from echodiff.errors import InputError
from echodiff.gan.networks.generators import build_discriminator, build_generator
from echodiff.gan.weights import load_generator, save_network
from echodiff.runs import sha256_file


def same(one, other):
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


def test_what_is_saved_comes_back_with_its_facts(tmp_path):
    net = build_generator("resnet_6_antialiased", 3, width=4, seed=7)
    facts = {"modality": "echo", "resolution": 64}
    sha256 = save_network(tmp_path / "G.safetensors", net, facts)
    loaded = load_generator(tmp_path / "G.safetensors")
    assert same(net, loaded.net)
    assert loaded.sha256 == sha256 == sha256_file(tmp_path / "G.safetensors")
    assert loaded.facts == facts | {"generator": "resnet_6_antialiased", "channels": 3,
                                    "norm": "instance", "width": 4}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "norm"), [("unet_256", "instance"), ("unet_256", "batch"), ("resnet_9", "instance"),
                       ("resnet_6", "batch"), ("resnet_9_antialiased", "instance")]
)  # fmt: skip
def test_published_generators_say_by_their_shapes_what_they_are(tmp_path, name, norm):
    net = build_generator(name, 3, norm=norm, width=4, seed=1)
    torch.save(collections.OrderedDict(net.state_dict()), tmp_path / "latest_net_G.pth")
    loaded = load_generator(tmp_path / "latest_net_G.pth")
    assert same(net, loaded.net)
    assert loaded.facts == {"generator": name, "channels": 3, "norm": norm, "width": 4}


def test_old_files_with_statistics_of_instance_norms_open(tmp_path):
    net = build_generator("resnet_9", width=4)
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    state |= {"module.model.2.running_mean": torch.zeros(4),
              "module.model.2.running_var": torch.ones(4)}  # fmt: skip
    torch.save(state, tmp_path / "old.pth")
    assert same(net, load_generator(tmp_path / "old.pth").net)


class Code:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


def one_line(path, text):
    with pytest.raises(InputError, match=text) as caught:
        load_generator(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model.1.weight": Code()}, tmp_path / "evil.pth")
    one_line(tmp_path / "evil.pth", "carries code, which is never run: refused")
    assert not (tmp_path / "was-run").exists()


def test_other_files_are_one_line(tmp_path):
    one_line(tmp_path / "nowhere.pth", "no such file")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 cut short")
    one_line(tmp_path / "torn.pth", "damaged")
    (tmp_path / "torn.safetensors").write_bytes(b"cut short")
    one_line(tmp_path / "torn.safetensors", "not a safetensors file")
    (tmp_path / "model.ckpt").write_bytes(b"")
    one_line(tmp_path / "model.ckpt", "expected weights")
    torch.save({"step": 3}, tmp_path / "other.pth")
    one_line(tmp_path / "other.pth", "no generator that is known")
    torch.save({"model.1.weight": torch.zeros(4, 1, 7, 7)}, tmp_path / "few.pth")
    one_line(tmp_path / "few.pth", "no generator that is known")


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    net = build_generator("resnet_6", width=2)
    with torch.no_grad():
        net.model[1].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(InputError, match=r"model\.1\.weight holds NaN or infinity"):
        save_network(tmp_path / "G.safetensors", net, {})
    assert not (tmp_path / "G.safetensors").exists()


# --- As other people save them ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_any_number_format_is_taken_as_float32(tmp_path, dtype, suffix):
    net = build_generator("resnet_6", width=4, seed=1)
    state = {key: value.to(dtype) for key, value in net.state_dict().items()}
    save = torch.save if suffix == ".pth" else save_file
    save(state, tmp_path / f"G{suffix}")
    loaded = load_generator(tmp_path / f"G{suffix}")
    for key, value in loaded.net.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


WRAPPED = {
    "state_dict": lambda g, d: {"state_dict": g, "epoch": 3, "name": "heart"},
    "by name": lambda g, d: {"G": g, "D": d, "optimizer": {0: {"step": g["model.1.bias"]}}},
    "parallel": lambda g, d: {"state_dict": prefixed(g, "module.")},
    "side by side": lambda g, d: {"state_dict": prefixed(g, "netG.") | prefixed(d, "netD.")},
    "compiled": lambda g, d: prefixed(g, "_orig_mod."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_the_generator_is_found_in_a_larger_file(tmp_path, name):
    net, discriminator = (
        build_generator("resnet_6", width=4, seed=1),
        build_discriminator("patch", width=4),
    )
    torch.save(WRAPPED[name](net.state_dict(), discriminator.state_dict()), tmp_path / "all.pth")
    loaded = load_generator(tmp_path / "all.pth")
    assert same(net, loaded.net)
    assert loaded.facts["generator"] == "resnet_6"


def test_two_generators_in_one_file_are_not_chosen_from(tmp_path):
    state = build_generator("resnet_6", width=4).state_dict()
    torch.save({"G_A": state, "G_B": state}, tmp_path / "both.pth")
    one_line(tmp_path / "both.pth", r"several generators \(G_A, G_B\): save one alone")


def test_values_that_are_not_finite_are_named(tmp_path):
    state = dict(build_generator("resnet_6", width=4).state_dict())
    state["model.4.weight"] = torch.full_like(state["model.4.weight"], torch.nan)
    torch.save(state, tmp_path / "broken.pth")
    one_line(tmp_path / "broken.pth", "model.4.weight holds NaN or infinity")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pointers_and_pages_are_named(tmp_path, suffix):
    file = tmp_path / f"G{suffix}"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    one_line(file, "a Git LFS pointer, not the weights: `git lfs pull`")
    file.write_bytes(b"<html>sign in</html>")
    one_line(file, "a web page, not the weights")
