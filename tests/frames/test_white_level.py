"""One white level a frames folder: a frame has the same grey wherever it is read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.data.bad_files import BadFiles
from echodiff.diffusion.dataset import load_set
from echodiff.diffusion.encoding import read_image_pm1
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.white_level import find_white_level
from echodiff.gan.translate import FrameReader
from echodiff.images import read_image_u8, to_pm1
from echodiff.metrics.frame_features import load_networks, measure_frames
from echodiff.metrics.held_out import HeldOutScores

SIDE = 32


def write_deep(folder, tops, *, splits=None, **columns):
    """Frames of noise up to each of `tops`, 16-bit PNG; whose they are is their number."""
    rng = np.random.default_rng(len(tops))
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, top in enumerate(tops):
        values = rng.integers(0, top, (SIDE, SIDE)).astype(np.uint16)
        values[0, 0] = top
        name = f"images/{number:02d}.png"
        Image.fromarray(values).save(folder / name)
        split = {"split": splits[number]} if splits else {}
        row = {"file_name": name, "text": "ASD", "patient_id": f"p{number}"} | split
        rows.append(json.dumps(row | columns))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def flatten(deep, out, white):
    """The same folder in 8 bits, `white` shown white."""
    (out / "images").mkdir(parents=True)
    for path in (deep / "images").iterdir():
        values = np.asarray(Image.open(path)).astype(float)
        Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8)).save(
            out / "images" / path.name
        )
    (out / "metadata.jsonl").write_bytes((deep / "metadata.jsonl").read_bytes())
    return out


def measure_texture(source, **options):
    networks = load_networks(["texture"]).opened
    return measure_frames(source, networks, **options).in_features("texture").features


def test_training_held_out_scores_and_evaluation_see_the_same_grey(tmp_path):
    # Only a held-out frame that nothing else reads is bright; the dark ones fit in 10 bits.
    tops = [900] * 8 + [700, 800, 900, 1000, 4000]
    folder = write_deep(tmp_path / "deep", tops, splits=["train"] * 8 + ["val"] * 5)
    flat = flatten(folder, tmp_path / "flat", 4095)
    config = TrainLoraConfig(data=folder, held_out_frames=1, num_samples=1)
    dataset = load_set(config, folder)
    assert dataset.max_value == 4095
    assert dataset.to_record(tmp_path)["white_level"] == 4095
    for frame in dataset.train:
        wanted = to_pm1(read_image_u8(flat / frame.file_name))
        read = read_image_pm1(folder / frame.file_name, SIDE, dataset.max_value)
        np.testing.assert_array_equal(read[0], wanted)
    networks = load_networks(["texture"]).opened
    of_deep = HeldOutScores(networks, folder, dataset.held_out, dataset.max_value)
    of_flat = HeldOutScores(networks, flat, dataset.held_out)
    images = [np.full((SIDE, SIDE), level, np.uint8) for level in (10, 20, 30, 40)]
    assert of_deep(images) == of_flat(images)
    some = [frame.file_name for frame in dataset.held_out[:3]]
    for names in (some, some[:1], [frame.file_name for frame in dataset.train]):
        np.testing.assert_array_equal(
            measure_texture([folder / name for name in names]),
            measure_texture([flat / name for name in names]),
        )


@pytest.mark.parametrize("known_by", ["the training folder", "the generated set", "the rows"])
def test_a_dark_held_out_folder_is_scored_at_the_level_of_the_training(tmp_path, known_by):
    generated = write_deep(tmp_path / "8", [200] * 6)  # 8 bits in 16: no level of their own
    generated = flatten(generated, tmp_path / "generated", 255)
    train = write_deep(tmp_path / "train", [3000, 900, 900, 900, 900])
    rows = (train / "metadata.jsonl").read_text()
    (train / "metadata.jsonl").write_text(rows.replace('"p', '"other'))  # other patients
    stated = {"white_level": 4095} if known_by == "the rows" else {}
    reference = write_deep(tmp_path / "held-out", [900] * 6, **stated)
    flat = flatten(reference, tmp_path / "flat", 4095)
    flags = ["--features", "texture", "--compare", str(tmp_path / "again"), "--paired"]
    flatten(write_deep(tmp_path / "8b", [180] * 6), tmp_path / "again", 255)
    if known_by == "the training folder":
        flags += ["--train", str(train)]
    if known_by == "the generated set":
        for name in ("generated", "again"):
            facts = ("scheduler", "steps", "guidance", "resolution", "dtype")
            config = dict.fromkeys(("prompt_file", "num_images", "seed"), 1)
            job = {"settings": dict.fromkeys(facts, 1), "config": config}
            job |= {"weights": "lora", "weights_sha256": "0" * 64}
            (tmp_path / name / "generate.json").write_text(json.dumps(job | {"white_level": 4095}))
    scores = []
    for real in (reference, flat):
        out = tmp_path / f"scores-{real.name}"
        argv = ["evaluate", str(generated), "--reference", str(real), "--out", str(out)]
        assert main([*argv, *flags]) == 0
        sets = json.loads((out / "metrics.json").read_text())["sets"]
        scores.append({name: one["scores"] for name, one in sets.items()})
    assert scores[0] == scores[1]


def test_frames_to_translate_are_read_at_the_level_of_the_training(tmp_path):
    folder = write_deep(tmp_path / "deep", [900])
    flat = flatten(folder, tmp_path / "flat", 4095)
    net = SimpleNamespace(scale=1)
    loaded = SimpleNamespace(facts={"white_level": 4095, "channels": 1}, net=net)
    [frame] = load_frames(folder)
    bad = BadFiles(1, allow=False)
    [source] = FrameReader(folder, [frame], loaded, SIDE).read([frame], bad)
    np.testing.assert_array_equal(source.image_u8[0], read_image_u8(flat / frame.file_name))


def test_a_folder_that_has_no_one_level_is_refused(tmp_path):
    folder = write_deep(tmp_path / "a", [900, 3000])
    with pytest.raises(InputError, match="a: holds 3000, above the white level of 1023"):
        find_white_level(folder, known=1023)
    rows = (folder / "metadata.jsonl").read_text().replace('"p1"', '"p1", "white_level": 2000')
    (folder / "metadata.jsonl").write_text(rows)
    with pytest.raises(InputError, match="a: holds 3000, above the white level of 2000"):
        find_white_level(folder)
    (folder / "metadata.jsonl").write_text(rows.replace('"p0"', '"p0", "white_level": 4095'))
    with pytest.raises(InputError, match="rows state white levels 2000 and 4095"):
        find_white_level(folder)
    other = write_deep(tmp_path / "b", [900])
    mixed = [other / "images/00.png", write_deep(tmp_path / "c", [3000]) / "images/00.png"]
    with pytest.raises(InputError, match=r"different white levels: 1023 in .*b and 4095 in"):
        find_white_level(mixed)


def test_prepared_frames_say_what_became_white_and_differing_ones_are_noticed(tmp_path, capsys):
    src = write_deep(tmp_path / "src", [900, 700]) / "images"
    outs = {}
    for name, flags in {"own": [], "told": ["--max-value", "4095"]}.items():
        outs[name] = tmp_path / name
        argv = ["prepare", "folder", str(src), "--out", str(outs[name]), *flags]
        assert main([*argv, "--patient-regex", r"(\d\d)"]) == 0
    assert "white level of files with more than 8 bits: 1023\n" in capsys.readouterr().out
    assert [load_frames(out)[0].white_level for out in outs.values()] == [1023, 4095]
    assert read_image_u8(outs["told"] / "images/00.png").max() == 56  # 900 of 4095
    with pytest.warns(UserWarning, match="own: white is 1023 there and 4095 in the training"):
        find_white_level(outs["own"], known=4095)


def test_unpaired_pictures_of_a_domain_share_a_level(tmp_path):
    for name, top in (("trainA/a", 4000), ("trainA/b", 900), ("trainB/a", 900)):
        path = tmp_path / "src" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), top, np.uint16)).save(path)
    out = tmp_path / "out"
    assert main(["prepare", "unpaired", str(tmp_path / "src"), "--out", str(out)]) == 0
    greys = {
        f"{side}/{frame.file_name}": int(read_image_u8(out / side / frame.file_name)[0, 0])
        for side in "ab"
        for frame in load_frames(out / side)
    }
    assert greys == {
        "a/images/tr00000.png": 249, "a/images/tr00001.png": 56, "b/images/tr00000.png": 224,
    }  # fmt: skip
