"""The real `echodiff translate`: what is carried over, what is written of it, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from echodiff.evaluate import main
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.gan.networks.generators import build_generator
from echodiff.gan.weights import load_generator
from echodiff.images import read_gray_u8, read_image_u8, read_mask_u8
from echodiff.runs import Run, sha256_file
from echodiff.training.checkpoints import write_safetensors

TOY = ["--width", "2", "--resolution", "32", "--load-size", "36", "--generator", "resnet_6"]


@pytest.fixture
def run(echodiff, domains, tmp_path):
    """A CycleGAN of one step."""
    assert echodiff("train-gan", *domains, *TOY, "--steps", 1, "--out", tmp_path / "toy-run") == 0
    return tmp_path / "toy-run"


@pytest.fixture
def published(tmp_path):
    """A colour generator as published code saves it."""
    net = build_generator("resnet_9", 3, width=2, seed=3)
    torch.save(net.state_dict(), tmp_path / "latest_net_G_A.pth")
    return tmp_path / "latest_net_G_A.pth"


def test_rows_say_what_is_still_true_and_what_made_them(echodiff, run, domains, tmp_path):
    out, source = tmp_path / "out", Path(domains[1])
    assert echodiff("translate", run, source, "--out", out) == 0
    frames, originals = load_frames(out, require_mask=True), load_frames(source)
    assert [frame.file_name for frame in frames] == [frame.file_name for frame in originals]
    for frame, original in zip(frames, originals, strict=True):
        for name in ("text", "patient_id", "pair_id", "mask_file_name"):
            assert getattr(frame, name) == getattr(original, name)
        assert frame.modality == "echo"
        assert frame.weights == sha256_file(run / "G_A.safetensors")
        assert frame.weights == Run.load(run).record["weights_sha256"]
        assert json.loads(frame.settings) == {
            "run": "toy-run", "generator": "resnet_6", "direction": "forward", "resolution": 32,
        }  # fmt: skip
        # 40 pixels of 2 mm became 32.
        assert frame.spacing_mm == pytest.approx(2.5)
        assert read_image_u8(out / frame.file_name).shape == (32, 32)
        mask = read_mask_u8(out / frame.mask_file_name)
        expected = np.asarray(Image.open(source / original.mask_file_name).resize((32, 32), 0))
        assert np.array_equal(mask, expected)


def test_pictures_are_those_of_the_generator(echodiff, run, domains, tmp_path):
    out, source = tmp_path / "out", Path(domains[1])
    assert echodiff("translate", run, source, "--out", out, "--batch-size", 4) == 0
    net = load_generator(run / "G_A.safetensors").net.eval()
    picture = Image.open(source / "images" / "0003.png").resize((32, 32), Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.asarray(picture) / 127.5 - 1).float()[None, None]
    with torch.no_grad():
        expected = ((net(image)[0, 0] + 1) * 127.5).round().clamp(0, 255).numpy()
    found = read_gray_u8(out / "images" / "0003.png").astype(float)
    assert np.abs(found - expected).max() <= 1


def test_the_way_back_is_the_other_generator(echodiff, run, domains, tmp_path):
    assert echodiff("translate", run, domains[3], "--out", tmp_path / "out", "--back") == 0
    frames = load_frames(tmp_path / "out")
    assert {frame.weights for frame in frames} == {sha256_file(run / "G_B.safetensors")}
    assert {frame.modality for frame in frames} == {"pseudo"}
    assert json.loads(frames[0].settings)["direction"] == "back"


def test_one_split_can_be_translated(echodiff, refusal, run, domains, tmp_path):
    path = Path(domains[1]) / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row | {"split": "test" if index > 3 else "train"} for index, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["translate", run, domains[1], "--split", "test"]
    assert echodiff(*flags, "--out", tmp_path / "out") == 0
    assert [frame.patient_id for frame in load_frames(tmp_path / "out")] == ["p4", "p5"]
    line = refusal("translate", run, domains[1], "--split", "val", "--out", tmp_path / "none")
    assert "--split val: no row" in line


def test_stopped_and_gone_on_is_the_same_folder(echodiff, run, domains, tmp_path, monkeypatch):
    from echodiff.frames.writer import FramesWriter

    class KilledError(Exception):
        pass

    real_add = FramesWriter.add

    def add_and_die(self, *given):
        if len(self.done) == 4:
            raise KilledError
        return real_add(self, *given)

    flags = ["translate", run, domains[1], "--out"]
    assert echodiff(*flags, tmp_path / "straight") == 0
    with monkeypatch.context() as patched:
        patched.setattr(FramesWriter, "add", add_and_die)
        with pytest.raises(KilledError):
            echodiff(*flags, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "metadata.jsonl").exists()
    assert echodiff(*flags, tmp_path / "stopped") == 0
    for path in (tmp_path / "straight").rglob("*.*"):
        other = tmp_path / "stopped" / path.relative_to(tmp_path / "straight")
        assert path.read_bytes() == other.read_bytes()


def test_a_published_generator_translates_in_colour(echodiff, published, domains, tmp_path):
    out = tmp_path / "out"
    flags = ["translate", published, domains[1], "--out", out, "--resolution", 40]
    assert echodiff(*flags) == 0
    frame = load_frames(out)[0]
    assert read_image_u8(out / frame.file_name).shape == (40, 40, 3)
    assert frame.weights == sha256_file(published)
    assert json.loads(frame.settings)["generator"] == "resnet_9"
    assert frame.modality == "pseudo"  # a published file does not say what it draws


class Code:
    def __reduce__(self):
        return Path.mkdir, (Path("was-run"),)


def test_bad_input_is_one_line_and_leaves_nothing(
    echodiff, refusal, run, published, domains, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.save({"model.1.weight": Code()}, "evil.pth")
    out = ["--out", tmp_path / "out"]
    line = refusal("translate", "evil.pth", domains[1], *out)
    assert "evil.pth: damaged, or carries code, which is never run: refused" in line
    assert not Path("was-run").exists()
    assert "is no run folder" in refusal("translate", domains[1], domains[1], *out)
    assert "nowhere.pth: no such file" in refusal("translate", "nowhere.pth", domains[1], *out)
    assert "nowhere: no such folder" in refusal("translate", run, "nowhere", *out)
    line = refusal("translate", published, domains[1], *out, "--resolution", 42)
    assert "--resolution 42: 42 x 42 pixels: this generator takes sides" in line
    assert "--back: a single file" in refusal("translate", published, domains[1], *out, "--back")
    assert "--batch-size 0" in refusal("translate", run, domains[1], *out, "--batch-size", 0)
    Run.load(run).update(status="running")
    assert "is unfinished" in refusal("translate", run, domains[1], *out)
    Run.load(run).update(status="finished", command="train_lora")
    assert "is no run of train-gan" in refusal("translate", run, domains[1], *out)
    assert not (tmp_path / "out").exists()


def test_a_generator_that_is_not_finite_names_its_tensor(
    refusal, run, published, domains, tmp_path
):
    path, out = run / "G_A.safetensors", ["--out", tmp_path / "out"]
    loaded = load_generator(path)
    state = loaded.net.state_dict()
    state["model.4.weight"][0, 0, 0, 0] = float("nan")
    write_safetensors(path, state, {"echodiff": json.dumps(loaded.facts)})
    line = refusal("translate", run, domains[1], *out)
    assert "G_A.safetensors: model.4.weight holds NaN or infinity" in line
    state = torch.load(published, weights_only=True)
    state["model.1.bias"][0] = float("inf")
    torch.save(state, published)
    line = refusal("translate", published, domains[1], *out)
    assert "latest_net_G_A.pth: model.1.bias holds NaN or infinity" in line
    assert not (tmp_path / "out").exists()


def test_a_translation_that_is_not_finite_names_its_frame(refusal, run, domains, tmp_path):
    """Weights that are finite may overflow: the picture was black."""
    path = run / "G_A.safetensors"
    loaded = load_generator(path)
    state = {k: v * 0 + 1e38 for k, v in loaded.net.state_dict().items()}
    write_safetensors(path, state, {"echodiff": json.dumps(loaded.facts)})
    line = refusal("translate", run, domains[1], "--out", tmp_path / "out")
    assert "images/0000.png: its translation is not finite" in line


def test_a_finished_folder_is_left_alone(echodiff, refusal, run, domains, tmp_path):
    flags = ["translate", run, domains[1], "--out", tmp_path / "out"]
    assert echodiff(*flags) == 0
    assert "is a finished frames folder" in refusal(*flags)
    assert "is not empty and is not a frames folder" in refusal(*flags[:4], run)
    assert echodiff(*flags, "--overwrite") == 0


def test_two_frames_that_would_become_one_file_are_refused(echodiff, refusal, run, tmp_path):
    with FramesWriter(tmp_path / "twins") as writer:
        for name in ("a.png", "a.jpg"):
            writer.add(Frame(file_name=name, text=""), np.zeros((32, 32), dtype=np.uint8))
    line = refusal("translate", run, tmp_path / "twins", "--out", tmp_path / "out")
    assert "images/a.jpg and images/a.png would both become images/a.png" in line
    assert not (tmp_path / "out").exists()


def test_masks_are_needed_where_the_generator_translates_them(echodiff, refusal, domains, tmp_path):
    flags = ["--source-kind", "mask", *TOY, "--steps", 1, "--out", tmp_path / "run"]
    assert echodiff("train-gan", *domains, *flags) == 0
    assert echodiff("translate", tmp_path / "run", domains[1], "--out", tmp_path / "out") == 0
    line = refusal("translate", tmp_path / "run", domains[3], "--out", tmp_path / "none")
    assert "images/0000.png: has no mask" in line


def test_frames_that_the_translation_was_trained_on_are_no_reference(
    echodiff, run, domains, write_domain, tmp_path, capsys
):
    out = tmp_path / "out"
    assert echodiff("translate", run, domains[1], "--out", out) == 0
    record = json.loads((out / "translate.json").read_text())
    assert record["weights"] == str(run)
    assert record["weights_sha256"] == load_frames(out)[0].weights

    def evaluate(reference):
        words = ["--reference", str(reference), "--features", "texture"]
        return main([str(out), *words, "--out", str(tmp_path / "scores")])

    assert evaluate(domains[3]) == 2  # the target
    assert "7 of 7 frames were trained on" in capsys.readouterr().err
    # Other patients of the same ids, and then of others.
    other = write_domain(tmp_path / "other", stripes=5)
    assert evaluate(other) == 2
    assert "6 of 6 frames were trained on" in capsys.readouterr().err
    rows = [json.loads(line) for line in (other / "metadata.jsonl").read_text().splitlines()]
    renamed = [row | {"patient_id": f"q{i}", "pair_id": None} for i, row in enumerate(rows)]
    (other / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed))
    assert evaluate(other) == 0


def test_half_a_generator_draws_what_the_whole_one_draws(echodiff, domains, tmp_path):
    state = build_generator("resnet_6", width=2, seed=3).state_dict()
    drawn = {}
    for name, dtype in {
        "float": torch.float32,
        "double": torch.float64,
        "half": torch.float16,
    }.items():
        torch.save({"G": {k: v.to(dtype) for k, v in state.items()}}, tmp_path / f"{name}.pth")
        out = tmp_path / name
        assert echodiff("translate", tmp_path / f"{name}.pth", domains[1], "--out", out,
                        "--resolution", 32) == 0  # fmt: skip
        drawn[name] = [
            read_gray_u8(path).astype(int) for path in sorted((out / "images").iterdir())
        ]
    for whole, double, half in zip(*drawn.values(), strict=True):
        assert np.array_equal(whole, double)
        assert abs(whole - half).max() <= 1


def test_one_frame_that_cannot_be_read_costs_nothing_but_itself(
    echodiff, refusal, run, domains, tmp_path, capsys
):
    picture = Path(domains[1]) / "images" / "0003.png"
    picture.write_bytes(picture.read_bytes()[:60])
    flags = ["translate", run, domains[1], "--out", tmp_path / "out"]
    assert "--allow-bad skips them" in refusal(*flags)
    kept = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert "0003.png" not in kept
    assert echodiff(*flags, "--allow-bad") == 0
    assert "1 of" in capsys.readouterr().out
    names = {Path(frame.file_name).name for frame in load_frames(tmp_path / "out")}
    assert "0003.png" not in names
    assert kept <= names


def test_where_no_frame_was_translated_nothing_is_left(echodiff, refusal, run, domains, tmp_path):
    picture = Path(domains[1]) / "images" / "0000.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:60])
    flags = ["translate", run, domains[1], "--out", tmp_path / "out"]
    assert "--allow-bad skips them" in refusal(*flags)
    assert not (tmp_path / "out").exists()
    picture.write_bytes(whole)
    assert echodiff(*flags) == 0
