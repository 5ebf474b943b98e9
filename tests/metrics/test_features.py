"""Feature networks by name; the Inception file is checked before it is believed."""

import io
import shutil
import sys
import tempfile
import urllib.error
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.sampling.settings import GenerateConfig
from echodiff.errors import InputError
from echodiff.evaluate import EvaluateConfig
from echodiff.metrics import extractor, features, inception, tiny_features
from echodiff.metrics.features import load_features
from echodiff.metrics.frame_features import load_networks
from echodiff.metrics.held_out import open_networks
from echodiff.metrics.inception import InceptionMissing, find_inception
from echodiff.runs import sha256_file
from echodiff.settings.command_line import parse
from echodiff.training.precision import set_float32


class Layers(torch.nn.Module):
    """Behaves as the part of Inception behind its resizer."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3 * 64, 2048, generator=generator))

    def forward(self, x):
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, [8, 8])
        return pooled.flatten(1) @ self.weight


class FakeInception(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers(x)


class Flatten(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, [2, 2]).flatten(1)


def save(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(path))
    return path


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return save(FakeInception(), tmp_path_factory.mktemp("net") / inception.FILE_NAME)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No setting, an empty cache, an empty temporary folder and no network."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.delenv(inception.ENVIRONMENT, raising=False)
    monkeypatch.delenv(inception.CACHE_ENVIRONMENT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    monkeypatch.setattr(inception.urllib.request, "urlopen", refuse)
    return tmp_path


@pytest.fixture
def genuine(fake, monkeypatch):
    """The stand-in passes for the real file."""
    monkeypatch.setattr(inception, "SHA256", sha256_file(fake))
    return fake


def frames(num=3, side=64):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side + 8 * i), dtype=np.uint8) for i in range(num)]


def test_without_the_file_one_line_says_what_to_do(nowhere):
    with pytest.raises(InceptionMissing) as caught:
        load_features("inception")
    assert "\n" not in str(caught.value)
    assert inception.ENVIRONMENT in str(caught.value)
    assert "Name or service not known" in str(caught.value)
    assert not (nowhere / "cache" / "echodiff" / inception.FILE_NAME).exists()


def test_the_setting_comes_first_and_may_be_a_folder(nowhere, genuine, monkeypatch):
    monkeypatch.setenv(inception.ENVIRONMENT, str(genuine))
    assert find_inception() == genuine
    monkeypatch.setenv(inception.ENVIRONMENT, str(genuine.parent))
    assert find_inception() == genuine
    monkeypatch.setenv(inception.ENVIRONMENT, str(nowhere / "none.pt"))
    with pytest.raises(InceptionMissing, match=r"none\.pt"):
        find_inception()


def test_another_file_is_not_called_inception(nowhere, fake, monkeypatch):
    monkeypatch.setenv(inception.ENVIRONMENT, str(fake))
    with pytest.raises(InceptionMissing, match="not clean-fid's Inception"):
        find_inception()


def test_clean_fids_copy_is_used_only_when_whole(nowhere, genuine):
    copy = nowhere / "temp" / inception.FILE_NAME
    copy.write_bytes(genuine.read_bytes()[:1000])
    with pytest.raises(InceptionMissing):
        find_inception()
    shutil.copy(genuine, copy)
    assert find_inception() == copy


def test_a_download_arrives_whole_or_not_at_all(nowhere, genuine, monkeypatch):
    whole = genuine.read_bytes()
    target = nowhere / "cache" / "echodiff" / inception.FILE_NAME

    def respond(content):
        def urlopen(url, timeout):
            response = io.BytesIO(content)
            response.headers = {"Content-Length": str(len(whole))}
            return response

        monkeypatch.setattr(inception.urllib.request, "urlopen", urlopen)

    respond(whole[:5000])
    with pytest.raises(InceptionMissing, match="cut short"):
        find_inception()
    assert list(target.parent.iterdir()) == []
    respond(whole)
    assert find_inception() == target
    assert target.read_bytes() == whole


def test_a_truncated_file_is_never_loaded(nowhere, genuine, monkeypatch):
    target = nowhere / "cache" / "echodiff" / inception.FILE_NAME
    target.parent.mkdir(parents=True)
    target.write_bytes(genuine.read_bytes()[:-1])
    with pytest.raises(InceptionMissing, match=rf"{target}: .*cut short"):
        load_features("inception")
    monkeypatch.setenv(inception.ENVIRONMENT, str(target))
    with pytest.raises(InceptionMissing, match="cut short"):
        load_features("inception")
    monkeypatch.delenv(inception.ENVIRONMENT)
    monkeypatch.setenv(inception.CACHE_ENVIRONMENT, str(genuine.parent))
    assert find_inception() == genuine


def test_features_are_kept_between_two_openings(tmp_path, cache, monkeypatch):
    path = save(Flatten(), tmp_path / "mine.pt")
    expected = load_features(str(path), trust=True)(frames())
    shards = list(cache.glob("features/mine-*/*.safetensors"))
    assert len(shards) == 1
    network = load_features(str(path), trust=True)
    monkeypatch.setattr(extractor, "embed_with_extractor", None)
    assert np.array_equal(network(frames()), expected)


@pytest.mark.parametrize("name", ["texture", "tiny"])
def test_features_of_changed_code_are_computed_again(name, cache, monkeypatch):
    load_features(name)(frames())
    load_features(name)(frames())
    assert len(list(cache.glob(f"features/{name}-*"))) == 1
    monkeypatch.setattr("echodiff.metrics.features.sha256_file", lambda path: "changed")
    load_features(name)(frames())
    assert len(list(cache.glob(f"features/{name}-*"))) == 2


def test_a_torchscript_file_is_a_feature_network(tmp_path):
    path = save(Flatten(), tmp_path / "mine.pt")
    network = load_features(str(path), trust=True)
    assert (network.name, network.num_features, network.sha256) == ("mine", 12, sha256_file(path))
    assert network.frechet_name == "fd_mine"
    features = network(frames())
    assert features.shape == (3, 12)
    assert np.array_equal(features[:, :4], features[:, 4:8])  # R=G=B
    assert network([]).shape == (0, 12)


def test_texture_is_a_feature_network():
    network = load_features("texture")
    assert network(frames()).shape == (3, 64)
    assert network.frechet_name == "fd_texture"


@pytest.mark.skipif(not tiny_features.ASSET.is_dir(), reason="tiny-features weights not built yet")
def test_tiny_is_a_feature_network():
    network = load_features("tiny")
    features = network(frames())
    assert features.shape == (3, network.num_features)
    assert network.frechet_name == "fd_tiny"
    assert len(network.sha256) == 64


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the working folder, where nothing but `--features-path .` looks."""
    names = []

    def write(source, name):
        (tmp_path / f"{name}.py").write_text(source)
        names.append(name)
        return tmp_path / f"{name}.py"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_a_function_is_a_feature_network(module, cache):
    source = module("def corners(batch):\n    return batch[:, :, 0, ::298].flatten(1)\n", "own_net")
    network = load_features("own_net:corners", modules=Path())
    assert (network.name, network.num_features) == ("corners", 6)
    assert network.sha256 == sha256_file(source)
    assert network.frechet_name == "fd_corners"
    features = network([np.full((9, 9), 7, np.uint8), np.full((5, 9), 250, np.uint8)])
    assert np.allclose(features, [[7.0] * 6, [250.0] * 6], atol=1e-3)
    # What it loads is not in the hash, so its features are not kept.
    assert not cache.exists()


def test_a_function_of_the_working_folder_is_not_imported(module, monkeypatch, capsys):
    """`python -m echodiff` puts the working folder first, where anybody's file may lie."""
    marks = module("open('ran', 'w').close()\ndef f(b): return b[:, :, 0, 0]\n", "planted_net")
    for place in ("", str(marks.parent)):
        monkeypatch.setattr(sys, "path", [place, *sys.path])
        with pytest.raises(InputError, match="No module named 'planted_net'; --features-path"):
            load_features("planted_net:f")
    arguments = ["gen", "--reference", "real", "--out", "out", "--config", "lab.yaml"]
    for line, said in (
        ("features: [planted_net:f]", "lab.yaml: features: planted_net:f is a function, code"),
        ("features: planted_net:f", "lab.yaml: features: planted_net:f is a function, code"),
        ("features_path: .", "lab.yaml: features_path: is taken from the command line alone"),
        ("trust: true", "lab.yaml: trust: is taken from the command line alone"),
    ):
        Path("lab.yaml").write_text(line)
        for prog, config in (
            ("evaluate", EvaluateConfig),
            ("generate", GenerateConfig),
            ("train_lora", TrainLoraConfig),
        ):
            text = line.replace("features:", "evaluate_features:") if "lora" in prog else line
            Path("lab.yaml").write_text(text)
            with pytest.raises(SystemExit):
                parse(config, arguments[-2:], prog=prog)
            assert said in capsys.readouterr().err.replace("evaluate_features", "features")
    assert not Path("ran").exists()
    assert load_features("planted_net:f", modules=Path()).num_features == 3
    assert Path("ran").exists()


def test_a_torchscript_file_is_a_program_that_runs_on_demand_alone(tmp_path):
    """A TorchScript file can write files: nothing of it is read before --trust."""
    path = save(Flatten(), tmp_path / "mine.pt")
    with pytest.raises(InputError, match=r"mine\.pt: a TorchScript file is a program.*--trust"):
        load_features(str(path))
    with pytest.raises(InputError, match=r"--evaluate-features .*mine\.pt: .* --trust"):
        open_networks([str(path)])
    assert open_networks([str(path)], trust=True)[0].name == "mine"


def test_a_network_in_a_module_is_a_feature_network(module):
    source = module("import torch\nnet = torch.nn.AdaptiveAvgPool2d(1).eval()\n", "own_object")
    network = load_features("own_object:net", modules=Path())
    assert network.sha256 == sha256_file(source)
    assert np.allclose(network([np.full((9, 9), 7, np.uint8)]), 7.0)


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ("", "no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("", "bad_net:f", "bad_net has no function f"),
        ("f = 3", "bad_net:f", "bad_net has no function f"),
        ("def f(:", "bad_net:f", "invalid syntax"),
        ("", "bad_net:", "neither a file nor module:function"),
        ("", ":f", "neither a file nor module:function"),
        ("", "C:/net.pt", "neither a file nor module:function"),
        ("def f(b): return b.mean()", "bad_net:f", r"a row per image; it gave \(\) for 2"),
        ("def f(b): return b.mean((1, 2, 3))", "bad_net:f", r"it gave \(2,\) for 2"),
        ("def f(b): return b[:1, :, 0, 0]", "bad_net:f", r"it gave \(1, 3\) for 2"),
        ("def f(b): return b.numpy()", "bad_net:f", "numpy.ndarray"),
        ("def f(b): return b.undefined", "bad_net:f", "does not take .*AttributeError"),
        ("def f(): pass", "bad_net:f", "does not take .*TypeError"),
        ("def tiny(b): return b", "bad_net:tiny", "rename"),
    ],
)
def test_bad_functions_are_named(module, body, name, message):
    module(body, "bad_net")
    with pytest.raises(InputError, match=message) as caught:
        load_features(name, modules=Path())
    assert str(caught.value).startswith(f"--features {name}: ")
    assert "\n" not in str(caught.value)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*inception, tiny, texture.*module:function"):
        load_features(str(tmp_path / "none.pt"))
    (tmp_path / "junk.pt").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"junk\.pt: not a TorchScript"):
        load_features(str(tmp_path / "junk.pt"), trust=True)
    path = save(torch.nn.Linear(7, 2), tmp_path / "linear.pt")
    with pytest.raises(InputError, match=r"linear\.pt: does not take"):
        load_features(str(path), trust=True)
    path = save(Flatten(), tmp_path / "inception.pt")
    with pytest.raises(InputError, match="rename"):
        load_features(str(path), trust=True)


def test_a_network_that_gives_nan_is_refused(tmp_path):
    class Nan(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=[2, 3]) / torch.zeros(3)

    network = load_features(str(save(Nan(), tmp_path / "nan.pt")), trust=True)
    with pytest.raises(InputError, match="NaN"):
        network([np.zeros((8, 8), np.uint8)])


def test_two_networks_of_one_name_are_refused(tmp_path):
    """Scores go by the name: only the last was scored."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(Flatten(), tmp_path / folder / "model.pt")
    names = [str(tmp_path / folder / "model.pt") for folder in ("a", "b")]
    with pytest.raises(InputError, match="two networks called model, and scores go by that name"):
        load_networks(names, trust=True)
    for twice in (["tiny", "tiny"], [names[0], names[0]], ["tiny", names[0], "tiny"]):
        with pytest.raises(InputError, match=r"--features .*: two networks called"):
            load_networks(twice, trust=True)
    opened = load_networks([names[0], "tiny"], trust=True).opened
    assert [one.name for one in opened] == ["model", "tiny"]


def test_features_are_taken_in_ieee_float32_and_kept_by_device(tmp_path, monkeypatch):
    """On an NVIDIA card torch convolves in TF32: two cards gave two features, in one cache."""
    set_float32("tf32")
    seen = []

    def watch(batch):
        seen.append(torch.backends.cudnn.conv.fp32_precision)
        return batch[:, 0, ::60, ::60].flatten(1)

    extractor.embed_with_extractor(watch, [np.zeros((8, 8), np.uint8)])
    assert seen == ["ieee"]
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    set_float32("ieee")
    keys = []
    real = features.with_cache
    monkeypatch.setattr(
        features,
        "with_cache",
        lambda network, **given: keys.append(given) or real(network, **given),
    )
    path = save(Flatten(), tmp_path / "mine.pt")
    load_features(str(path), trust=True)
    monkeypatch.setattr(extractor, "describe_arithmetic", lambda: "cuda, float32 ieee")
    load_features(str(path), trust=True)
    assert keys == [{"code": "cpu, float32 ieee"}, {"code": "cuda, float32 ieee"}]
