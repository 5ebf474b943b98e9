import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from echodiff.__main__ import main
from echodiff.data.check.disclosure import find_identifiers, find_name_words, is_identifying_column
from echodiff.data.check.duplicates import RADIUS, find_exact, find_near, sketch
from echodiff.data.check.faults import KINDS, Severity
from echodiff.data.check.tokens import estimate_tokens
from echodiff.data.screens import burned_text
from echodiff.data.screens.burned_text import Box
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_gray_u8, read_image_u8, read_mask_u8, write_image, write_mask
from echodiff.phantom.dataset import write_phantom_frames

CAMUS = Path(__file__).parents[3] / "shared" / "data" / "camus" / "frames"
CARD = "---\nlicense: apache-2.0\n---\n\n# Frames\n"
HOMES = ("train", "train", "val", "test")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """8 phantom frames of 4 patients, with masks and a card: nothing is wrong with them."""
    folder = tmp_path_factory.mktemp("clean") / "frames"
    write_phantom_frames(folder, num=8, seed=1, size=128, workers=1, progress=False)
    change(folder, lambda rows: [row.update(split=HOMES[i // 2]) for i, row in enumerate(rows)])
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def folder(phantoms, tmp_path):
    return Path(shutil.copytree(phantoms, tmp_path / "frames"))


def change(folder, edit):
    metadata = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text("utf-8").splitlines()]
    edit(rows)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    metadata.write_text(text, encoding="utf-8")


def check(folder, *flags, text="--no-text"):
    """Exit status and findings, by the file that --json writes."""
    out = folder.parent / "check.json"
    fixed = ("--json", str(out), "--overwrite", "--workers", "1")
    status = main(["check", str(folder), *fixed, text, *flags])
    return status, json.loads(out.read_text("utf-8"))


# --- what breaks a folder, and what is found -----------------------------------------------------

BREAKS = {}


def breaks(kind, *files, also=()):
    """Register a function that breaks a folder: `kind` is found in `files`, and `also`, no more."""

    def register(function):
        BREAKS[kind] = (function, list(files), {kind, *also})
        return function

    return register


def image(number):
    return f"images/phantom-{number:06d}.png"


def mask(number):
    return f"masks/phantom-{number:06d}.png"


def set_in_rows(numbers, **cells):
    def edit(rows):
        for number in numbers:
            rows[number].update(cells)
            for key in [key for key, value in cells.items() if value is None]:
                del rows[number][key]

    return edit


def rename(folder, number, name):
    (folder / image(number)).rename(folder / "images" / name)
    (folder / mask(number)).rename(folder / "masks" / name)
    names = {"file_name": f"images/{name}", "mask_file_name": f"masks/{name}"}
    change(folder, set_in_rows([number], **names))


def repaint(folder, number, paint):
    path = folder / image(number)
    write_image(path, np.clip(paint(read_gray_u8(path).astype(int)), 0, 255).astype(np.uint8))


@breaks("unfinished", "metadata.partial.jsonl")
def _(folder):
    (folder / "metadata.partial.jsonl").touch()


@breaks("broken-row", "metadata.jsonl", "metadata.jsonl", "metadata.jsonl")
def _(folder):
    with (folder / "metadata.jsonl").open("ab") as file:
        file.write(b'{"file_name": "images/x.png"}\n{torn\n{"text": "\xff"}\n')


@breaks("no-rows", "metadata.jsonl", also=("picture-without-row", "mask-without-row"))
def _(folder):
    (folder / "metadata.jsonl").write_text("\n")


@breaks("missing-picture", image(0), image(5))
def _(folder):
    (folder / image(0)).unlink()
    (folder / image(5)).unlink()


@breaks("missing-mask", mask(3))
def _(folder):
    (folder / mask(3)).unlink()


@breaks("picture-without-row", "images/more.png")
def _(folder):
    shutil.copy(folder / image(0), folder / "images" / "more.png")


@breaks("mask-without-row", "masks/more.png")
def _(folder):
    shutil.copy(folder / mask(0), folder / "masks" / "more.png")


@breaks("left-over", "images/.partial-17-phantom-000000.png")
def _(folder):
    (folder / "images" / ".partial-17-phantom-000000.png").write_bytes(b"half")


@breaks("unreadable", image(2), mask(4))
def _(folder):
    for path in (folder / image(2), folder / mask(4)):
        path.write_bytes(path.read_bytes()[:60])


@breaks("patient-in-two-splits", image(1))
def _(folder):
    change(folder, set_in_rows([1], split="val"))


@breaks("unknown-split", image(0), image(1))
def _(folder):
    change(folder, set_in_rows([0, 1], split="training"))


@breaks("split-missing", image(4))
def _(folder):
    change(folder, set_in_rows([4, 5], split=None))


@breaks("patient-missing", image(6))
def _(folder):
    change(folder, set_in_rows([6, 7], patient_id=None, pair_id=None))


@breaks("exact-double", image(6))
def _(folder):
    shutil.copy(folder / image(0), folder / image(6))


@breaks("near-double", image(6))
def _(folder):
    shutil.copy(folder / image(0), folder / image(6))
    repaint(folder, 6, lambda pixels: pixels + 15)


@breaks("repeated-frame", image(1))
def _(folder):
    shutil.copy(folder / image(0), folder / image(1))


@breaks("identifier-name", image(0))
def _(folder):
    change(folder, set_in_rows([0], text="ASD, referred by Dr. Smith"))


@breaks("identifier-date", "images/scan-20210304.png", image(3))
def _(folder):
    rename(folder, 0, "scan-20210304.png")
    change(folder, set_in_rows([3], text="ASD, control after 04.03.2021"))


@breaks("identifier-uid", image(0))
def _(folder):
    change(folder, set_in_rows(range(8), source="1.2.840.113619.2.55.3.604688"))


@breaks("identifier-number", image(0))
def _(folder):
    change(folder, set_in_rows([0, 1], patient_id="MRN1234567"))


@breaks("identifier-email", image(0))
def _(folder):
    change(folder, set_in_rows([0], vendor="sonographer@hospital.org"))


@breaks("identifier-place", image(0))
def _(folder):
    change(folder, set_in_rows([0], vendor="from /mnt/hospital/echo"))


@breaks("credential", image(0))
def _(folder):
    change(folder, set_in_rows([0], text="ASD, hf_" + "aB3dE5fG7h" * 3))


@breaks("identifier-age", image(0))
def _(folder):
    change(folder, set_in_rows([0], age_years=94.0))
    change(folder, set_in_rows([2], age_years=90.0))


@breaks("identifier-column", image(0))
def _(folder):
    change(folder, set_in_rows([0], PatientName="x", ReferringPhysician=""))


@breaks("possible-name", "images/Smith_John_A4C.png")
def _(folder):
    rename(folder, 0, "Smith_John_A4C.png")


@breaks("picture-metadata", image(0), mask(1))
def _(folder):
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "viewer")
    for path in (folder / image(0), folder / mask(1)):
        with Image.open(path) as picture:
            picture.load()
        picture.save(path, pnginfo=info)


@breaks("unknown-label", mask(0))
def _(folder):
    labels = read_mask_u8(folder / mask(0)).copy()
    labels[:8, :8] = 200
    write_mask(folder / mask(0), labels)


@breaks("mask-size", mask(0))
def _(folder):
    write_mask(folder / mask(0), read_mask_u8(folder / mask(0))[::2, ::2])


@breaks("empty-mask", mask(0))
def _(folder):
    write_mask(folder / mask(0), np.zeros((128, 128), np.uint8))


@breaks("constant", image(0), image(2))
def _(folder):
    # Two of them are doubles too, which says nothing.
    write_image(folder / image(0), np.zeros((128, 128), np.uint8))
    write_image(folder / image(2), np.full((128, 128), 255, np.uint8))


@breaks("low-contrast", image(0))
def _(folder):
    repaint(folder, 0, lambda pixels: pixels // 12)


@breaks("saturated", image(0))
def _(folder):
    repaint(folder, 0, lambda pixels: np.where(pixels > 60, 255, pixels))


@breaks("colour", image(0))
def _(folder):
    colour = np.repeat(read_image_u8(folder / image(0))[..., None], 3, axis=2)
    colour[20:30, 20:30] = (255, 200, 0)
    write_image(folder / image(0), colour)


@breaks("split-word", "images/a-test.png")
def _(folder):
    rename(folder, 0, "a-test.png")


@breaks("no-data-folder", "@eaDir")
def _(folder):
    (folder / "images" / "@eaDir").mkdir()
    shutil.copy(folder / image(0), folder / "images" / "@eaDir" / "a.png")


@breaks("white-level", "metadata.jsonl")
def _(folder):
    pixels = read_gray_u8(folder / image(0)).astype(np.uint16)
    Image.fromarray(pixels * 16).save(folder / image(0))


@breaks("other-readers", image(0), mask(2))
def _(folder):
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (folder / image(0), folder / mask(2)):
        with Image.open(path) as picture:
            picture.load()
        picture.transpose(Image.Transpose.ROTATE_180).save(path, exif=exif)


@breaks("caption-unknown", image(3))
def _(folder):
    change(folder, set_in_rows([3], text="NaN"))


@breaks("caption-too-long", image(0))
def _(folder):
    change(folder, set_in_rows([0], text="dilated left ventricle with thin walls, " * 12))


@breaks("caption-cyrillic", image(1))
def _(folder):
    change(folder, set_in_rows([1], text="ДМПП, полости сердца не расширены"))


@breaks("card-missing", "README.md")
def _(folder):
    (folder / "README.md").write_text("just words")


@breaks("licence-unknown", "README.md")
def _(folder):
    (folder / "README.md").write_text("---\nlicense: unknown\n---\n")


@pytest.mark.parametrize("kind", BREAKS)
def test_what_is_broken_is_found_and_nothing_else(kind, folder):
    function, files, kinds = BREAKS[kind]
    function(folder)
    status, report = check(folder)
    assert [found["file"] for found in report["findings"] if found["kind"] == kind] == files
    assert {found["kind"] for found in report["findings"]} == kinds
    errors = [found for found in report["findings"] if found["severity"] == "error"]
    assert status == bool(errors)
    assert report["counts"]["errors"] == len(errors)
    assert all(found["message"] for found in report["findings"])


def test_every_kind_is_tested():
    elsewhere = {"burned-in-text", "size-outlier", "range-outlier"}
    assert set(BREAKS) | elsewhere == set(KINDS)


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes() + b"IVANOV"), "6 bytes after the image"),
        (lambda path: Image.open(path).copy().save(path, icc_profile=b"x" * 200), "a iCCP chunk"),
        (lambda path: Image.merge("LA", [Image.open(path).convert("L")] * 2).save(path),
         "an alpha channel"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_pixels_are_found(folder, spoil, said):
    spoil(folder / image(0))
    _, report = check(folder)
    found = [f for f in report["findings"] if f["kind"] == "picture-metadata"]
    assert [f["file"] for f in found] == [image(0)]
    assert said in found[0]["message"]


def test_a_clean_folder_passes(folder, capsys):
    status, report = check(folder, text="--text")
    assert (status, report["findings"], report["frames"], report["patients"]) == (0, [], 8, 4)
    told = capsys.readouterr().out
    assert told == f"0 errors, 0 warnings, 0 notes in 8 frames of 4 patients: {folder}\n"


def test_warnings_alone_do_not_fail(folder):
    (folder / "README.md").unlink()
    status, report = check(folder)
    assert (status, report["counts"]) == (0, {"errors": 0, "warnings": 1, "notes": 0})


def test_findings_are_grouped_one_line_a_file_grave_ones_first(folder, capsys):
    change(folder, set_in_rows(range(6), text="control after 04.03.2021", vendor="a@b.org"))
    (folder / image(7)).unlink()
    (folder / "README.md").unlink()
    assert check(folder, "--show", "1")[0] == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "error: missing-picture (1): a row whose image does not exist"
    assert lines[1] == f"  {image(7)}: has a row but no image"
    assert lines[2].startswith("error: identifier-date (1)")
    assert lines[-3].startswith("warning: card-missing (1)")
    assert lines[-1].startswith("3 errors, 1 warnings, 0 notes in 8 frames of 4 patients")


def test_a_long_list_is_cut_on_the_terminal_alone(folder, capsys):
    change(folder, lambda rows: [r.update(text=f"on 0{i + 1}.03.2021") for i, r in enumerate(rows)])
    _, report = check(folder, "--show", "3")
    assert len(report["findings"]) == 8
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 + 1 + 1
    assert "and 5 more" in lines[4]


def test_what_assert_accepted_is_a_note(folder, capsys):
    BREAKS["identifier-number"][0](folder)
    status, report = check(folder, "--accept", "identifier-number")
    assert (status, report["counts"]["notes"]) == (0, 1)
    assert "note, accepted: identifier-number (1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--accept", "dust"], "--accept: dust is not known"),
        (["--show", "0"], "--show must be at least 1"),
        (["--workers", "-1"], "--workers must not be negative"),
    ],
)
def test_bad_flags_are_bad_input(folder, capsys, flags, reason):
    assert main(["check", str(folder), *flags]) == 2
    assert reason in capsys.readouterr().err


def test_no_frames_folder_is_bad_input(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, reason in (
        ("none", "none: no such folder"),
        ("file", "file: is not a folder"),
        ("empty", "empty: is not a frames folder (no metadata.jsonl)"),
    ):
        assert main(["check", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.strip().endswith(reason)


def test_a_report_is_not_replaced_unasked(folder, tmp_path, capsys):
    out = tmp_path / "mine.json"
    out.write_text("mine")
    assert main(["check", str(folder), "--json", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_folder_whose_writing_was_stopped_does_not_pass(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    with pytest.raises(KeyboardInterrupt), FramesWriter(tmp_path / "frames") as writer:
        writer.add(Frame(file_name="0.png", text=""), noise)
        raise KeyboardInterrupt
    status, report = check(tmp_path / "frames")
    assert status == 1
    assert [found["kind"] for found in report["findings"]] == ["unfinished"]


# --- outliers ------------------------------------------------------------------------------------


@pytest.fixture
def noises(tmp_path):
    """Pictures of noise, 48 pixels a side, one a patient."""
    rng = np.random.default_rng(0)
    with FramesWriter(tmp_path / "frames") as writer:
        for number in range(24):
            pixels = rng.normal(100 + number % 5, 30, (48, 48)).clip(0, 254).astype(np.uint8)
            name = f"phantom-{number:06d}.png"
            writer.add(Frame(file_name=name, text="", patient_id=f"p{number}"), pixels)
    (tmp_path / "frames" / "README.md").write_text(CARD)
    return tmp_path / "frames"


def test_one_far_brighter_picture_is_an_outlier(noises):
    assert check(noises, "--workers", "2")[1]["findings"] == []
    repaint(noises, 3, lambda pixels: pixels // 2 + 120)
    _, report = check(noises)
    assert {(f["kind"], f["file"]) for f in report["findings"]} == {("range-outlier", image(3))}
    assert "the median of the others 102" in report["findings"][0]["message"]


def test_one_picture_of_another_size_is_an_outlier(noises):
    write_image(noises / image(3), read_gray_u8(noises / image(3))[:-4])
    _, report = check(noises)
    (found,) = report["findings"]
    assert (found["kind"], found["file"]) == ("size-outlier", image(3))
    assert found["message"] == "is 48x44, the others are 48x48"


def test_sizes_that_vary_have_outliers_far_away_alone(noises):
    for number in range(24):
        pixels = read_gray_u8(noises / image(number))
        side = 20 if number == 3 else 40 + number % 8
        write_image(noises / image(number), pixels[:side, :side])
    sizes = [f for f in check(noises)[1]["findings"] if f["kind"] == "size-outlier"]
    assert [found["file"] for found in sizes] == [image(3)]


# --- doubles -------------------------------------------------------------------------------------


def as_jpeg(picture):
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=75)
    return Image.open(held)


def resized(picture):
    return picture.resize((round(picture.width * 0.98), round(picture.height * 0.98)))


def brighter(picture):
    return picture.point(lambda level: min(255, level + 15))


CHANGES = {"jpeg": as_jpeg, "2 % smaller": resized, "brighter": brighter}


def count_near(pictures, patients):
    sketches = [sketch(np.asarray(picture)) for picture in pictures]
    return list(find_near(sketches, [(patient, -1) for patient in patients]))


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_copy_under_another_patient_is_a_double(folder, how):
    with Image.open(folder / image(2)) as picture:
        changed = np.asarray(CHANGES[how](picture))
    write_image(folder / image(7), changed)
    change(folder, set_in_rows([7], mask_file_name=None))
    (folder / mask(7)).unlink()
    status, report = check(folder)
    assert status == 1
    (found,) = report["findings"]
    assert (found["kind"], found["file"]) == ("near-double", image(7))
    assert f"nearly identical to {image(2)} (patient phantom-1-00001, train)" in found["message"]


def test_frames_of_one_patient_may_be_alike(folder):
    with Image.open(folder / image(2)) as picture:
        changed = np.asarray(brighter(picture))
    write_image(folder / image(3), changed)
    assert check(folder)[1]["findings"] == []


@pytest.mark.skipif(not CAMUS.is_dir(), reason="the CAMUS frames for development are not here")
def test_camus_frames_of_two_patients_are_no_doubles_and_changed_ones_are():
    paths = sorted(CAMUS.glob("*.png"))
    pictures = [Image.fromarray(read_gray_u8(path)) for path in paths]
    names = [path.name.split("_")[0] for path in paths]
    patients = [sorted(set(names)).index(name) for name in names]
    assert count_near(pictures, patients) == []
    some = pictures[::12]
    for make in CHANGES.values():
        both = [*some, *map(make, some)]
        found = count_near(both, range(len(both)))
        assert [(d.later - len(some), d.earlier) for d in found] == [
            (i, i) for i in range(len(some))
        ]


def test_equal_pictures_are_compared_with_one_of_every_home():
    homes = [(-1, -1), (1, -1), (2, -1), (2, -1), (2, -1)]
    found = [tuple(double) for double in find_exact([b"same"] * 4 + [b"other"], homes)]
    assert found == [(1, 0, 0), (2, 1, 0), (3, 1, 0)]


def test_the_search_finds_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (300, 576)).astype(np.uint8)
    for later in range(100, 300, 3):
        bits[later] = bits[later - 100]
        bits[later, rng.choice(576, int(rng.integers(2 * RADIUS)), replace=False)] ^= 1
    homes = [(place % 7, place % 3 - 1) for place in range(300)]
    sketches = [None if i == 5 else np.packbits(row).view(np.uint64) for i, row in enumerate(bits)]
    nearest = {}
    for later in range(300):
        for earlier in range(later):
            (p, s), (q, t) = homes[later], homes[earlier]
            apart = p != q or (s != t and s >= 0 and t >= 0)
            distance = int((bits[later] != bits[earlier]).sum())
            if apart and 5 not in (later, earlier) and distance <= RADIUS:
                nearest[later] = min(nearest.get(later, (999, 0)), (distance, earlier))
    found = {
        double.later: (double.distance, double.earlier) for double in find_near(sketches, homes)
    }
    assert found == nearest
    assert len(found) > 20


# --- identifiers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("20210304_ED", "identifier-date"),
        ("IMG20210304123456", "identifier-date"),
        ("2021-03-04", "identifier-date"),
        ("03/24/2021", "identifier-date"),
        ("4-3-2021", "identifier-date"),
        ("04.03.21", "identifier-date"),
        ("12 Mar 2021", "identifier-date"),
        ("March 12, 2021", "identifier-date"),
        ("1.2.840.10008.5.1.4.1.1.3.1.png", "identifier-uid"),
        ("a.b@clinic.example", "identifier-email"),
        ("IVANOV^IVAN", "identifier-name"),
        ("Иванов^Иван", "identifier-name"),
        ("ФИО: Петров", "identifier-name"),
        ("0012345678", "identifier-number"),
        ("123-45-6789", "identifier-number"),
        ("112-233-445 95", "identifier-number"),
        ("+7 (495) 123-45-67", "identifier-number"),
        ("a 94-year-old man", "identifier-age"),
    ],
)
def test_identifiers_have_a_form(text, kind):
    assert [trace.kind for trace in find_identifiers(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "images/0X100009310A3BD7FC.png",  # EchoNet-Dynamic
        "CR32a7555-CR32a7780-000039",  # EchoNet-Pediatric
        "550e8400-e29b-41d4-a716-446655440000",
        "patient0126_4CH_ED",
        "phantom-999999.png",
        "EF 55-60 %, QRS 168 ms, E/e' 19, 0.2734375 mm, aged 90 or over, peak 4.6 m/s",
        "apical 4-chamber view, end of diastole",
    ],
)
def test_hashes_measures_and_counters_are_no_identifiers(text):
    assert list(find_identifiers(text)) == []


def test_capitalised_words_may_be_names():
    assert find_name_words("Ivanov", at_least=1)
    assert find_name_words("images/Иванов_Иван.png", at_least=2)
    for text in ("VH_M_Heart", "patient-0001", "CAMUS", "A0S9V9", "0X1ABCD05BEEF0123"):
        assert not find_name_words(text, at_least=1), text


def test_columns_are_known_by_their_names():
    telling = (
        "PatientName",
        "study_date",
        "StudyInstanceUID",
        "device_serial_number",
        "DOB",
        "MRN",
    )
    assert all(map(is_identifying_column, telling))
    harmless = ("age_years", "ef", "centre", "liquid", "view_name", "quality", "modality")
    assert not any(map(is_identifying_column, harmless))


def test_identifiers_in_a_pictures_metadata_are_errors(folder):
    exif = Image.Exif()
    exif[0x010E], exif[0x0132] = "IVANOV^IVAN", "2021:03:04 10:00:00"
    with Image.open(folder / image(0)) as picture:
        picture.load()
    picture.save(folder / image(0), exif=exif)
    status, report = check(folder)
    assert status == 1
    kinds = [found["kind"] for found in report["findings"]]
    assert kinds == ["identifier-name", "identifier-date", "picture-metadata"]
    assert "EXIF ImageDescription" in report["findings"][0]["message"]


def test_burned_in_text_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(burned_text, "find_text", lambda image_u8: [Box(1, 2, 30, 10)] * 2)
    status, report = check(folder, text="--text")
    assert status == 1
    assert {found["kind"] for found in report["findings"]} == {"burned-in-text"}
    assert report["findings"][0]["message"] == "text at x 1-30, y 2-10 and 1 more"
    assert check(folder)[1]["findings"] == []


def test_words_on_a_picture_are_found(tmp_path):
    folder = tmp_path / "frames"
    write_phantom_frames(folder, num=2, seed=1, size=256, workers=1, progress=False)
    with Image.open(folder / image(0)) as picture:
        font = ImageFont.load_default(size=16)
        ImageDraw.Draw(picture).text((6, 6), "Ivanov Ivan 04.03.2021", fill=255, font=font)
        written = np.asarray(picture)
    write_image(folder / image(0), written)
    _, report = check(folder, text="--text")
    texts = [found["file"] for found in report["findings"] if found["kind"] == "burned-in-text"]
    assert texts == [image(0)]


# --- captions and card ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("a photo of a cat", 7),
        (
            "LVH, left ventricular walls thickened, cavity narrow, atrial and ventricular septum "
            "intact, heart cavities not dilated, right and left side unchanged, 4-chamber "
            "position, end of diastole, echocardiogram of the adult",
            56,
        ),
        (
            "Severe calcific aortic stenosis, peak velocity 4.6 m/s, mean gradient 52 mmHg, AVA "
            "0.7 cm2, bicuspid valve with raphe between right and left coronary cusps.",
            48,
        ),
        (
            "Restrictive filling, E/A 2.4, DT 120 ms, E/e' 19, LAVI 52 ml/m2, biatrial "
            "enlargement, granular sparkling myocardium, suspected transthyretin amyloidosis.",
            58,
        ),
        ("расширен левый желудочек, дефект межпредсердной перегородки", 68),
    ],
)
def test_tokens_are_estimated_from_above(text, true):
    """Against counts by the tokenizer of openai/CLIP."""
    assert true <= estimate_tokens(text) <= 1.25 * true


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ("license: cc-by-nc-sa-4.0", []),
        ("license: other", ["licence-unknown"]),
        ("license: other\nlicense_name: rua\nlicense_link: https://example.org", []),
        ("pretty_name: Hearts", ["licence-unknown"]),
    ],
)
def test_a_card_names_its_licence(folder, head, found):
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    assert [fault["kind"] for fault in check(folder)[1]["findings"]] == found


def test_errors_are_what_stops_and_notes_are_not():
    grave = {kind for kind, (severity, _) in KINDS.items() if severity == Severity.ERROR}
    assert {"patient-in-two-splits", "exact-double", "burned-in-text", "unfinished"} <= grave
    assert not {"licence-unknown", "repeated-frame", "caption-too-long"} & grave
