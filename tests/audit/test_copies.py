"""Copies planted in a set are found, whatever was done to them, and no others."""

import io

import numpy as np
import pytest
from PIL import Image

from echodiff.audit.copies import Reference, compute_near_p, find_copies
from echodiff.audit.membership import RECALL, Attack, run_attacks
from echodiff.audit.sscd import load_sscd
from echodiff.audit.subjects import Side, Units
from echodiff.audit.verdict import judge_images
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.metrics.frame_features import load_networks
from echodiff.metrics.likeness.nearest import compare_all


def compress(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def shift(image):
    moved = np.zeros_like(image)
    moved[2:, 2:] = image[:-2, :-2]
    return moved


EDITS = (
    lambda image: image,
    compress,
    shift,
    lambda image: (image * 1.2 + 10).clip(0, 255).astype(np.uint8),
)
"""As they are, compressed, shifted by two pixels, brightened."""
NUM = 80


@pytest.fixture(scope="module")
def reference(speckle, tmp_path_factory):
    folder = speckle(tmp_path_factory.mktemp("real") / "frames", train=30, test=30)
    frames = load_frames(folder)
    sides = [Side(folder, [f for f in frames if f.split == split]) for split in ("train", "test")]
    return Reference.read(*sides, load_networks(("texture",)).opened, None)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_planted_copies_are_found_within_the_interval(reference, draw, tmp_path, share):
    """Four edits in turn."""
    num_copies = round(share * NUM)
    images = [EDITS[number % 4](draw(number)) for number in range(num_copies)]
    images += [draw(5000 + number) for number in range(NUM - num_copies)]
    paths = [tmp_path / f"{number:03d}.png" for number in range(NUM)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    found = find_copies(paths, reference, "planted")
    assert found.num_copies == num_copies
    assert found.is_copy[:num_copies].all()
    assert [found.matches[row].place for row in range(num_copies)] == [*range(num_copies)]
    assert found.share.low <= share <= found.share.high
    record = found.to_record()
    assert record["pixels"]["num_frames_copied"] == num_copies
    assert record["texture"]["n"] == NUM
    assert 0 <= record["texture"]["authentic"]["value"] <= 1


@pytest.mark.parametrize("num_real", [20, 40, 200])
def test_images_that_are_as_unseen_frames_are_rarely_called_near(num_real):
    """With few unseen frames, the distance of the nearest twentieth of them is a matter of luck."""
    generator, values = np.random.default_rng(0), []
    for _ in range(2000):
        limit = np.quantile(generator.random(num_real), 0.05)
        values.append(compute_near_p((generator.random(300) < limit).mean(), 300, num_real))
    assert np.mean(np.array(values) < 0.01) < 0.015
    assert compute_near_p(0.6, 300, num_real) < 1e-4


def test_the_limit_is_set_by_held_out_frames(reference):
    found = find_copies(reference.others.paths, reference, "held out")
    assert found.num_copies == 0
    assert found.share.high < 0.12
    assert reference.num_calibrated == 30


def test_a_dozen_held_out_frames_set_it_too(speckle, tmp_path):
    """Copies come out of a VAE with a likeness of 0.76 to 0.85: a fixed limit above misses them."""
    folder = speckle(tmp_path / "frames", train=10, test=12)
    frames = load_frames(folder)
    sides = [Side(folder, [f for f in frames if f.split == split]) for split in ("train", "test")]
    found = Reference.read(*sides, (), None)
    assert (found.num_calibrated, found.is_blind) == (12, False)
    assert found.limit < 0.75


def test_frames_without_speckle_are_not_passed_in_silence(speckle, tmp_path):
    folder = speckle(tmp_path / "small", train=10, test=20, size=24)
    frames = load_frames(folder)
    sides = [Side(folder, [f for f in frames if f.split == split]) for split in ("train", "test")]
    blind = Reference.read(*sides, load_networks(("texture",)).opened, None)
    assert blind.is_blind
    verdict = judge_images(find_copies(sides[0].paths, blind, "copies"))
    assert not verdict.passed
    assert "copies cannot be told: of 10 training frames themselves only" in verdict.text


def test_images_of_one_frame_are_alike_and_others_are_not(draw):
    likeness = compare_all([draw(1), compress(draw(1)), draw(2), shift(draw(1))])
    assert likeness[0, 1] > 0.8
    assert likeness[0, 3] > 0.8
    assert max(likeness[2, (0, 1, 3)]) < 0.6


def test_sscd_is_read_by_path(tmp_path, reference):
    """A stand-in of the same interface: colour of 288 pixels in, one descriptor an image out."""
    torch = pytest.importorskip("torch")

    class Descriptor(torch.nn.Module):
        def forward(self, images):
            assert images.shape[1:] == (3, 288, 288)
            return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)

    with pytest.warns(Warning, match=r"torch\.jit"):
        torch.jit.script(Descriptor()).save(str(tmp_path / "sscd.pt"))
    network = load_sscd(tmp_path / "sscd.pt")
    assert network.num_features == 48
    features = network([np.full((288, 288), 90, np.uint8), np.eye(288, dtype=np.uint8) * 255])
    assert np.linalg.norm(features, axis=1) == pytest.approx(1)
    with pytest.raises(InputError, match=r"--sscd .*: no such file"):
        load_sscd(tmp_path / "none.pt")


@pytest.mark.parametrize(("learned", "is_fine"), [(2.0, False), (0.0, True)])
def test_images_of_weights_that_recall_layouts_do_not_pass(speckle, tmp_path, learned, is_fine):
    """The search for copies finds nothing in them: it compares grain."""
    units = Units(np.arange(80), np.arange(80) < 40, np.zeros(80, np.int64))
    scores = np.random.default_rng(0).normal(size=80) + learned * units.is_member
    found = run_attacks([Attack(RECALL, scores, "layout")], units, seed=0)
    folder = speckle(tmp_path / "frames", train=10, test=30)
    frames = load_frames(folder)
    train, test = (
        Side(folder, [frame for frame in frames if frame.split == split])
        for split in ("train", "test")
    )
    drawn = Side(folder, test.frames[20:])
    reference = Reference.read(train, Side(folder, test.frames[:20]), (), None)
    verdict = judge_images(find_copies(drawn.paths, reference, "drawn"), found)
    assert verdict.passed is is_fine
    assert ("weights that recall training frames" in verdict.text) is not is_fine
