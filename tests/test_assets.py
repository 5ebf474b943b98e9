"""The parts that are shipped keep what their cards promise, on phantoms they never saw."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from echodiff.anatomy import Finding
from echodiff.metrics.tiny_features import STYLES, load_tiny_features
from echodiff.phantom.acquisition import Population, render, sample_acquisition

ASSETS = Path(__file__).parents[1] / "echodiff" / "assets"
UNSEEN = 990_001  # a seed that no pretraining used


def _frames(population, num, *, step=1):
    drawn = [sample_acquisition(UNSEEN, step * i, population) for i in range(num)]
    return drawn, [render(one, "echo", 128) for one in drawn]


def test_everything_shipped_fits_in_25_megabytes_and_nothing_is_pickled():
    files = [p for p in ASSETS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 25_000_000
    weights = {p.suffix for p in files if p.stat().st_size > 200_000}
    assert weights == {".safetensors"}


def test_decoded_frames_keep_the_speckle_of_their_input():
    import torch
    from diffusers import AutoencoderKL

    from echodiff.pretrain.autoencoder import spectrum_ratio

    vae = AutoencoderKL.from_pretrained(ASSETS / "tiny" / "vae", torch_dtype=torch.float32).eval()
    _, pictures = _frames(Population(finding_rate=0.1), 48, step=2)
    ratio = spectrum_ratio(vae, np.stack(pictures))
    assert ratio.shape == (48,)  # bands up to 3/4 of Nyquist
    # The bar is 15 per cent on 256 frames (report in the card); 48 frames add their own noise.
    assert ratio.min() > 0.82
    assert ratio.max() < 1.18


def test_the_feature_network_finds_what_a_heart_has():
    judge = load_tiny_features()
    drawn, pictures = _frames(Population(styles=STYLES, finding_rate=0.8), 160)
    probability = judge.findings(pictures)
    known = list(judge.thresholds)
    truth = np.array([[f in one.heart.finding_names for f in known] for one in drawn])
    said = probability >= list(judge.thresholds.values())
    assert (said == truth).mean() > 0.85
    asd = known.index(Finding.ASD)
    assert said[truth[:, asd], asd].mean() > said[~truth[:, asd], asd].mean() + 0.5
    style = judge.classify(pictures)["style"]
    assert np.mean([STYLES[s] == one.echo.style for s, one in zip(style, drawn, strict=True)]) > 0.9


def test_the_text_encoder_tells_the_words_of_every_finding_apart():
    """It met none of them with a picture; a linear map of any position past the end reads them."""
    import torch

    from echodiff.diffusion.base import load_base
    from echodiff.diffusion.encoding import encode_captions

    drawn = [sample_acquisition(UNSEEN, i, Population(finding_rate=0.7)) for i in range(1500)]
    hidden = encode_captions(load_base("tiny", torch.float32), [one.text for one in drawn])
    read = np.c_[hidden[:, -1].double().numpy(), np.ones(len(drawn))]
    known = list(load_tiny_features().thresholds)
    truth = np.array([[f in one.heart.finding_names for f in known] for one in drawn])
    fitted = np.linalg.lstsq(read[:1200], truth[:1200].astype(float), rcond=1e-6)[0]
    right = ((read[1200:] @ fitted > 0.5) == truth[1200:]).mean(axis=0)
    assert right.min() > 0.95
    assert np.median(right) > 0.99


def test_cards_say_how_they_were_made():
    card = (ASSETS / "tiny" / "README.md").read_text()
    assert "echodiff pretrain" in card
    assert "Not for diagnosis" in card
    held_out = json.loads((ASSETS / "tiny_features" / "config.json").read_text())["held_out"]
    assert set(held_out["findings"]) == set(load_tiny_features().thresholds)
    assert held_out["n"] >= 100


def test_the_base_is_a_plain_diffusers_folder_without_a_path_of_the_machine_that_made_it():
    for path in (ASSETS / "tiny").rglob("*.json"):
        assert os.sep + "tmp" not in path.read_text(), path


@pytest.mark.slow
# Diffusers' solver hands a tensor to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
@pytest.mark.timeout(1200)
def test_400_samples_are_near_held_out_phantoms():
    """Unbiased MMD^2 at most a fifth of that between the two styles that the base knows by name."""
    import torch

    from echodiff.diffusion.base import load_base
    from echodiff.diffusion.sampling.sampler import sample_images
    from echodiff.metrics.features import load_features
    from echodiff.metrics.kernel import build_rbf_kernel, compute_bandwidth, compute_mmd2

    # Nearly half of what the base was trained on comes from random scanners.
    population = Population(styles=(*STYLES[:2], "random", "random"), finding_rate=0.0)
    drawn, real = _frames(population, 400)
    pipeline = load_base("tiny", torch.float32)
    texts = [one.text for one in drawn]
    images = dict(
        sample_images(
            pipeline,
            texts,
            seed=1,
            indices=range(400),
            steps=20,
            guidance=1.5,
            scheduler="dpmpp",
            batch_size=25,
            resolution=128,
        )
    )
    styles = [_frames(Population(styles=(s,), finding_rate=0.0), 400)[1] for s in STYLES[:2]]
    for name in ("tiny", "texture"):
        network = load_features(name)
        x, y = network([images[i] for i in range(400)]), network(real)
        kernel = build_rbf_kernel(compute_bandwidth(y))
        apart = compute_mmd2(network(styles[0]), network(styles[1]), kernel)
        assert compute_mmd2(x, y, kernel) < 0.2 * apart, name


@pytest.mark.slow
# Diffusers' solver hands a tensor to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
@pytest.mark.parametrize(("guidance", "least"), [(2.0, 0.8), (5.0, 0.84)])
@pytest.mark.timeout(1200)
def test_the_hearts_of_the_base_are_intact(guidance, least):
    """The aims are 0.95 and 0.9: docs/results.md. These bars keep what was reached."""
    import torch

    from echodiff.diffusion.base import load_base
    from echodiff.diffusion.sampling.sampler import sample_images
    from echodiff.frames.rows import Frame
    from echodiff.metrics.intact import judge_frames
    from echodiff.metrics.segmenter import load_segmenter

    population = Population(styles=STYLES[:2], finding_rate=0.0)
    texts = [sample_acquisition(UNSEEN, 2 * i, population).text for i in range(200)]
    options = {"seed": 1, "steps": 25, "guidance": guidance, "batch_size": 25}
    images = dict(
        sample_images(load_base("tiny", torch.float32), texts, indices=range(200), **options)
    )
    rows = [Frame(file_name="a.png", text=text, prompt=text, view="A4C") for text in texts]
    judged = judge_frames([images[i] for i in range(200)], rows, load_segmenter())
    assert np.mean([not one.faults for one in judged]) >= least


def test_the_segmenter_reads_hearts_it_never_saw():
    from echodiff.metrics.criteria import Expected, find_faults, find_scan
    from echodiff.metrics.segmenter import load_segmenter

    drawn, pictures = _frames(Population(styles=("random", *STYLES), finding_rate=0.0), 40, step=2)
    found = load_segmenter()(pictures)
    broken = []
    for labels, picture, one in zip(found, pictures, drawn, strict=True):
        expected = Expected(one.pose.view, not one.heart.person.is_adult)
        broken.append(find_faults(labels, find_scan(picture), expected))
    assert sum(map(bool, broken)) <= 5
    assert (ASSETS / "segmenter" / "model.safetensors").stat().st_size <= 3_000_000


@pytest.mark.slow
def test_intact_hearts_broken_ones_and_the_count_by_eye(load_benchmark):
    benchmark = load_benchmark("intact")
    segmenter = benchmark.load_segmenter()
    assert benchmark.judge_sound(segmenter, 200).value >= 0.97
    painted = benchmark.judge_painted(segmenter, 200)
    assert painted["merged chambers"].value >= 0.9
    assert painted["swap"].value >= 0.9
    # Aims: 0.9 and 0.7, see docs/results.md.
    assert painted["all"].value >= 0.66
    assert benchmark.hold_against_count(segmenter) >= 0.45
