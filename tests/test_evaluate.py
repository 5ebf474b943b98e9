"""The command and its two functions, on small frames folders."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echodiff.anatomy import Finding
from echodiff.diffusion.encoding import read_image_pm1
from echodiff.errors import InputError
from echodiff.evaluate import compare_frames, main, score_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import from_pm1, read_gray_u8
from echodiff.metrics import features, frame_features, tiny_features
from echodiff.metrics.frame_features import load_networks, measure_frames
from echodiff.metrics.inception import InceptionMissing

SIDE = 32
TOP_KEYS = [
    "scores",
    "alarms",
    "alarm_frames",
    "left_out",
    "anatomy",
    "notes",
    "generated",
    "reference",
    "train",
    "seed",
    "versions",
]


class Judge:
    """Stands in for the shipped network: the first pixel says whether there is an ASD."""

    sha256 = "a" * 64
    thresholds = dict.fromkeys(Finding, 0.5)

    def embed(self, images_u8):
        return np.array(
            [[x[0, 0] / 255, x.mean(), x.std(), *x[1, :6].astype(float)] for x in images_u8]
        ) / [1, *[50] * 8]

    def findings_of(self, features):
        found = np.zeros((len(features), len(Finding)))
        found[:, list(Finding).index(Finding.ASD)] = features[:, 0]
        return found


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    monkeypatch.setattr(tiny_features, "load_tiny_features", Judge)


def write_frames(out, num, *, seed=0, level=60, shows_asd=0.0, **columns):
    """`num` noisy frames; the given share of them shows an ASD."""
    rng = np.random.default_rng(seed)
    with FramesWriter(out) as writer:
        for index in range(num):
            image = np.clip(level + 25 * rng.standard_normal((SIDE, SIDE)), 0, 255).astype(np.uint8)
            image[0, 0] = 255 if index < shows_asd * num else 0
            row = Frame(file_name=f"{index:04d}.png", text="", patient_id=f"p{index // 2}")
            writer.add(replace(row, **columns), image)
    return out


@pytest.fixture
def generated(tmp_path):
    return write_frames(
        tmp_path / "generated",
        12,
        seed=1,
        shows_asd=0.5,
        prompt="ASD, secundum, no VSD",
        patient_id=None,
    )


@pytest.fixture
def reference(tmp_path):
    return write_frames(tmp_path / "real", 24, seed=2, shows_asd=1.0, text="ASD, no VSD")


def test_the_command_writes_metrics_json(generated, reference, tmp_path, capsys):
    out = tmp_path / "scores"
    assert main([str(generated), "--reference", str(reference), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "report.html"]
    result = json.loads((out / "metrics.json").read_text())
    assert list(result) == [*TOP_KEYS, "by_count", "examples"]
    assert "not for diagnosis" in (out / "report.html").read_text()
    assert set(result["scores"]) >= {
        "mmd_tiny", "kid_tiny", "fd_tiny@12", "mmd_texture", "kid_texture", "fd_texture@12",
        "faithfulness", "faithfulness_asd", "specificity",
    }  # fmt: skip
    assert result["scores"]["faithfulness_asd"]["value"] == 0.5
    assert result["scores"]["faithfulness_asd"]["real"] == 1.0
    assert result["scores"]["specificity_vsd"]["n"] == 12
    assert "specificity_lvh" not in result["scores"]  # the prompts leave it open
    assert result["scores"]["mmd_tiny"]["features_sha256"] == "a" * 64
    assert not [name for name in result["scores"] if name.startswith("fid")]
    assert result["versions"]["numpy"] == np.__version__
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed] == [
        f"scoring against 24 frames of {reference}", "Intact anatomy",
        "MMD² (tiny)", "MMD² (texture)", "Faithfulness",
        *(["Alarm"] * len(result["alarms"]) or ["Alarms"]), "Report",
    ]  # fmt: skip
    assert printed[1].endswith("left out, no generated frame can be judged: view unknown (12)")
    assert all("; real against real " in line for line in printed[2:4])
    assert printed[4].endswith("; real frames 100 %; n 12, reference 24")
    assert printed[-1].endswith(
        f"{out / 'report.html'}; all {len(result['scores'])} scores in {out / 'metrics.json'}"
    )


def test_a_finding_that_the_network_does_not_know_is_noted(
    generated, reference, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Judge, "thresholds", {Finding.VSD: 0.5})
    monkeypatch.setattr(Judge, "findings_of", lambda _, features: np.zeros((len(features), 1)))
    out = tmp_path / "scores"
    assert main([str(generated), "--reference", str(reference), "--out", str(out)]) == 0
    note = "faithfulness leaves out asd, which tiny does not judge"
    result = json.loads((out / "metrics.json").read_text())
    assert note in result["notes"]
    assert result["scores"]["specificity_vsd"]["value"] == 1
    assert not {"faithfulness", "faithfulness_asd"} & set(result["scores"])
    assert note in capsys.readouterr().out
    assert note in (out / "report.html").read_text()


@pytest.mark.parametrize("patients", [1, 2, 3])
def test_few_patients_of_many_frames_have_no_interval(generated, tmp_path, patients):
    reference = write_frames(tmp_path / "few", 24, seed=2, shows_asd=1.0, text="ASD, secundum")
    lines = [json.loads(line) for line in (reference / "metadata.jsonl").read_text().splitlines()]
    rows = [row | {"patient_id": f"p{i % patients}"} for i, row in enumerate(lines)]
    (reference / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "scores"
    args = [str(generated), "--reference", str(reference), "--out", str(out)]
    assert main([*args, "--features", "texture"]) == 0
    result = json.loads((out / "metrics.json").read_text())
    if patients == 1:
        assert "all 24 of reference are of one" in result["left_out"]["mmd_texture"]
        assert "kid_texture" not in result["scores"]
    else:
        score = result["scores"]["mmd_texture"]
        assert (score["low"], score["high"], score["floor"], score["p"]) == (None,) * 4
        assert np.isfinite(score["value"])


def test_every_score_has_counts_interval_and_network(generated, reference):
    for name, score in score_frames(generated, reference)["scores"].items():
        assert {
            "value",
            "low",
            "high",
            "n",
            "n_reference",
            "features",
            "features_sha256",
            "resize",
            "scale",
        } <= set(score), name
        assert score["low"] <= score["value"] <= score["high"]


def test_pictures_of_a_folder_may_be_the_reference(generated, reference):
    chosen = sorted((reference / "images").iterdir())[:16]
    result = score_frames(generated, chosen, features=["texture"])
    assert result["scores"]["mmd_texture"]["n_reference"] == 16
    # Rows are found: two frames a patient make 8 groups, of which the floor needs two halves.
    whole = score_frames(generated, reference, features=["tiny"])
    assert whole["scores"]["faithfulness_asd"]["n_reference"] == 24


def test_a_missing_inception_is_told_and_tiny_stands_in(generated, reference, monkeypatch, capsys):
    def missing():
        raise InceptionMissing("Inception weights not found: set ECHODIFF_INCEPTION")

    monkeypatch.setattr(features, "_load_inception", missing)
    result = score_frames(generated, reference, features=["inception", "texture"])
    assert "fd_tiny@12" in result["scores"]
    assert not [name for name in result["scores"] if "fid" in name.split("@")[0].split("_")]
    assert result["notes"] == [
        "Inception weights not found: set ECHODIFF_INCEPTION; FD(tiny) is reported instead of FID"
    ]
    assert result["notes"][0] in capsys.readouterr().err


def test_one_frame_leaves_distances_out_and_keeps_faithfulness(reference, tmp_path, capsys):
    one = write_frames(tmp_path / "one", 1, seed=3, prompt="ASD", shows_asd=1.0)
    arguments = [str(one), "--reference", str(reference), "--out", str(tmp_path / "scores")]
    assert main(arguments) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert "mmd_tiny" in result["left_out"]
    assert result["scores"]["faithfulness_asd"]["n"] == 1
    assert "left out, needs 4 frames" in capsys.readouterr().out


def test_the_same_folder_twice_raises_an_alarm(reference):
    result = score_frames(reference, reference, features=["texture"])
    assert result["alarms"] == ["shared files: 24 images are in both sets, pixel by pixel"]


def test_repeated_pictures_raise_an_alarm(reference, tmp_path):
    copies = write_frames(tmp_path / "copies", 4, seed=5)
    for name in ("0001.png", "0002.png"):
        (copies / "images" / name).write_bytes((copies / "images" / "0000.png").read_bytes())
    result = score_frames(copies, reference, features=["texture"])
    assert result["alarms"] == ["copies: 2 of 4 generated images repeat another"]
    assert result["alarm_frames"] == {result["alarms"][0]: [1, 2]}


def test_sizes_and_modes_may_differ(reference, tmp_path):
    other = write_frames(tmp_path / "other", 6, seed=6)
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 4096, (50, 40)).astype(np.uint16)
    Image.fromarray(deep).save(other / "images" / "0000.png")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
        other / "images" / "0001.png"
    )
    assert score_frames(other, reference, features=["texture"])["scores"]["mmd_texture"]["n"] == 6


@pytest.mark.parametrize(
    ("suffix", "options", "is_lossy"),
    [
        (".jpg", {"quality": 95}, True),
        (".webp", {"quality": 80}, True),
        (".webp", {"lossless": True}, False),
        (".tif", {"compression": "jpeg"}, True),
        (".tif", {}, False),
        (".bmp", {}, False),
    ],
)
def test_sets_in_lossy_and_lossless_files_raise_an_alarm(
    reference, tmp_path, capsys, suffix, options, is_lossy
):
    """One picture as JPEG and as PNG: the texture network tells them apart."""
    folder = tmp_path / "images-of-another-tool"
    (folder / "images").mkdir(parents=True)
    rows = []
    for path in sorted((reference / "images").iterdir()):
        picture = Image.open(path).point(lambda value: max(value - 1, 0))
        picture.save(folder / "images" / f"{path.stem}{suffix}", **options)
        rows.append(json.dumps({"file_name": f"images/{path.stem}{suffix}", "text": ""}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    line = "file formats: 24 of 24 generated images against 0 of 24 reference images are in"
    out = ["--out", str(tmp_path / "scores")]
    assert main([str(folder), "--reference", str(reference), "--features", "texture", *out]) == 0
    assert (line in capsys.readouterr().out) == is_lossy
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert any(line in alarm for alarm in result["alarms"]) == is_lossy
    assert (line in (tmp_path / "scores" / "report.html").read_text()) == is_lossy


def write_as(out, images, text="ASD"):
    """A frames folder of pictures as another tool would write them."""
    (out / "images").mkdir(parents=True)
    rows = []
    for index, image in enumerate(images):
        name = f"images/{index:04d}.png"
        Image.fromarray(image).save(out / name)
        rows.append(json.dumps({"file_name": name, "text": text, "patient_id": f"p{index}"}))
    (out / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return out


def measure_texture(folder):
    return measure_frames(folder, load_networks(["texture"]).opened).in_features("texture").features


def test_frames_that_are_not_square_are_padded_as_in_training(tmp_path):
    rng = np.random.default_rng(0)
    wide = [rng.integers(0, 256, (24, 40), dtype=np.uint8) for _ in range(4)]
    padded = [np.pad(image, ((8, 8), (0, 0))) for image in wide]
    of_wide = measure_texture(write_as(tmp_path / "wide", wide))
    np.testing.assert_array_equal(of_wide, measure_texture(write_as(tmp_path / "pad", padded)))
    in_training = [
        from_pm1(read_image_pm1(tmp_path / f"wide/images/{i:04d}.png", 40)[0]) for i in range(4)
    ]
    np.testing.assert_array_equal(in_training, padded)


def test_frames_of_12_bits_share_the_white_level_of_training(tmp_path):
    rng = np.random.default_rng(0)
    # A dark and a bright frame: alone, the dark one would be read over 10 bits.
    deep = [rng.integers(0, top, (SIDE, SIDE)).astype(np.uint16) for top in (900, 4000)]
    in_8_bits = [np.rint(image * (255 / 4095)).astype(np.uint8) for image in deep]
    of_deep = measure_texture(write_as(tmp_path / "deep", deep))
    np.testing.assert_array_equal(of_deep, measure_texture(write_as(tmp_path / "8", in_8_bits)))


def test_a_set_is_the_same_read_in_processes(reference, tmp_path, monkeypatch):
    networks = load_networks(["texture"]).opened
    alone = measure_frames(reference, networks)
    monkeypatch.setattr(frame_features, "READ_AT_ONCE", 1)  # two processes from sixteen parts on
    together = measure_frames(reference, networks, num_readers=2)
    assert together.digests == alone.digests
    np.testing.assert_array_equal(together.appearance, alone.appearance)
    np.testing.assert_allclose(
        together.in_features("texture").features, alone.in_features("texture").features, rtol=1e-9
    )


def test_scores_say_that_frames_are_padded(generated, reference):
    for name, score in score_frames(generated, reference)["scores"].items():
        if score["features"] in {"tiny", "texture"}:
            assert score["resize"].startswith("padded to a square with black, then 128"), name


def test_compare_tells_the_nearer_set(reference, tmp_path):
    far = write_frames(tmp_path / "base", 20, seed=7, level=90, prompt="ASD, no VSD")
    near = write_frames(tmp_path / "lora", 20, seed=8, prompt="ASD, no VSD", shows_asd=0.9)
    gains = compare_frames(far, near, reference)
    assert set(gains) >= {
        "mmd_ratio_tiny",
        "mmd_ratio_texture",
        "faithfulness_gain",
        "faithfulness_gain_asd",
        "specificity_gain",
    }
    assert gains["mmd_ratio_tiny"]["high"] < 0.5
    assert gains["faithfulness_gain"]["value"] == pytest.approx(0.9)
    assert gains["faithfulness_gain"]["low"] > 0.5


def test_captions_in_cyrillic_letters_are_counted_and_their_findings_unknown(
    generated, tmp_path, caplog
):
    foreign = write_frames(tmp_path / "foreign", 24, seed=2, shows_asd=1.0, text="ДМПП, ГЛЖ")
    result = score_frames(generated, foreign)
    assert "Cyrillic letters in 24 of 24 captions" in caplog.text
    assert result["scores"]["faithfulness_asd"]["real"] is None


def test_bad_input_is_one_line_and_status_2(generated, reference, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    truncated = write_frames(tmp_path / "cut", 4)
    picture = truncated / "images" / "0002.png"
    picture.write_bytes(picture.read_bytes()[:60])
    cases = {
        "no such folder": [str(tmp_path / "none"), "--reference", str(reference)],
        "metadata.jsonl": [str(generated), "--reference", str(empty)],
        "0002.png": [str(truncated), "--reference", str(reference)],
        "--features": [str(generated), "--reference", str(reference), "--features", "resnet"],
        "--seed": [str(generated), "--reference", str(reference), "--seed", "-1"],
        "--reference": [str(generated)],
    }
    for named, arguments in cases.items():
        out = tmp_path / "scores"
        try:
            status = main([*arguments, "--out", str(out)])
        except SystemExit as stop:
            status = stop.code
        lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert status == 2, named
        assert len(lines) == 1, named
        assert named in lines[0]
        assert not out.exists()


def test_another_metrics_json_is_kept(generated, reference, tmp_path, capsys):
    out = tmp_path / "scores"
    out.mkdir()
    (out / "metrics.json").write_text("{}")
    arguments = [str(generated), "--reference", str(reference), "--out", str(out)]
    arguments += ["--features", "texture"]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "metrics.json").read_text() == "{}"
    assert main([*arguments, "--overwrite"]) == 0


def test_no_pictures_are_no_reference(generated):
    with pytest.raises(InputError, match="no frames"):
        score_frames(generated, [], features=["texture"])


def test_the_docs_explain_every_key(generated, reference):
    text = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
    result = score_frames(generated, reference)
    for key in [*TOP_KEYS, *(key for score in result["scores"].values() for key in score)]:
        assert f"`{key}`" in text or f'"{key}"' in text, key


def test_copies_of_training_frames_raise_an_alarm(reference, tmp_path, capsys):
    train = write_frames(tmp_path / "train", 24, seed=7, patient_id="trained on")
    generated = write_frames(tmp_path / "copied", 12, seed=7)
    arguments = [str(generated), "--reference", str(reference), "--train", str(train)]
    assert main([*arguments, "--features", "texture", "--out", str(tmp_path / "scores")]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert result["scores"]["copies_texture"]["value"] == 1.0
    assert result["scores"]["copies_texture"]["n_train"] == 24
    assert "copies: 12 generated images are training frames, pixel by pixel" in result["alarms"]
    assert re.search(r"^Alarm +copies: 12 ", capsys.readouterr().out, re.MULTILINE)
    page = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    assert "▲ Alarm.</strong> copies: 12 generated" in page
    assert f"Look at {', '.join(f'{i:04d}' for i in range(12))}</summary>" in page
    assert page.count('class="card') >= 4
    assert result["examples"]["nearest_of"] == "training"
    ours, theirs = result["examples"]["nearest"][0]
    assert Path(ours).name == Path(theirs).name


def test_pairs_are_scored_by_file_name(reference, tmp_path, capsys):
    dark = write_frames(tmp_path / "dark", 24, seed=2, level=50, shows_asd=1.0)
    arguments = [str(dark), "--reference", str(reference), "--features", "texture", "--paired"]
    assert main([*arguments, "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())["scores"]
    assert scores["mae"]["value"] == pytest.approx(10, abs=0.3)
    assert scores["psnr_mixed"]["value"] - scores["psnr"]["value"] == pytest.approx(48.13, abs=0.01)
    assert scores["psnr"]["data_range"] == 255
    assert "data range 255" in capsys.readouterr().out


def test_sets_are_compared_two_by_two(reference, tmp_path, capsys):
    folders = [write_frames(tmp_path / f"level-{level}", 16, seed=level, level=level)
               for level in (60, 70, 110)]  # fmt: skip
    arguments = ["--compare", *map(str, folders), "--reference", str(reference)]
    out = tmp_path / "table"
    assert main([*arguments, "--features", "texture", "--out", str(out)]) == 0
    result = json.loads((out / "metrics.json").read_text())
    assert list(result["sets"]) == ["level-60", "level-70", "level-110"]
    rows = {(row["first"], row["second"]): row for row in result["differences"]}
    assert len(rows) == 3
    assert rows["level-60", "level-110"]["high"] < 0
    for row in rows.values():
        assert list(row) == [
            "first", "second", "score", "value", "low", "high", "p", "p_holm", "n_first",
            "n_second", "n_reference", "features", "features_sha256", "resize",
        ]  # fmt: skip
        assert row["p"] <= row["p_holm"] <= 3 * row["p"]
        assert row["low"] < row["value"] < row["high"]
    page = (out / "report.html").read_text()
    assert "Set against set" in page
    assert "Random samples of each" in page
    sheet = read_gray_u8(out / "samples.png")
    # Eight pictures a row, the reference's first: their brightness tells the sets apart.
    medians = [np.median(sheet[30 + 184 * row : 180 + 184 * row, 8:1300]) for row in range(4)]
    assert medians == pytest.approx([60, 60, 70, 110], abs=3)
    assert "level-70 less level-110" in page
    assert "(Holm)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "A"], "--compare: needs two folders or more, not 1"),
        (["A", "B"], "several folders need --compare"),
        (["--compare", "A", "A"], "--compare: one folder is named twice"),
        (["A", "--masked"], "--masked needs --paired"),
        (["--compare", "A", "B"], "--compare: the sets have different counts (A 8, B 6)"),
        (["A", "--paired", "--masked"], "--masked: not every frame of"),
    ],
)
def test_what_does_not_go_together_is_refused(words, message, reference, tmp_path, capsys):
    folders = {"A": write_frames(tmp_path / "A", 8), "B": write_frames(tmp_path / "B", 6)}
    arguments = [str(folders.get(word, word)) for word in words]
    out = tmp_path / "out"
    arguments += ["--reference", str(reference), "--features", "texture", "--out", str(out)]
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
