"""`echodiff pretrain` at toy size: every stage, every file, and going on after a stop."""

import inspect
import json
import logging
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from echodiff.__main__ import main
from echodiff.anatomy import Finding, Label, Level, View
from echodiff.captions.findings import findings_in
from echodiff.metrics.segmenter import LABELS, load_segmenter
from echodiff.metrics.tiny_features import ASSET, load_tiny_features
from echodiff.phantom.acquisition import VISIBLE, Population, sample_acquisition
from echodiff.pretrain import classifier, command, segmenter, stage
from echodiff.pretrain.autoencoder import build_autoencoder, radial_bands, radial_power
from echodiff.pretrain.corpus import FINDINGS, POPULATIONS, Corpus
from echodiff.pretrain.denoiser import build_unet
from echodiff.pretrain.export import build_tokenizer
from echodiff.pretrain.language import (
    build_captions,
    build_foreign_captions,
    find_words,
    tokenize,
)

TOY = [
    *("pretrain", "--num-frames", "100", "--num-feature-frames", "100", "--workers", "1"),
    *("--num-scanner-frames", "100", "--autoencoder-steps", "1", "--decoder-steps", "1"),
    *("--text-encoder-steps", "1", "--denoiser-steps", "1", "--detail-steps", "1"),
    *("--classifier-steps", "1", "--num-segmenter-frames", "100", "--segmenter-steps", "1"),
]


TRAININGS = ("train_autoencoder", "train_classifier", "train_decoder", "train_denoiser")


def with_two_frames(train):
    """The training of a stage with batches of two frames: the networks keep their size."""

    def run(*arguments):
        bound = inspect.signature(train).bind(*arguments)
        bound.arguments["batch_size"] = 2
        return train(*bound.args)

    return run


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrain") / "out"
    with pytest.MonkeyPatch.context() as patched:
        for name in TRAININGS:
            patched.setattr(command, name, with_two_frames(getattr(command, name)))
        assert main([*TOY, "--out", str(out)]) == 0
    return out


def test_the_folder_is_a_plain_diffusers_pipeline(pretrained):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        pretrained / "tiny", safety_checker=None, dtype=torch.float32
    )
    picture = pipeline("normal heart", num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 128, 128, 3)
    assert pipeline.tokenizer.model_max_length == 77


def test_the_card_says_how_it_was_made(pretrained):
    card = (pretrained / "tiny" / "README.md").read_text()
    report = json.loads((pretrained / "report.json").read_text())
    assert "Not for diagnosis" in card
    assert report["tiny"]["settings"]["seed"] == 2026
    assert set(report["tiny_features"]["held_out"]["findings"]) == set(
        json.loads((pretrained / "tiny_features" / "config.json").read_text())["thresholds"]
    )


def test_the_feature_network_has_an_output_for_every_finding_of_its_views(pretrained):
    assert set(FINDINGS) == VISIBLE[View.A4C] | VISIBLE[View.A2C]
    config = json.loads((pretrained / "tiny_features" / "config.json").read_text())
    assert config["columns"] == list(FINDINGS)
    judge = load_tiny_features(pretrained / "tiny_features")
    assert judge.network.head_findings.out_features == len(FINDINGS)
    # A toy holds out five frames a half: too few for any threshold.
    assert not judge.thresholds
    assert judge.findings([np.zeros((128, 128), np.uint8)]).shape == (1, 0)


def test_a_finding_that_too_few_held_out_frames_show_is_left_out(tmp_path, caplog):
    shown = {Finding.ASD: 10, Finding.RVH: 9, Finding.PERICARDIAL_EFFUSION: 12}
    held_out = [[f for f, num in shown.items() if i % 20 < num] for i in range(40)]
    rows = [
        {"findings": found, "view": "A4C", "phase": "ED", "style": "aspen"}
        for found in [[]] * 360 + held_out
    ]
    corpus = Corpus(np.zeros((400, 128, 128), np.uint8), rows)
    with caplog.at_level(logging.WARNING):
        _, card = classifier.train_classifier(corpus, tmp_path, 1, 2, seed=1, device="cpu")
    assert list(card["thresholds"]) == list(card["held_out"]["findings"]) == ["asd"]
    assert len(caplog.messages) == len(FINDINGS) - 1
    assert any("rvh is left out: 9 of a half" in message for message in caplog.messages)


@pytest.mark.parametrize("is_old", [True, False])
def test_a_network_judges_the_findings_its_config_names(tmp_path, is_old):
    names = ["asd", "vsd", "lvh"]
    config = json.loads((ASSET / "config.json").read_text())
    config["thresholds"] = dict.fromkeys(names if is_old else ["lvh", "asd"], 0.5)
    config |= {} if is_old else {"columns": names}
    state = load_file(ASSET / "model.safetensors")
    state["head_findings.weight"] = torch.zeros(3, 64)
    state["head_findings.bias"] = torch.tensor([-9.0, 0.0, 9.0])
    save_file(state, tmp_path / "model.safetensors")
    if is_old:
        config.pop("columns", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    judge = load_tiny_features(tmp_path)
    probability = judge.findings([np.zeros((128, 128), np.uint8)])[0]
    found = dict(zip(judge.thresholds, probability.round(), strict=True))
    assert found == ({"asd": 0, "vsd": 0, "lvh": 1} if is_old else {"asd": 0, "lvh": 1})


def test_every_finding_is_in_enough_frames_of_the_feature_network():
    drawn = [sample_acquisition(5, 2 * i, POPULATIONS["features"]).heart for i in range(2500)]
    shares = {f: np.mean([f in heart.finding_names for heart in drawn]) for f in FINDINGS}
    assert min(shares.values()) > 0.035, shares


def test_the_text_encoder_reads_every_word_that_captions_of_any_view_use():
    known = {word for text in build_captions(7, 2500) for word in text.replace(",", "").split()}
    others = Population(finding_rate=0.9, views=tuple(VISIBLE))
    texts = [sample_acquisition(99, i, others).text for i in range(1500)]
    words = {word for text in texts for word in text.replace(",", "").split()}
    assert not {word for word in words - known if word.isalpha()}
    assert {*Level, "five-chamber", "parasternal", "subcostal"} <= known
    tokenizer = build_tokenizer(5)
    assert max(len(ids) for ids in tokenizer(texts).input_ids) <= 77
    assert not [w for w in words if w.isalpha() and len(tokenizer(w).input_ids) > 3]


def test_the_segmenter_is_one_that_evaluate_opens(pretrained):
    network = load_segmenter(pretrained / "segmenter")
    labels = network([np.zeros((128, 128), np.uint8), np.zeros((40, 40), np.uint8)])
    assert labels.shape == (2, 128, 128)
    assert set(np.unique(labels)) <= set(LABELS)
    weights = pretrained / "segmenter" / "model.safetensors"
    assert weights.stat().st_size < 3_000_000
    card = json.loads((pretrained / "segmenter" / "config.json").read_text())
    assert card["held_out"]["n"] == 10
    assert set(card["held_out"]["dice"]) == {"sound", "broken"}


def test_one_part_is_trained_alone_and_the_report_keeps_the_others(pretrained, capsys):
    before = json.loads((pretrained / "report.json").read_text())
    assert list(before) == ["segmenter", "tiny_features", "tiny"]
    assert main([*TOY, "--out", str(pretrained), "--parts", "segmenter"]) == 0
    assert json.loads((pretrained / "report.json").read_text()) == before
    assert main([*TOY, "--out", str(pretrained), "--parts", "vae"]) == 2
    assert "--parts: unknown ['vae']; known: segmenter" in capsys.readouterr().err


def test_a_segmenter_goes_on_from_an_earlier_one(pretrained, tmp_path, capsys):
    earlier, out = pretrained / "segmenter", tmp_path / "out"
    shutil.copytree(pretrained / "corpus", out / "corpus")
    flags = [*TOY, "--out", str(out), "--parts", "segmenter", "--segmenter-from"]
    assert main([*flags, str(earlier)]) == 0
    weights = "model.safetensors"
    started = json.loads((out / "settings.json").read_text())["segmenter_from"]
    assert started == sha256((earlier / weights).read_bytes()).hexdigest()
    before, after = (load_file(folder / weights) for folder in (earlier, out / "segmenter"))
    changes = [float((before[name] - after[name]).abs().max()) for name in before]
    assert 0 < max(changes) < 0.01  # one step away, not drawn anew
    assert main([*flags, str(tmp_path)]) == 2
    assert f"--segmenter {tmp_path}: model.safetensors is missing" in capsys.readouterr().err


def test_a_base_goes_on_from_an_earlier_one(pretrained, tmp_path, monkeypatch, capsys):
    for name in TRAININGS:
        monkeypatch.setattr(command, name, with_two_frames(getattr(command, name)))
    earlier, out = pretrained / "tiny", tmp_path / "out"
    shutil.copytree(pretrained / "corpus", out / "corpus")
    flags = [*TOY, "--out", str(out), "--parts", "base", "--init-from"]
    assert main([*flags, str(earlier)]) == 0
    assert not (out / "denoiser.pt").exists()  # the earlier UNet takes the place of that stage
    started = json.loads((out / "settings.json").read_text())["init_from"]
    weights = [earlier / name / "diffusion_pytorch_model.safetensors" for name in ("unet", "vae")]
    assert list(started.values()) == [sha256(path.read_bytes()).hexdigest() for path in weights]
    assert started["unet"] in (out / "tiny" / "README.md").read_text()
    before, after = (load_file(base / "unet" / weights[0].name) for base in (earlier, out / "tiny"))
    changes = [float((before[name] - after[name]).abs().max()) for name in before]
    assert 0 < max(changes) < 0.01  # one step away, not drawn anew
    # A base of another kind, or of unknown origin, is refused before anything is trained.
    assert main([*flags, str(tmp_path)]) == 2
    assert f"--init-from {tmp_path}: no card (README.md)" in capsys.readouterr().err
    other = shutil.copytree(earlier, tmp_path / "other")
    config = json.loads((other / "unet" / "config.json").read_text())
    (other / "unet" / "config.json").write_text(json.dumps(config | {"in_channels": 9}))
    assert main([*flags, str(other)]) == 2
    assert "unet with in_channels 9, not 4" in capsys.readouterr().err


def test_the_unet_alone_goes_on_from_an_earlier_base(pretrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "train_denoiser", with_two_frames(command.train_denoiser))
    earlier, out = pretrained / "tiny", tmp_path / "out"
    shutil.copytree(pretrained / "corpus", out / "corpus")
    flags = [*TOY, "--out", str(out), "--parts", "unet"]
    assert main([*flags, "--init-from", str(earlier)]) == 0
    for name in ("vae", "text_encoder"):
        one, other = (next((base / name).glob("*.safetensors")) for base in (earlier, out / "tiny"))
        assert one.read_bytes() == other.read_bytes()
    assert (earlier / "tokenizer/tokenizer.json").read_bytes() == (
        out / "tiny/tokenizer/tokenizer.json"
    ).read_bytes()
    name = "unet/diffusion_pytorch_model.safetensors"
    before, after = load_file(earlier / name), load_file(out / "tiny" / name)
    assert 0 < max(float((before[name] - after[name]).abs().max()) for name in before) < 0.01
    assert main(flags) == 2
    assert "--parts: unet needs --init-from" in capsys.readouterr().err


def test_foreign_captions_name_findings_of_other_hearts_and_keep_view_phase_and_age():
    drawn = [sample_acquisition(5, i, POPULATIONS["base"]) for i in range(300)]
    rows = [
        {"text": one.text, "view": str(one.pose.view), "phase": str(one.heart.phase)}
        for one in drawn
    ]
    captions = build_foreign_captions(6, rows)
    assert captions == build_foreign_captions(6, rows)
    described = [findings_in(caption) for caption in captions]
    assert sum(map(bool, described)) > 200
    for row, caption in zip(rows, captions, strict=True):
        assert caption.rsplit(", ", 1)[-1] == row["text"].rsplit(", ", 1)[-1]
        assert ("two-chamber" in caption or "2-chamber" in caption) == (row["view"] == "A2C")
        assert ("diast" in caption) == (row["phase"] == "ED")


def test_other_settings_on_the_same_folder_are_refused(pretrained, capsys):
    assert main([*TOY, "--out", str(pretrained), "--seed", "3"]) == 2
    assert "--out" in capsys.readouterr().err


def test_the_denoiser_has_about_8_million_parameters():
    assert sum(p.numel() for p in build_unet().parameters()) == pytest.approx(8e6, rel=0.05)


def test_radial_power_of_white_noise_is_flat():
    noise = torch.randn(64, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    power = radial_power(noise, radial_bands(128, torch.device("cpu")))
    assert power[4:64].numpy() == pytest.approx(np.ones(60), rel=0.08)


def test_the_autoencoder_halves_twice():
    vae = build_autoencoder()
    with torch.inference_mode():
        assert vae.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean.shape == (1, 4, 32, 32)


@pytest.mark.parametrize(
    ("module", "train"),
    [(classifier, classifier.train_classifier), (segmenter, segmenter.train_segmenter)],
)
def test_killed_and_started_again_ends_with_the_same_weights(tmp_path, monkeypatch, module, train):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 128, 128), dtype=np.uint8)
    labels = np.full_like(images, Label.LV)
    labels[:, 64:] = Label.LA
    row = {"findings": ["asd"], "view": "A4C", "phase": "ED", "style": "aspen"}
    corpus = Corpus(images, [row] * 20, labels)

    def run(folder):
        folder.mkdir(exist_ok=True)
        return train(corpus, folder, 4, 2, seed=1, device="cpu")[0].state_dict()

    whole = run(tmp_path / "whole")
    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)
    load, calls = module.to_pm1, []

    def stop_at_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return load(*arguments)

    monkeypatch.setattr(module, "to_pm1", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_tokenizer_numbers_words_alike_every_time():
    first, second = (build_tokenizer(5).get_vocab() for _ in range(2))
    assert first == second
    words = sorted(token for token, number in first.items() if number > 1)
    assert [first[token] for token in words] == list(range(2, len(first)))


def test_the_text_encoder_is_asked_for_words_and_neighbours_but_not_for_their_order():
    tokenizer = build_tokenizer(5)
    texts = ["left ventricle dilated"] * 10 + ["dilated left ventricle"] * 10 + [""]
    targets = find_words(tokenize(tokenizer, texts), tokenizer)
    # left, ventricle, dilated; left-ventricle, ventricle-dilated, dilated-left
    assert targets.shape == (21, 6)
    assert targets.sum(1).tolist() == [5] * 20 + [0]
    assert (targets[0] != targets[10]).sum() == 2
