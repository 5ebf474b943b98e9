"""Trees of the layout of EchoNet-Dynamic and EchoNet-Pediatric, fabricated and read back."""

import os
import re
import shutil
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.data.echonet.tracings import fill_polygon
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, read_mask_u8

SIZE = (112, 112)
FILE_COLUMNS = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
CHILD_COLUMNS = "FileName,EF,Sex,Age,Weight,Height,Split"


def draw_frame(index, seed=0):
    """A picture that no flip, turn or neighbour in time resembles."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = 20 + 0.5 * rows + columns + 20 * np.sin(index + seed)
    image[4:14, 6 : 6 + 5 * (index + 1)] = 250
    return image.clip(0, 255).astype(np.uint8)


def write_clip(path, num_frames=12, *, codec="ffv1", pixels="gray", seed=0):
    """FFV1 keeps every grey value; the sets themselves are Motion JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream(codec, rate=50)
        stream.height, stream.width = SIZE
        stream.pix_fmt = pixels
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw_frame(index, seed), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_shown_at(path, times, *, form, codec, pixels, base=Fraction(1, 50), **options):
    """Frame i of `draw_frame` is shown at times[i], in units of `base`."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=50, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = pixels
        stream.codec_context.time_base = base
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for number, time_shown in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), format="gray")
            frame.pts, frame.time_base = time_shown, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def box_mask(left, top, right, bottom):
    """Pixels left..right and top..bottom, both ends in it."""
    mask = np.zeros(SIZE, np.uint8)
    mask[top : bottom + 1, left : right + 1] = Label.LV
    return mask


def trace_chords(name, frame, left, top, right, bottom):
    """The same box as chords, after its long axis, in the rows of EchoNet-Dynamic."""
    left, top, right, bottom = left - 0.5, top - 0.5, right + 0.5, bottom + 0.5
    middle = (left + right) / 2
    rows = [f"{name},{middle},{top},{middle},{bottom},{frame}"]
    return rows + [f"{name},{left},{y},{right},{y},{frame}" for y in np.linspace(top, bottom, 20)]


def trace_points(name, frame, left, top, right, bottom):
    """The same box as points of its outline, in the rows of EchoNet-Pediatric."""
    left, top, right, bottom = left - 0.5, top - 0.5, right + 0.5, bottom + 0.5
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [f"{name},{x},{y},{frame}" for x, y in corners]


LARGE, SMALL = (30, 20, 80, 99), (40, 35, 66, 90)


def write_tables(root, files, tracings, columns=FILE_COLUMNS, coordinates="X1,Y1,X2,Y2"):
    root.mkdir(parents=True, exist_ok=True)
    (root / "FileList.csv").write_text("\n".join([columns, *files]) + "\n", encoding="utf-8")
    header = f"FileName,{coordinates},Frame"
    (root / "VolumeTracings.csv").write_text(
        "\n".join([header, *tracings]) + "\n", encoding="utf-8"
    )


def write_dynamic(root, names=("0XA", "0XB", "0XC"), **clip):
    """One clip a split; the tables name them with and without .avi, and ED comes first or last."""
    files, tracings = [], []
    for number, name in enumerate(names):
        write_clip(root / "Videos" / f"{name}.avi", seed=number, **clip)
        suffix = (".avi", "")[number % 2]
        split = ("TRAIN", "VAL", "TEST")[number % 3]
        files.append(
            f"{name}{suffix},{55 + number}.25,4{number}.5,{90 + number},112,112,50,12,{split}"
        )
        traced = name + ("", ".avi")[number % 2]
        large = trace_chords(traced, 3 + number, *LARGE)
        small = trace_chords(traced, 7 + number, *SMALL)
        tracings += large + small if number % 2 else small + large
    write_tables(root, files, tracings)
    return root


def write_children(root):
    """Two children, one of whom was looked at in both views and twice."""
    a4c = ["CR0000001-CR1000001-000039.avi", "CR0000002-CR1000003-000002.avi"]
    psax = ["CR0000001-CR1000002-000007.avi"]
    for view, names in (("A4C", a4c), ("PSAX", psax)):
        for name in names:
            write_clip(root / view / "Videos" / name)
    write_tables(
        root / "A4C",
        [f"{a4c[0]},61.5,F,0,3.4,51,8", f"{a4c[1]},40,O,17,60,170.5,7"],
        [
            *trace_points(a4c[0], 2, *SMALL),
            *trace_points(a4c[0], 9, *LARGE),
            *trace_points(a4c[1][:-4], 5, *SMALL),
            f"{a4c[1][:-4]},,,No Systolic",
            f"{a4c[1][:-4]},,,",
        ],
        CHILD_COLUMNS,
        "X,Y",
    )
    write_tables(
        root / "PSAX",
        [f"{psax[0]},,M,,,,8"],
        [f"{psax[0]},,,No Diastolic", *trace_points(psax[0], 4, *LARGE)],
        CHILD_COLUMNS,
        "X,Y",
    )
    return root


def prepare(kind, src, out, *flags):
    command = ["prepare", f"echonet-{kind}", str(src), "--out", str(out), "--workers", "1"]
    return main([*command, *map(str, flags)])


def load(out):
    return {frame.file_name.removeprefix("images/"): frame for frame in load_frames(out)}


def fail(capsys, *arguments):
    """The one line of a command that fails."""
    capsys.readouterr()
    assert prepare(*arguments) == 2
    [error] = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    return error


def test_dynamic_comes_back_exactly(tmp_path):
    src, out = write_dynamic(tmp_path / "src"), tmp_path / "out"
    assert prepare("dynamic", src, out, "--split", "official") == 0
    frames = load(out)
    assert len(frames) == 6
    for number, name in enumerate(("0XA", "0XB", "0XC")):
        for phase, index, box in (("ED", 3 + number, LARGE), ("ES", 7 + number, SMALL)):
            frame = frames[f"{name}_{phase}.png"]
            assert (frame.phase, frame.view, frame.modality) == (phase, "A4C", "echo")
            assert frame.patient_id == name
            assert frame.split == ("train", "val", "test")[number]
            assert frame.spacing_mm is None
            assert frame.extra == {
                "ef": 55.25 + number,
                "esv_ml": 40.5 + number,
                "edv_ml": 90 + number,
            }
            image = read_image_u8(out / frame.file_name)
            np.testing.assert_array_equal(image, draw_frame(index, number))
            np.testing.assert_array_equal(read_mask_u8(out / frame.mask_file_name), box_mask(*box))
    assert "normal ejection fraction" in frames["0XA_ED.png"].text
    assert "end of diastole" in frames["0XA_ED.png"].text


def test_every_kth_frame_has_its_index_and_the_traced_ones_their_mask(tmp_path):
    src, out = write_dynamic(tmp_path / "src", ["0XA"]), tmp_path / "out"
    assert prepare("dynamic", src, out, "--every", 3) == 0
    frames = load(out)
    assert [frame.phase for frame in frames.values()] == ["0", "3", "6", "9"]
    assert [name for name, frame in frames.items() if frame.mask_file_name] == [
        "0XA_frame-0003.png"
    ]
    for name, frame in frames.items():
        image = read_image_u8(out / "images" / name)
        np.testing.assert_array_equal(image, draw_frame(int(frame.phase)))


def test_every_kth_frame_needs_no_tracing(tmp_path):
    src = write_dynamic(tmp_path / "src", ["0XA"])
    table = src / "VolumeTracings.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert prepare("dynamic", src, tmp_path / "out", "--every", 5) == 0
    frames = load_frames(tmp_path / "out")
    assert [(frame.phase, frame.mask_file_name) for frame in frames] == [
        ("0", None),
        ("5", None),
        ("10", None),
    ]


def test_tables_may_count_from_one(tmp_path):
    src, out = write_dynamic(tmp_path / "src", ["0XA"]), tmp_path / "out"
    assert prepare("dynamic", src, out, "--first-frame", 1) == 0
    np.testing.assert_array_equal(read_image_u8(out / "images/0XA_ED.png"), draw_frame(2))


@pytest.mark.parametrize(("codec", "pixels"), [("mjpeg", "yuvj420p"), ("mpeg4", "yuv420p")])
def test_lossy_clips_give_the_right_frame_in_the_full_range_of_grey(tmp_path, codec, pixels):
    src = write_dynamic(tmp_path / "src", ["0XA"], codec=codec, pixels=pixels)
    assert prepare("dynamic", src, tmp_path / "out") == 0
    for phase, index in (("ED", 3), ("ES", 7)):
        image = read_image_u8(tmp_path / f"out/images/0XA_{phase}.png").astype(int)
        differences = [np.abs(image - draw_frame(other)).mean() for other in range(12)]
        assert np.argmin(differences) == index
        assert differences[index] < 2.5


GAPS = [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13]
"""Times of twelve frames; those of numbers 3 and 8 were dropped."""


LATE = list(range(7, 19))
CONTAINERS = [
    (".avi", "avi", "mjpeg", "yuvj420p", {}),
    (".AVI", "avi", "mpeg4", "yuv420p", {}),
    (".avi", "avi", "mpeg4", "yuv420p", {"bf": "2"}),
    (".mp4", "mp4", "mjpeg", "yuvj420p", {}),
    (".MP4", "mp4", "libx264", "yuv420p", {"bf": "2", "crf": "4"}),
    (".mkv", "matroska", "libx264", "yuv420p", {"bf": "2", "crf": "4"}),
    (".mpg", "mpegts", "libx264", "yuv420p", {"bf": "2", "crf": "4"}),
]


@pytest.mark.parametrize(
    ("suffix", "form", "codec", "pixels", "options", "times"),
    [
        (*container, times)
        for container in CONTAINERS
        for times in (list(range(12)), LATE, GAPS)
        if times is not LATE or container[1] != "avi"  # which has no start time
    ],
)
def test_frame_numbers_are_times(tmp_path, suffix, form, codec, pixels, options, times):
    """Frames 3 (or 4) and 7 of the table: those at these times since the first, whatever was
    dropped before them, with B-frames, and where the clock does not start at 0."""
    src = write_dynamic(tmp_path / "src", ["0XA"])
    (src / "Videos/0XA.avi").unlink()
    path = src / f"Videos/0XA{suffix}"
    write_shown_at(path, times, form=form, codec=codec, pixels=pixels, **options)
    traced = [4, 7] if times is GAPS else [3, 7]
    wanted = [times.index(times[0] + number) for number in traced]
    text = (src / "VolumeTracings.csv").read_text().replace(",3\n", f",{traced[0]}\n")
    (src / "VolumeTracings.csv").write_text(text)
    assert prepare("dynamic", src, tmp_path / "out") == 0
    for phase, number in zip(("ED", "ES"), wanted, strict=True):
        image = read_image_u8(tmp_path / f"out/images/0XA_{phase}.png").astype(int)
        differences = [np.abs(image - draw_frame(other)).mean() for other in range(12)]
        assert np.argmin(differences) == number


def test_a_dropped_frame_that_is_traced_is_named(tmp_path, capsys):
    src = write_dynamic(tmp_path / "src", ["0XA"])
    times = [0, 1, 2, *range(4, 13)]
    path = src / "Videos/0XA.avi"
    write_shown_at(path, times, form="avi", codec="mjpeg", pixels="yuvj420p")
    error = fail(capsys, "dynamic", src, tmp_path / "out")
    assert "0XA.avi: has no frame 3, which is traced" in error
    assert prepare("dynamic", src, tmp_path / "all", "--every", 1) == 0
    assert [frame.phase for frame in load_frames(tmp_path / "all")] == [str(t) for t in times]


def test_time_stamps_that_follow_no_rate_are_refused(tmp_path, capsys):
    src = write_dynamic(tmp_path / "src", ["0XA"])
    (src / "Videos/0XA.avi").unlink()
    times = [0, 37, 71, 113, 150, 177, 230, 260, 301, 333]
    write_shown_at(
        src / "Videos/0XA.mkv", times, form="matroska", codec="mjpeg", pixels="yuvj420p",
        base=Fraction(1, 1000),
    )  # fmt: skip
    error = fail(capsys, "dynamic", src, tmp_path / "out")
    assert "0XA.mkv: frame " in error
    assert "its time stamps do not fit a frame rate" in error


def test_tables_may_name_files_of_any_suffix(tmp_path):
    src = write_dynamic(tmp_path / "src", ["0XA"])
    (src / "Videos/0XA.avi").rename(src / "Videos/0XA.AVI")
    for name in ("FileList.csv", "VolumeTracings.csv"):
        text = (src / name).read_text().replace("0XA.avi,", "0XA,").replace("0XA,", "0XA.AVI,")
        (src / name).write_text(text)
    assert prepare("dynamic", src, tmp_path / "out") == 0
    np.testing.assert_array_equal(read_image_u8(tmp_path / "out/images/0XA_ED.png"), draw_frame(3))


def test_children_come_back_exactly(tmp_path):
    nested = tmp_path / "echonetpediatric/pediatric_echo_avi/pediatric_echo_avi"
    write_children(nested)
    out = tmp_path / "out"
    assert prepare("pediatric", tmp_path / "echonetpediatric", out, "--split", "official") == 0
    frames = load(out)
    first, second, third = "CR0000001-CR1000001-000039", "CR0000002-CR1000003-000002", "PSAX"
    third = "PSAX-CR0000001-CR1000002-000007_ES.png"
    assert set(frames) == {
        f"A4C-{first}_ED.png",
        f"A4C-{first}_ES.png",
        f"A4C-{second}_ED.png",  # the smaller box, but its table says that nobody traced systole
        third,
    }
    boxes = {f"A4C-{first}_ES.png": (2, SMALL), f"A4C-{first}_ED.png": (9, LARGE)}
    boxes |= {f"A4C-{second}_ED.png": (5, SMALL), third: (4, LARGE)}
    for name, (index, box) in boxes.items():
        frame = frames[name]
        assert frame.phase == name[-6:-4]
        np.testing.assert_array_equal(read_image_u8(out / frame.file_name), draw_frame(index))
        np.testing.assert_array_equal(read_mask_u8(out / frame.mask_file_name), box_mask(*box))
    known = {"ef": 61.5, "sex": "F", "age_years": 0.0, "weight_kg": 3.4, "height_cm": 51.0}
    assert frames[f"A4C-{first}_ED.png"].extra == known
    known = {"ef": 40.0, "age_years": 17.0, "weight_kg": 60.0, "height_cm": 170.5}
    assert frames[f"A4C-{second}_ED.png"].extra == known
    assert frames[third].extra == {"sex": "M"}
    assert [frames[name].view for name in boxes] == ["A4C", "A4C", "A4C", "PSAX"]
    assert [frames[name].split for name in boxes] == ["val", "val", "train", "val"]


def test_a_child_in_both_views_is_one_patient(tmp_path):
    write_children(tmp_path / "src")
    assert prepare("pediatric", tmp_path / "src", tmp_path / "out", "--split", "50/50/0") == 0
    homes = {(frame.patient_id, frame.split) for frame in load_frames(tmp_path / "out")}
    assert len(homes) == 2
    assert {patient for patient, _ in homes} == {"CR0000001", "CR0000002"}


def test_one_view_is_read_by_itself(tmp_path, monkeypatch):
    write_children(tmp_path / "src")
    monkeypatch.chdir(tmp_path / "src/PSAX")
    assert prepare("pediatric", ".", tmp_path / "out") == 0
    assert {frame.view for frame in load_frames(tmp_path / "out")} == {"PSAX"}
    assert prepare("pediatric", tmp_path / "src", tmp_path / "a", "--views", "A4C") == 0
    assert {frame.view for frame in load_frames(tmp_path / "a")} == {"A4C"}


def test_a_single_tracing_of_no_known_phase_goes_by_its_index(tmp_path):
    src = tmp_path / "src"
    write_clip(src / "Videos/0XA.avi")
    write_tables(src, ["0XA,,,,112,112,50,12,TRAIN"], trace_chords("0XA", 5, *LARGE))
    assert prepare("dynamic", src, tmp_path / "out") == 0
    assert [frame.phase for frame in load_frames(tmp_path / "out")] == ["5"]


def test_a_pixel_belongs_to_the_ventricle_when_its_centre_does():
    triangle = np.array([[10.2, 5.5], [20.9, 5.5], [10.2, 30.1]])
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (columns > 10.2) & (rows > 5.5)
    inside &= (columns - 10.2) / 10.7 + (rows - 5.5) / 24.6 < 1
    mask = fill_polygon(triangle, SIZE)
    np.testing.assert_array_equal(mask == Label.LV, inside)
    assert fill_polygon(triangle - 15, SIZE).sum() < mask.sum()


def test_lines_of_a_clip_need_not_stand_together(tmp_path):
    src = write_dynamic(tmp_path / "src", ["0XA", "0XB"])
    table = src / "VolumeTracings.csv"
    header, *lines = table.read_text().splitlines()
    moved = ['"0XA.avi"' + line.removeprefix("0XA") for line in lines[30:42]]
    table.write_text("\r\n".join([header, *lines[:30], *lines[42:], "", *moved]))
    assert prepare("dynamic", src, tmp_path / "out") == 0
    for name in ("0XA", "0XB"):
        mask = read_mask_u8(tmp_path / f"out/masks/{name}_ED.png")
        np.testing.assert_array_equal(mask, box_mask(*LARGE))


# --- bad input ---------------------------------------------------------------------------------


def cut_clip(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def loop_clip(path):
    path.unlink()
    path.symlink_to(path.name)


def scribble(path):
    """Overwrite the scan of one JPEG picture and leave its markers."""
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xda", data.index(b"00dc", len(data) // 4)) + 14
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: cut_clip(path, 0.4), "cut short in frame"),
        (lambda path: cut_clip(path, 0.004), "damaged or not a video"),
        (lambda path: path.write_bytes(b""), "damaged or not a video"),
        (lambda path: path.write_bytes(b"#EXTM3U\n"), "damaged or not a video"),
        (lambda path: path.unlink(), "No such file"),
        (loop_clip, "symbolic links"),
        (lambda path: (path.unlink(), path.mkdir()), "directory"),
    ],
)
def test_a_bad_clip_is_named_and_skipped(tmp_path, capsys, damage, words):
    src = write_dynamic(tmp_path / "src", codec="mjpeg", pixels="yuvj420p")
    damage(src / "Videos/0XB.avi")
    assert prepare("dynamic", src, tmp_path / "out", "--allow-bad") == 0
    printed = capsys.readouterr()
    [line] = [part for part in printed.err.splitlines() if part.startswith("skipped: ")]
    assert f"{src / 'Videos/0XB.avi'}: " in line
    assert words in line
    assert "1 of 3 files were bad and skipped" in printed.out
    assert len(load_frames(tmp_path / "out")) == 4
    assert "0XB.avi" in fail(capsys, "dynamic", src, tmp_path / "none")
    assert not (tmp_path / "none/metadata.jsonl").exists()  # what is written waits


def test_one_bad_clip_of_twenty_is_skipped_and_two_stop(tmp_path, capsys):
    names = [f"0X{number:02}" for number in range(20)]
    src = write_dynamic(tmp_path / "src", names, num_frames=27)
    (src / "Videos/0X07.avi").write_bytes(b"")
    assert prepare("dynamic", src, tmp_path / "out") == 0
    assert "1 of 20 files were bad and skipped" in capsys.readouterr().out
    assert len(load_frames(tmp_path / "out")) == 38
    (src / "Videos/0X11.avi").write_bytes(b"")
    error = fail(capsys, "dynamic", src, tmp_path / "none")
    assert "0X11.avi" in error
    assert "2 of 20 files are bad, more than 5%" in error
    assert not (tmp_path / "none/metadata.jsonl").exists()  # what is written waits


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (trace_chords("0XB", 3, *LARGE) + trace_chords("0XB", 12, *SMALL), "has no frame 12"),
        ([], "has no tracing"),
        (trace_chords("0XB", 3, *LARGE)[:2], "empty tracing"),
        (trace_chords("0XB", 3, 300, 300, 320, 330), "traced outside the image"),
        (["0XB,1,2,3,4,five"], "invalid literal"),
        (["0XB,1,2,3,x,5"], "could not convert"),
        (["0XB,1,2,3"], "another number of columns"),
        (["0XB,1,2,3,nan,5"], "is not finite"),
        (["0XB,1,2,3,\udcff,5"], "can't decode"),
        (["0XB,1,2,3," + "4" * 200_000 + ",5"], "field larger"),
        (trace_chords("0XB", -1, *LARGE), "a frame before 0"),
    ],
)
def test_a_bad_tracing_is_named_and_skipped(tmp_path, capsys, rows, words):
    src = write_dynamic(tmp_path / "src")
    table = src / "VolumeTracings.csv"
    lines = [line for line in table.read_text().splitlines() if not line.startswith("0XB")]
    text = "\n".join(lines + rows) + "\n"
    table.write_bytes(text.encode(errors="surrogateescape"))
    assert prepare("dynamic", src, tmp_path / "out", "--allow-bad") == 0
    [line] = [part for part in capsys.readouterr().err.splitlines() if "skipped: " in part]
    assert words in line
    assert "0XB" in line
    assert len(load_frames(tmp_path / "out")) == 4


def test_damage_inside_a_frame_is_not_painted_over(tmp_path, capsys):
    src = write_dynamic(tmp_path / "src", codec="mjpeg", pixels="yuvj420p")
    scribble(src / "Videos/0XA.avi")
    assert prepare("dynamic", src, tmp_path / "out", "--allow-bad", "--every", 1) == 0
    assert "0XA.avi: damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("at_a_frame", "words"), [(False, "cut short in frame 9"), (True, "cut short: 9 of 12 frames")]
)
def test_nothing_after_the_last_frame_is_read(tmp_path, capsys, at_a_frame, words):
    src = write_dynamic(tmp_path / "src", ["0XA"], codec="mjpeg", pixels="yuvj420p")
    clip = src / "Videos/0XA.avi"
    data = clip.read_bytes()
    starts = [match.start() for match in re.finditer(b"00dc", data[: data.rindex(b"idx1")])][1:]
    clip.write_bytes(data[: starts[9] + (0 if at_a_frame else 800)])
    assert prepare("dynamic", src, tmp_path / "out") == 0
    error = fail(capsys, "dynamic", src, tmp_path / "all", "--every", 1)
    assert f"0XA.avi: {words}" in error


def test_a_cell_that_is_no_number_makes_its_clip_bad(tmp_path, capsys):
    src = write_dynamic(tmp_path / "src")
    table = src / "FileList.csv"
    table.write_text(table.read_text().replace("56.25", "high"))
    assert prepare("dynamic", src, tmp_path / "out", "--allow-bad") == 0
    assert "FileList.csv: 0XB: EF is 'high', not a number" in capsys.readouterr().err
    assert len(load_frames(tmp_path / "out")) == 4


def test_tracings_of_clips_that_no_list_names_are_counted(tmp_path, capsys):
    src = write_dynamic(tmp_path / "src")
    table = src / "FileList.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert prepare("dynamic", src, tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "traces 1 clips that are not in FileList.csv, such as 0XC" in printed.err
    assert "bad" not in printed.out
    assert len(load_frames(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("kind", "table", "column"),
    [
        ("dynamic", "FileList.csv", "Split"),
        ("dynamic", "FileList.csv", "FileName"),
        ("dynamic", "VolumeTracings.csv", "Y2"),
        ("dynamic", "VolumeTracings.csv", "Frame"),
        ("pediatric", "A4C/FileList.csv", "Age"),
        ("pediatric", "PSAX/VolumeTracings.csv", "Y"),
    ],
)
def test_a_missing_column_stops(tmp_path, capsys, kind, table, column):
    src = {"dynamic": write_dynamic, "pediatric": write_children}[kind](tmp_path / "src")
    text = (src / table).read_text()
    header, _, rest = text.partition("\n")
    cells = ["Other" if name == column else name for name in header.split(",")]
    (src / table).write_text("\n".join([",".join(cells), rest]))
    assert f"{src / table}: has no column {column}" in fail(capsys, kind, src, tmp_path / "out")


def test_trees_that_make_no_sense_are_one_line(tmp_path, capsys):
    out = tmp_path / "out"
    assert "nowhere: no such folder" in fail(capsys, "dynamic", tmp_path / "nowhere", out)
    assert "holds no FileList.csv" in fail(capsys, "dynamic", tmp_path, out)
    src = write_dynamic(tmp_path / "src", ["0XA"])
    assert "has no folder A4C or PSAX" in fail(capsys, "pediatric", src, out)
    shutil.copytree(src, tmp_path / "src/copy")
    assert "src/copy; name one" in fail(capsys, "dynamic", src, out)
    shutil.rmtree(tmp_path / "src/copy")
    table = src / "FileList.csv"
    whole = table.read_text()
    table.write_text(whole + whole.splitlines()[1].replace(".avi", "") + "\n")
    assert "FileList.csv, line 3: 0XA comes twice" in fail(capsys, "dynamic", src, out)
    table.write_text(whole + ",1,2,3,4,5,6,7,TRAIN\n")
    assert "FileList.csv, line 3: names no file" in fail(capsys, "dynamic", src, out)
    table.write_text(whole)
    (src / "VolumeTracings.csv").write_bytes(b"FileName,X1,Y1,X2,Y2,Frame\n\xff\xfe,1,1,1,1,1\n")
    assert "VolumeTracings.csv: " in fail(capsys, "dynamic", src, out)
    (src / "VolumeTracings.csv").unlink()
    assert "VolumeTracings.csv: No such file" in fail(capsys, "dynamic", src, out)
    write_children(tmp_path / "twice/one")
    write_children(tmp_path / "twice/two")
    assert "A4C is at" in fail(capsys, "pediatric", tmp_path / "twice", out)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--every", "0"], "--every must be at least 1"),
        (["--first-frame", "2"], "--first-frame must be 0 or 1"),
    ],
)
def test_a_bad_flag_is_one_line(tmp_path, capsys, flags, words):
    assert words in fail(capsys, "dynamic", tmp_path, tmp_path / "out", *flags)


def test_a_loop_of_links_ends(tmp_path):
    write_children(tmp_path / "disk/children")
    src = tmp_path / "src"
    src.mkdir()
    (src / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk/children/again").symlink_to(src, target_is_directory=True)
    (src / "self").symlink_to(src, target_is_directory=True)
    assert prepare("pediatric", src, tmp_path / "out") == 0
    assert len(load_frames(tmp_path / "out")) == 4


def test_spaces_and_cyrillic(tmp_path):
    src = tmp_path / "Мои данные/эхо кг"
    write_dynamic(src, ["0XA", "Больной 7", "c d"])
    assert prepare("dynamic", src, tmp_path / "выход 1") == 0
    frames = load(tmp_path / "выход 1")
    assert len(frames) == 6
    assert all(name.isascii() and " " not in name for name in frames)
    assert {frame.patient_id for frame in frames.values()} == {"0XA", "Больной 7", "c d"}


# --- at large ----------------------------------------------------------------------------------


def read_all(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_killed_and_run_again_ends_with_the_same_bytes(tmp_path):
    src = tmp_path / "src"
    names = [f"0X{number:03}" for number in range(60)]
    write_dynamic(src, names[:1])
    for name in names[1:]:
        os.link(src / "Videos/0X000.avi", src / f"Videos/{name}.avi")
    files = [f"{name},50,40,80,112,112,50,12,TRAIN" for name in names]
    boxes = [(name, 3, LARGE) for name in names] + [(name, 7, SMALL) for name in names]
    write_tables(
        src, files, [row for name, frame, box in boxes for row in trace_chords(name, frame, *box)]
    )
    assert prepare("dynamic", src, tmp_path / "whole", "--workers", "2") == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "echodiff", "prepare", "echonet-dynamic", str(src)]
    command += ["--out", str(out), "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        partial = out / "metadata.partial.jsonl"
        while not partial.exists() or partial.read_bytes().count(b"\n") < 20:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.stderr.read()  # ends when the workers have ended, too
    assert not (out / "metadata.jsonl").exists()
    assert 20 <= partial.read_bytes().count(b"\n") < 120
    assert prepare("dynamic", src, out) == 0
    assert read_all(out) == read_all(tmp_path / "whole")


def test_datasets_opens_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    src, out = write_dynamic(tmp_path / "src"), tmp_path / "out"
    assert prepare("dynamic", src, out) == 0
    table = load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))[
        "train"
    ]
    assert table.num_rows == 6
    assert table["phase"] == ["ED", "ES"] * 3
    np.testing.assert_array_equal(np.asarray(table[0]["image"]), draw_frame(3))


@pytest.mark.parametrize(
    ("kind", "write"), [("dynamic", write_dynamic), ("pediatric", write_children)]
)
def test_training_takes_it(kind, write, tmp_path, assert_accepted):
    out = tmp_path / "out"
    assert prepare(kind, write(tmp_path / "src"), out) == 0
    assert_accepted(out)
