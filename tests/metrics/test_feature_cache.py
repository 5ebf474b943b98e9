"""The feature cache gives what the network gave, and survives whatever happens to its files."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from echodiff.metrics.feature_cache import FeatureCache
from echodiff.metrics.features import FeatureNetwork, with_cache


def describe(image):
    """Three numbers that float32 cannot hold."""
    values = image.astype(np.float64)
    return np.array([values.mean(), values.std(), image.shape[1] / 3])


class Counting:
    """A network that remembers how many pictures it was shown."""

    def __init__(self, *, sha256="a" * 64, resize="none", in_float32=False):
        self.shown = 0
        self.in_float32 = in_float32
        self.network = FeatureNetwork(
            name="counting", sha256=sha256, num_features=3, resize=resize, embed=self.embed
        )

    def embed(self, images_u8):
        self.shown += len(images_u8)
        features = np.stack([describe(image) for image in images_u8])
        return features.astype(np.float32).astype(np.float64) if self.in_float32 else features


def pictures(num, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (8, 8 + i % 3), dtype=np.uint8) for i in range(num)]


def shards(folder):
    return sorted(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("in_float32", [True, False])
def test_the_second_time_the_network_is_not_asked(tmp_path, in_float32):
    images = pictures(10)
    first, second = Counting(in_float32=in_float32), Counting()
    expected = with_cache(first.network, tmp_path)(images)
    found = with_cache(second.network, tmp_path)(images[::-1])
    assert (first.shown, second.shown) == (10, 0)
    assert np.array_equal(found, expected[::-1])
    assert found.dtype == np.float64
    stored = load_file(shards(tmp_path)[0])["features"].dtype
    assert stored == (np.float32 if in_float32 else np.float64)


def test_within_one_call_a_picture_is_shown_once(tmp_path):
    images = pictures(4)
    counting = Counting()
    network = with_cache(counting.network, tmp_path)
    features = network([images[0], images[1], images[0], *images])
    assert counting.shown == 4
    assert np.array_equal(
        features, np.stack([describe(i) for i in [*images[:2], images[0], *images]])
    )
    assert network([]).shape == (0, 3)
    assert (network.name, network.sha256) == ("counting", "a" * 64)


@settings(max_examples=15, deadline=None)
@given(calls=st.lists(st.lists(st.integers(0, 11), max_size=8), max_size=6))
def test_whatever_the_calls_the_features_are_the_networks(tmp_path_factory, calls):
    folder, images = tmp_path_factory.mktemp("cache"), pictures(12)
    network = with_cache(Counting().network, folder)
    for call in calls:
        chosen = [images[index] for index in call]
        expected = Counting().network(chosen)
        assert np.array_equal(network(chosen), expected)
        assert np.array_equal(with_cache(Counting().network, folder)(chosen), expected)


def test_shape_hash_resize_and_code_are_part_of_the_key(tmp_path):
    image = np.arange(12, dtype=np.uint8)
    with_cache(Counting().network, tmp_path)([image.reshape(3, 4)])
    for other, code, picture in [
        (Counting(), "", image.reshape(4, 3)),
        (Counting(sha256="b" * 64), "", image.reshape(3, 4)),
        (Counting(resize="twice"), "", image.reshape(3, 4)),
        (Counting(), "changed", image.reshape(3, 4)),
    ]:
        with_cache(other.network, tmp_path, code=code)([picture])
        assert other.shown == 1
    again = Counting()
    with_cache(again.network, tmp_path)([image.reshape(3, 4)])
    assert again.shown == 0


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[8 + int.from_bytes(data[:8], "little") + 100] ^= 1  # behind the header: the features
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def swap_for_another_network(path):
    save_file({"digests": np.zeros((2, 32), np.uint8), "features": np.zeros((2, 7))}, path)


def cut_columns(path):
    tensors = load_file(path)
    save_file(tensors | {"features": tensors["features"][:, :2].copy()}, path)


def poison(path):
    tensors = load_file(path)
    save_file(tensors | {"features": np.full_like(tensors["features"], np.nan)}, path)


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, empty, swap_for_another_network, cut_columns, poison]
)
@pytest.mark.parametrize("is_open", [True, False])
def test_a_damaged_entry_is_computed_again_and_replaced(tmp_path, damage, is_open):
    images = pictures(30)
    first = Counting()
    network = with_cache(first.network, tmp_path)
    expected = network(images)
    damage(shards(tmp_path)[0])
    if not is_open:
        network = with_cache(first.network, tmp_path)
    assert np.array_equal(network(images), expected)
    assert first.shown == 60
    last = Counting()
    assert np.array_equal(with_cache(last.network, tmp_path)(images), expected)
    assert last.shown == 0
    assert len(shards(tmp_path)) == 1


def test_a_shard_that_another_process_removed_is_computed_again(tmp_path):
    images, counting = pictures(3), Counting()
    network = with_cache(counting.network, tmp_path)
    expected = network(images)
    shards(tmp_path)[0].unlink()
    assert np.array_equal(network(images), expected)
    assert counting.shown == 6


def test_what_a_stopped_process_left_behind_is_not_read(tmp_path):
    images, counting = pictures(3), Counting()
    network = with_cache(counting.network, tmp_path)
    network(images)
    shard = shards(tmp_path)[0]
    shard.rename(shard.with_name(f".partial-1-{shard.name}"))
    with_cache(counting.network, tmp_path)(images)
    assert counting.shown == 6


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    images, counting = pictures(3), Counting()
    network = with_cache(counting.network, tmp_path / "cache")
    expected = np.stack([describe(image) for image in images])
    for _ in range(2):
        assert np.array_equal(network(images), expected)
    assert capsys.readouterr().err.count("\n") == 1


def test_nan_is_never_kept(tmp_path):
    from echodiff.errors import InputError

    network = FeatureNetwork(
        name="nan",
        sha256="c",
        num_features=1,
        resize="",
        embed=lambda i: np.full((len(i), 1), np.nan),
    )
    with pytest.raises(InputError, match="nan: the network gave NaN"):
        with_cache(network, tmp_path)(pictures(2))
    assert shards(tmp_path) == []


PROCESS = """
import sys
from pathlib import Path
import numpy as np
from echodiff.metrics.feature_cache import FeatureCache

cache = FeatureCache(Path(sys.argv[1]), 1)
for start in range(int(sys.argv[2]), int(sys.argv[2]) + 40, 4):
    images = [np.full((2, 2), value, np.uint8) for value in range(start, start + 4)]
    features = cache.embed(images, lambda chosen: np.array([[image.mean()] for image in chosen]))
    assert features[:, 0].tolist() == list(range(start, start + 4))
"""


def test_processes_share_a_folder(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), start], stderr=-1)
        for start in ("0", "8", "20")
    ]
    assert [process.communicate()[1] for process in processes] == [b"", b"", b""]

    def refuse(images):
        raise AssertionError("not kept")

    images = [np.full((2, 2), value, np.uint8) for value in range(60)]
    assert FeatureCache(tmp_path, 1).embed(images, refuse)[:, 0].tolist() == list(range(60))
