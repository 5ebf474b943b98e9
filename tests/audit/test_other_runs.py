"""Audits of weights that obey masks, of GANs, and with shadow models."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.shadows import train_shadow
from echodiff.audit.subjects import Side, Subjects
from echodiff.documents import read_yaml_record
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames

pytestmark = pytest.mark.filterwarnings(
    # diffusers' sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def echodiff(fresh_accelerate):
    """`echodiff("audit", run_dir, ...)` runs the real command; its exit status."""

    def run(*words):
        fresh_accelerate()
        return main([*map(str, words), "--threads", "1"])

    return run


def read(folder):
    return json.loads((folder / "privacy.json").read_text("utf-8"))


@pytest.mark.parametrize(
    "kind", ["control-lora", *(pytest.param(kind, marks=pytest.mark.slow)
                               for kind in ("controlnet", "t2i-adapter", "concat"))]
)  # fmt: skip
def test_weights_that_obey_masks_are_attacked_with_their_masks(
    echodiff, masked_frames, tiny_random_base, tmp_path, kind
):
    masked_frames.write_masked_frames(tmp_path / "frames", num=60, num_patients=60)
    place = tmp_path / "run"
    echodiff(
        "train-controlnet", "--base", tiny_random_base, "--data", tmp_path / "frames", "--kind",
        kind, "--out", place, "--max-steps", "2", "--obedience-images", "0",
    )  # fmt: skip
    status = echodiff(
        "audit", place, "--pairs", "8", "--attempts", "2", "--captions", "2", "--sample-steps",
        "2", "--features", "texture", "--out", tmp_path / "audit",
    )  # fmt: skip
    record = read(tmp_path / "audit")
    assert status == int(not record["passed"])
    # Of 60 frames 40 are train, and 10 of these have a caption.
    assert record["n"]["training_frames"] == 40
    assert record["n"]["members"] == 10
    assert record["attacks"]["calibrated_loss"]["num_members"] == 10
    assert record["attacks"]["extraction"]["num_captions"] == 2
    assert any("empty prompt" in one for one in record["not_tested"])
    assert read(place) == record


def test_a_discriminator_is_attacked_and_a_gan_has_no_captions(echodiff, speckle, tmp_path):
    source = speckle(tmp_path / "source", train=10, test=0, seed=500)
    target = speckle(tmp_path / "target", train=10, test=10)
    place = tmp_path / "gan"
    echodiff(
        "train-gan", "--method", "cyclegan", "--source", source, "--target", target, "--out", place,
        "--generator", "unet_128", "--resolution", 128, "--width", 4, "--channels", 1, "--steps", 2,
        "--sample-every", 0,
    )  # fmt: skip
    echodiff("translate", place, source, "--out", tmp_path / "drawn")
    status = echodiff(
        "audit", place, "--generated", tmp_path / "drawn", "--features", "texture",
        "--out", tmp_path / "audit",
    )  # fmt: skip
    record = read(tmp_path / "audit")
    assert status == int(not (record["passed"] and record["sets"][0]["passed"]))
    assert [*record["attacks"]] == ["discriminator", "reconstruction", "set"]
    assert record["n"]["member_patients"] == 10
    assert record["sets"][0]["copies"]["pixels"]["n"] == 10
    assert "extraction by training captions" in record["not_tested"]
    assert record["reduced"] == []
    weights = (place / "D_A.safetensors").read_bytes()
    (place / "D_A.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert echodiff("audit", place, "--out", tmp_path / "altered") == 2
    assert not (tmp_path / "altered/privacy.json").exists()


def test_a_shadow_of_another_seed_or_of_other_frames_is_not_taken(speckle, tmp_path, monkeypatch):
    """Halves are drawn from the seed: what an old shadow has seen is not what they say."""
    folder = speckle(tmp_path / "frames", train=4, test=4)
    frames = load_frames(folder)
    sides = [Side(folder, [f for f in frames if f.split == split]) for split in ("train", "test")]
    subjects = Subjects(*sides, sides[0], ())
    (tmp_path / "run").mkdir()
    settings = "epochs: 7\nrepeats: 2\nmembership_every: 5\nmembership_stop: 0.05\nrank: 4\n"
    (tmp_path / "run/config.yaml").write_text(settings)
    record = {"weights_sha256": "0", "num_steps": 30, "num_captioned": 4, "num_null_text": 4}
    run = SimpleNamespace(run_dir=tmp_path / "run", record=record)
    failed = SimpleNamespace(returncode=1, stderr="no memory\n")
    monkeypatch.setattr("echodiff.audit.shadows.subprocess.run", lambda *_, **__: failed)
    is_in = np.arange(8) % 2 == 0

    def train(is_in=is_in, **options):
        config = AuditConfig(run=tmp_path / "run", out=tmp_path / "audit", **options)
        train_shadow(config, run, subjects, is_in, 3)

    for _ in range(2):  # killed, and resumed
        with pytest.raises(InputError, match=r"003 failed: no memory"):
            train()
    recipe = read_yaml_record(tmp_path / "audit/shadows/003/config.yaml")
    # Stopped early after 30 steps of 4 * 2 + 4 samples: 20 steps of 4 * 2 show each as often.
    assert (recipe["max_steps"], recipe["rank"]) == (20, 4)
    assert "membership_stop" not in recipe
    for other in ({"seed": 1}, {"is_in": ~is_in}):
        with pytest.raises(InputError, match="is the shadow of another run, --seed or choice of"):
            train(**other)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_shadow_models_are_trained_once(echodiff, speckle, tiny_random_base, tmp_path):
    frames = speckle(tmp_path / "frames", train=10, test=10)
    place, out = tmp_path / "run", tmp_path / "audit"
    echodiff(
        "train-lora", "--base", tiny_random_base, "--data", frames, "--out", place, "--rank", 8,
        "--max-steps", 5, "--held-out-frames", 0, "--checkpoint-every", 0,
    )  # fmt: skip
    flags = ("--pairs", "8", "--attempts", "0", "--features", "texture", "--shadows", "4")
    assert echodiff("audit", place, "--out", out, *flags) in (0, 1)
    first = read(out)
    assert {"lira", "rmia"} <= first["attacks"].keys()
    records = sorted((out / "shadows").glob("*/run/run.json"))
    assert len(records) == 4
    assert [len(json.loads(path.read_text("utf-8"))["train"]) for path in records] == [10] * 4
    times = [path.stat().st_mtime_ns for path in records]
    assert echodiff("audit", place, "--out", out, "--overwrite", *flags) in (0, 1)
    assert [path.stat().st_mtime_ns for path in records] == times
    assert read(out)["attacks"] == first["attacks"]
