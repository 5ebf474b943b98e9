"""`echodiff phantom` through its own door."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.frames.reader import load_frames
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_gray_u8, read_mask_u8
from echodiff.phantom.acquisition import Acquisition, render
from echodiff.phantom.dataset import split_of

FEW = ["phantom", "--num", "6", "--size", "64", "--seed", "3", "--workers", "1"]


def test_a_folder_holds_frames_masks_captions_and_what_was_drawn(tmp_path):
    assert main([*FEW, "--out", str(tmp_path / "out")]) == 0
    frames = load_frames(tmp_path / "out", require_mask=True)
    assert [f.file_name for f in frames] == [f"images/phantom-{i:06d}.png" for i in range(6)]
    assert len({f.patient_id for f in frames}) == 3
    for frame in frames:
        picture = read_gray_u8(tmp_path / "out" / frame.file_name)
        mask = read_mask_u8(tmp_path / "out" / frame.mask_file_name)
        assert picture.shape == mask.shape == (64, 64)
        assert set(np.unique(mask)) <= set(Label)
        assert Label.LV in mask
        assert np.array_equal(picture, render(Acquisition.from_json(frame.record), "echo", 64))


def test_columns_say_what_the_caption_leaves_out(tmp_path):
    flags = ["--finding-rate", "1", "--findings", "asd,lvh", "--num", "24", "--views", "A4C,PSAX"]
    assert main([*FEW, *flags, "--out", str(tmp_path / "out")]) == 0
    rows = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    kinds = set()
    for row in map(json.loads, rows):
        heart = json.loads(row["record"])["heart"]
        assert row["findings"] == [finding["name"] for finding in heart["findings"]]
        assert row["grades"] == [finding["grade"] for finding in heart["findings"]]
        assert row["age_group"] in ("infant", "child", "adult")
        assert row["sex"] in ("F", "M")
        assert 52 <= row["ef"] <= 74
        assert 0.15 < row["bsa_m2"] < 2.7
        assert 40 < row["depth_mm"] < 300
        lit = np.flatnonzero(read_gray_u8(tmp_path / "out" / row["file_name"]).any(1))
        high_mm = (lit[-1] - lit[0] + 1) * row["spacing_mm"]
        assert high_mm == pytest.approx(row["depth_mm"], abs=2.5 * row["spacing_mm"])
        assert (row["level"] in ("basal", "mid", "apical")) == (row["view"] == "PSAX")
        defect = next((f for f in heart["findings"] if f["name"] == "asd"), None)
        assert row["asd_kind"] == (defect and defect["kind"])
        assert row["asd_mm"] == (defect and defect["size_mm"])
        assert row["vsd_kind"] is row["vsd_mm"] is None
        kinds.add(row["asd_kind"])
    assert len(kinds) > 1


def test_both_rows_of_a_patient_have_the_sizes_that_grades_and_captions_state(tmp_path):
    flags = ["--findings", "lvh,septal_hypertrophy,dilated_lv", "--finding-rate", "1"]
    argv = [*FEW, *flags, "--num", "16", "--views", "PSAX"]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    rows = load_frames(tmp_path / "out")
    column = {"septal_hypertrophy": "septum_mm", "lvh": "wall_mm"}
    seen = set()
    for diastole, systole in zip(rows[::2], rows[1::2], strict=True):
        assert (diastole.phase, systole.phase) == ("ED", "ES")
        assert diastole.extra == systole.extra
        heart = Acquisition.from_json(diastole.record).heart
        said = diastole.extra
        assert (said["wall_mm"], said["lv_ml"]) == (round(heart.wall_mm, 1), round(heart.lv_ml, 1))
        for finding in heart.findings:
            seen.add(str(finding.name))
            if finding.name in column:
                assert said[column[finding.name]] == finding.size_mm
            if finding.name == "dilated_lv":
                index = said["lv_ml"] / said["bsa_m2"]
                assert index == pytest.approx(finding.volume_ml_m2, abs=0.4)
    assert {*column, "dilated_lv"} <= seen


def test_codes_of_the_documentation_are_those_of_dicom():
    from pydicom.sr.codedict import codes

    page = (Path(__file__).parents[2] / "docs" / "phantom.md").read_text("utf-8")
    table = re.findall(r"\| (\d{8,}) \| (.+) \|", page)
    lists = (codes.cid12226, codes.cid12236, codes.cid12248)
    known = [getattr(one, name) for one in lists for name in one.dir()]
    assert len(table) == 10
    assert set(table) <= {(code.value, code.meaning) for code in known}


def test_datasets_opens_it(tmp_path):
    import datasets

    main([*FEW, "--out", str(tmp_path / "out")])
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
    )
    assert sum(len(split) for split in loaded.values()) == 6


def test_modalities_are_pairs_of_one_slice(tmp_path):
    out = tmp_path / "out"
    assert main([*FEW, "--modality", "echo,mr,ct,ct-contrast,pseudo", "--out", str(out)]) == 0
    rows = {m: load_frames(out / m) for m in ("echo", "mr", "ct", "ct-contrast", "pseudo")}
    assert len({tuple(f.pair_id for f in folder) for folder in rows.values()}) == 1
    masks = {m: np.stack([read_mask_u8(out / m / row.mask_file_name) for row in folder])
             for m, folder in rows.items()}  # fmt: skip
    # The sector of the echo cuts the walls at its sides; MR and CT have none, and show them whole.
    inside = masks["echo"] > 0
    assert np.array_equal(masks["echo"], masks["pseudo"])
    assert np.array_equal(masks["mr"][inside], masks["echo"][inside])
    assert (masks["mr"][~inside] == Label.LV_MYOCARDIUM).sum() > 100
    assert np.array_equal(masks["mr"], masks["ct"])
    assert np.array_equal(masks["mr"], masks["ct-contrast"])
    echo, mr = (read_gray_u8(out / m / rows[m][0].file_name) for m in ("echo", "mr"))
    blood = read_mask_u8(out / "mr" / rows["mr"][0].mask_file_name) == Label.LV
    assert mr[blood].mean() > 140 > echo[blood].mean()  # bright blood, dark blood


def test_frame_i_depends_on_seed_and_i_alone(tmp_path):
    main([*FEW, "--out", str(tmp_path / "a")])
    main(["phantom", "--num", "4", "--size", "64", "--seed", "3", "--out", str(tmp_path / "b")])
    for number in range(4):
        name = f"images/phantom-{number:06d}.png"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_interrupted_folder_is_gone_on_with(tmp_path, monkeypatch):
    main([*FEW, "--out", str(tmp_path / "whole")])
    out = tmp_path / "broken"
    add = FramesWriter.add

    def interrupted(writer, *frame):
        if len(writer.done) == 2:
            raise KeyboardInterrupt
        return add(writer, *frame)

    with monkeypatch.context() as patched:
        patched.setattr(FramesWriter, "add", interrupted)
        assert main([*FEW, "--out", str(out)]) == 130
    rows = (tmp_path / "whole" / "metadata.jsonl").read_text().splitlines(keepends=True)
    with (out / "metadata.partial.jsonl").open("a") as file:
        file.write(rows[2][:40])
    assert main([*FEW, "--out", str(out)]) == 0
    assert (out / "metadata.jsonl").read_bytes() == (tmp_path / "whole/metadata.jsonl").read_bytes()


def test_splits_hold_their_shares_and_never_share_a_patient():
    splits = [split_of(4, patient, (70, 15, 15)) for patient in range(400)]
    assert splits.count("train") == pytest.approx(280, abs=4)
    assert splits.count("test") == pytest.approx(60, abs=4)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--num", "0"], "--num"),
        (["--size", "8"], "--size"),
        (["--styles", "oak"], "--styles: oak"),
        (["--findings", "flu"], "--findings: flu"),
        (["--modality", "pet"], "--modality: pet"),
        (["--views", "SAX"], "--views: SAX"),
        (["--split", "70/30"], "--split"),
        (["--split", "nan/1/1"], "--split nan/1/1"),
        (["--split", "inf/1/1"], "--split inf/1/1"),
        (["--findings", "asd", "--views", "A2C"], "--findings: an A2C view"),
        (["--finding-rate", "2"], "--finding-rate"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--workers", "-1"], "--workers must be at least 0"),
    ],
)
def test_bad_flags_are_one_line_that_names_them(tmp_path, capsys, flags, named):
    out = tmp_path / "out"
    with_code = _exit_code(["phantom", "--out", str(out), *flags])
    error = capsys.readouterr().err.strip()
    assert (with_code, error.count("\n")) == (2, 0)
    assert named in error
    assert not out.exists()


def _exit_code(argv):
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


@pytest.mark.slow
def test_25_frames_a_second_at_256_pixels_with_flat_memory(tmp_path):
    peaks = []
    for num in (40, 400):
        argv = ["phantom", "--num", str(num), "--size", "256", "--out", str(tmp_path / str(num))]
        code = (
            f"import resource; from echodiff.__main__ import main; main({argv!r}); "
            "print(max(resource.getrusage(w).ru_maxrss for w in "
            "(resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
        )
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seconds = time.monotonic() - start
        peaks.append(int(done.stdout.split()[-1]))
    assert 400 / seconds > 25
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("modality", ["echo,mr", "mr"])
def test_a_finished_echo_folder_is_not_extended_by_folders_inside_it(tmp_path, capsys, modality):
    out = tmp_path / "out"
    assert main([*FEW, "--out", str(out)]) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for flags in ([], ["--overwrite"]):
        assert main([*FEW, "--out", str(out), "--modality", modality, *flags]) == 2
        assert "lies inside" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    load_frames(out)


def test_a_modality_can_be_added_beside_finished_ones(tmp_path, capsys):
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert main([*FEW, "--out", str(out), "--modality", "echo,mr"]) == 0
    assert main([*FEW, "--out", str(whole), "--modality", "echo,mr,ct"]) == 0
    # All at once is refused, for two are finished; the new one alone has the same hearts.
    assert main([*FEW, "--out", str(out), "--modality", "ct,echo,mr"]) == 2
    assert "is a finished frames folder" in capsys.readouterr().err
    assert not (out / "ct").exists()
    assert main([*FEW, "--out", str(out), "--modality", "ct"]) == 0
    assert load_frames(out / "ct") == load_frames(whole / "ct")


def test_at_rate_one_every_patient_has_a_finding_that_the_view_shows(tmp_path):
    for view in ("A2C", "A4C"):
        flags = ["--finding-rate", "1", "--views", view, "--num", "24", "--size", "64"]
        assert main(["phantom", *flags, "--out", str(tmp_path / view)]) == 0
        assert all(frame.findings for frame in load_frames(tmp_path / view))
