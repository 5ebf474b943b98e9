"""Feature networks by name; the Inception file is checked before it is believed."""

import io
import shutil
import tempfile
import urllib.error
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from echodiff.config import InputError
from echodiff.metrics import inception, tiny_features, torchscript
from echodiff.metrics.features import load_features
from echodiff.metrics.inception import InceptionMissing, find_inception
from echodiff.runs import sha256_file


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


def test_inception_sees_what_clean_fid_shows_it(nowhere, genuine, monkeypatch, tmp_path):
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    folder = tmp_path / "pngs"
    folder.mkdir()
    images = frames(4)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = InceptionV3W(str(genuine.parent), download=False, resize_inside=False).eval()
        theirs = fid.get_folder_features(
            str(folder),
            net,
            num_workers=0,
            batch_size=2,
            device=torch.device("cpu"),
            mode="clean",
            verbose=False,
        )
    monkeypatch.setenv(inception.ENVIRONMENT, str(genuine))
    network = load_features("inception")
    ours = network(images)
    assert network.frechet_name == "fid"
    assert ours.shape == (4, 2048)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_resize_is_clean_fids_to_a_hundredth_of_a_grey_level():
    from cleanfid.resize import build_resizer

    for image in [*frames(1, 112), *frames(1, 512)]:
        theirs = build_resizer("clean")(np.repeat(image[..., None], 3, axis=2))[..., 0]
        ours = torchscript.resize_for_inception(image).numpy()
        assert np.abs(ours - theirs).max() < 0.01


def test_a_torchscript_file_is_a_feature_network(tmp_path):
    path = save(Flatten(), tmp_path / "mine.pt")
    network = load_features(str(path))
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


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*inception, tiny, texture"):
        load_features(str(tmp_path / "none.pt"))
    (tmp_path / "junk.pt").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"junk\.pt: not a TorchScript"):
        load_features(str(tmp_path / "junk.pt"))
    path = save(torch.nn.Linear(7, 2), tmp_path / "linear.pt")
    with pytest.raises(InputError, match=r"linear\.pt: does not take"):
        load_features(str(path))
    path = save(Flatten(), tmp_path / "inception.pt")
    with pytest.raises(InputError, match="rename"):
        load_features(str(path))


def test_a_network_that_gives_nan_is_refused(tmp_path):
    class Nan(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=[2, 3]) / torch.zeros(3)

    network = load_features(str(save(Nan(), tmp_path / "nan.pt")))
    with pytest.raises(InputError, match="NaN"):
        network([np.zeros((8, 8), np.uint8)])
