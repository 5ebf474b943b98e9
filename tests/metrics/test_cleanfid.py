"""Parity with clean-fid, and with torchmetrics: pictures, features and scores."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from echodiff.images import read_gray_u8
from echodiff.metrics import inception
from echodiff.metrics.extractor import resize_for_extractor
from echodiff.metrics.features import load_features
from echodiff.metrics.kernel import compute_mmd2, cubic_kernel
from echodiff.runs import sha256_file


def frames(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def write(images, folder):
    folder.mkdir()
    paths = [folder / f"{index:03}.png" for index in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_pictures_reach_the_network_as_from_clean_fids_loader(tmp_path):
    from cleanfid.utils import ResizeDataset

    paths = write(frames((112, 112), (299, 299), (512, 512), (64, 90), (112, 112)), tmp_path / "a")
    ours = resize_for_extractor([read_gray_u8(path) for path in paths])
    theirs = torch.stack(list(ResizeDataset(paths, mode="clean")))
    assert theirs.shape == (5, 3, 299, 299)
    difference = (ours[:, None] - theirs).abs()
    assert difference.max() <= 4e-3
    assert difference.mean(dim=(1, 2, 3)).max() <= 5e-4


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from([(20, 20), (33, 20), (20, 33), (299, 299)]), min_size=1, max_size=6
    )
)
def test_resizing_together_is_resizing_one_by_one(sizes):
    images = frames(*sizes)
    alone = torch.cat([resize_for_extractor([image]) for image in images])
    assert torch.equal(resize_for_extractor(images), alone)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4))])
def test_only_grey_bytes_are_resized(image):
    with pytest.raises(ValueError, match="grey uint8"):
        resize_for_extractor([image])


class Inception(torch.nn.Module):
    """The interface of the published TorchScript around torchvision's Inception v3."""

    def __init__(self):
        super().__init__()
        from torchvision.models import inception_v3

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = inception_v3(weights=None, aux_logits=False, init_weights=False).eval()
        layers.fc = torch.nn.Identity()
        self.layers = torch.jit.trace(layers, torch.zeros(1, 3, 299, 299), check_trace=False)

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers(x)


def test_one_inception_gives_the_same_features_in_clean_fids_path(tmp_path, monkeypatch):
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    weights = tmp_path / "weights" / inception.FILE_NAME
    weights.parent.mkdir()
    images = frames((112, 112), (112, 112), (200, 200))
    write(images, tmp_path / "pngs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Inception().eval()).save(str(weights))
        net = InceptionV3W(str(weights.parent), download=False, resize_inside=False).eval()
        theirs = fid.get_folder_features(
            str(tmp_path / "pngs"),
            net,
            num_workers=0,
            batch_size=2,
            device=torch.device("cpu"),
            mode="clean",
            verbose=False,
        )
    monkeypatch.setattr(inception, "SHA256", sha256_file(weights))
    monkeypatch.setenv(inception.ENVIRONMENT, str(weights))
    network = load_features("inception")
    ours = network(images)
    assert network.frechet_name == "fid"
    assert ours.shape == (3, 2048)
    assert theirs.std() > 0
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    assert np.array_equal(load_features("inception")(images[::-1]), ours[::-1])


def of_two_sets(num):
    rng = np.random.default_rng(1)
    return rng.standard_normal((num, 24)), 0.3 + 0.8 * rng.standard_normal((num, 24))


def test_kid_is_torchmetrics_on_equal_subsets():
    from torchmetrics.image.kid import KernelInceptionDistance

    class Pass(torch.nn.Module):
        num_features = 24

        def forward(self, x):
            return x

    first, second = of_two_sets(60)
    # A subset of everything is the statistic over all pairs, whatever the order drawn.
    with pytest.warns(UserWarning, match="will save all extracted features"):
        metric = KernelInceptionDistance(feature=Pass(), subsets=2, subset_size=60, normalize=True)
    metric.update(torch.from_numpy(second), real=True)
    metric.update(torch.from_numpy(first), real=False)
    mean, spread = metric.compute()
    assert compute_mmd2(first, second, cubic_kernel) == pytest.approx(mean.item(), rel=1e-5)
    assert spread.item() == pytest.approx(0.0, abs=1e-5)


def test_kid_is_clean_fids_on_equal_subsets():
    from cleanfid.fid import kernel_distance

    first, second = of_two_sets(60)
    theirs = kernel_distance(first, second, num_subsets=1)
    assert compute_mmd2(first, second, cubic_kernel) == pytest.approx(theirs, rel=1e-9)
