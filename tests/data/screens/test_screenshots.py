"""Screenshots of scanners, drawn around phantoms, through `prepare folder` and `check`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from echodiff.__main__ import main
from echodiff.data.preview import MOST_SHOWN, Seen
from echodiff.data.screens.burned_text import find_text
from echodiff.data.screens.displays import (
    COLOUR_DOPPLER,
    PANELS,
    STRIP,
    find_scan,
    name_display,
)
from echodiff.data.screens.sector import fill_convex
from echodiff.frames.reader import load_frames
from echodiff.images import read_gray_u8, read_image_u8, read_mask_u8, write_mask
from echodiff.phantom.acquisition import Population, render, sample_acquisition
from echodiff.pretrain.drawn_screens import KINDS, draw_screen
from echodiff.pretrain.drawn_text import list_fonts
from echodiff.pretrain.screen_parts import LAYOUTS

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the real files of ../shared/data, which are not shipped"
)


@pytest.fixture(scope="module")
def phantom():
    population = Population(styles=("random",), finding_rate=0.0)
    return render(sample_acquisition(990_002, 0, population), "echo", 256)


@pytest.fixture(scope="module")
def screens(phantom):
    """One screen of each kind, and how it was drawn."""
    rng, fonts = np.random.default_rng(5), list_fonts(bundled_only=True)[1:4]
    layouts = dict(zip(KINDS, LAYOUTS, strict=True))
    return {
        kind: draw_screen(phantom, fonts, rng, kind=kind, layout=layouts[kind]) for kind in KINDS
    }


@pytest.fixture
def src(tmp_path, screens):
    (tmp_path / "src").mkdir()
    for number, (kind, screen) in enumerate(screens.items()):
        path = tmp_path / "src" / f"p{number}_{kind}.jpg"
        Image.fromarray(screen.image_u8).save(path, quality=92)
    return tmp_path / "src"


def prepare(src, out, *flags):
    argv = ["prepare", "folder", str(src), "--out", str(out), "--patient-regex", r"(p\d+)_"]
    return main([*argv, *flags])


def test_text_is_removed_and_displays_are_left_out_with_a_count(src, screens, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(src, out, "--crop", "sector", "--text", "mask", "--spacing-mm", "0.4") == 0
    printed = capsys.readouterr()
    assert [frame.file_name for frame in load_frames(out)] == ["images/p0_b-mode.png"]
    frame = load_frames(out)[0]
    assert frame.extra == {"burned_text": "removed"}
    assert frame.spacing_mm == 0.4
    assert "text removed in 1 of 1 images" in printed.out
    assert "2 M-mode or spectral" in printed.out
    assert "colour Doppler" in printed.out
    assert "left out: --keep-doppler keeps them" in printed.out
    assert f"left out: {src / 'p1_colour.jpg'}: colour Doppler" in printed.err
    image = read_gray_u8(out / frame.file_name)
    assert find_text(image) == []
    rows, columns = np.nonzero(fill_convex(screens["b-mode"].sector))
    assert abs(image.shape[0] - np.ptp(rows)) < 12
    assert abs(image.shape[1] - np.ptp(columns)) < 12
    assert "burned-in text: removed | 1" in (out / "README.md").read_text(encoding="utf-8")


def test_the_sheet_shows_no_more_than_the_frames_do(src, tmp_path):
    out = tmp_path / "out"
    prepare(src, out, "--crop", "sector", "--text", "mask", "--match", "*b-mode*")
    sheet = read_image_u8(out / "before_after.png")
    titles = 256 // 12 * 3 // 2 + 4
    assert find_text(sheet[titles : titles + 256]) == []
    assert main(["check", str(out)]) == 0


def test_without_flags_text_is_kept_and_said_loudly(src, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(src, out, "--match", "*b-mode*") == 0
    printed = capsys.readouterr().out
    assert "warning: text found and left in 1 of 1 images (--crop sector --text mask" in printed
    assert load_frames(out)[0].extra == {"burned_text": "kept"}
    assert not (out / "before_after.png").exists()


def test_keep_takes_the_picture_as_it_is_and_keep_doppler_takes_all(src, screens, tmp_path):
    assert prepare(src, tmp_path / "a", "--text", "keep") == 0
    assert len(load_frames(tmp_path / "a")) == len(KINDS)
    image = read_gray_u8(tmp_path / "a/images/p0_b-mode.png")
    assert image.shape == screens["b-mode"].ink.shape
    flags = ("--crop", "sector", "--text", "mask-inside", "--keep-doppler")
    assert prepare(src, tmp_path / "b", *flags) == 0
    assert len(load_frames(tmp_path / "b")) == len(KINDS)


def test_refuse_takes_no_picture_with_text(src, tmp_path, capsys):
    assert prepare(src, tmp_path / "out", "--text", "refuse", "--match", "*b-mode*") == 2
    assert "--crop sector --text mask removes it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_text_over_the_scan_is_left_out_or_filled_in(phantom, tmp_path, capsys):
    (tmp_path / "src").mkdir()
    image = Image.fromarray(np.pad(phantom, 80))
    ImageDraw.Draw(image).text((170, 250), "DOE^JANE", fill=255, font=ImageFont.load_default(20))
    image.save(tmp_path / "src/p1_a.png")
    Image.fromarray(np.pad(phantom, 80)).save(tmp_path / "src/p2_a.png")
    assert prepare(tmp_path / "src", tmp_path / "a", "--text", "mask") == 0
    printed = capsys.readouterr()
    assert "1 with text over the scan left out: --text mask-inside blackens it" in printed.out
    assert [frame.patient_id for frame in load_frames(tmp_path / "a")] == ["p2"]
    assert prepare(tmp_path / "src", tmp_path / "b", "--text", "mask-inside") == 0
    image = read_gray_u8(tmp_path / "b/images/p1_a.png")
    assert image.shape == (416, 416)
    where = image[255:265, 175:250]  # tissue from beside it, and no letter
    assert where.any()
    assert find_text(image) == []


def draw_console(phantom, screen, over):
    """A phantom's sector on a screen of one grey, an ECG across its foot; and where the sector is.

    `over`: rows from the foot of the sector up to the ECG's base line.
    """
    canvas = np.full((600, 800, 3), screen, np.uint8)
    large = np.asarray(Image.fromarray(phantom).resize((480, 480)))
    sector = fill_convex(large > 0)
    place = np.zeros((600, 800), bool)
    place[60:540, 160:640] = sector
    canvas[60:540, 160:640][sector] = large[sector][:, None]
    foot = np.flatnonzero(place.any(1)).max()
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    x = np.arange(120, 690)
    beat = (x - 120) % 180 - 90
    y = foot - over - 45 * np.exp(-0.5 * (beat / 3.0) ** 2)
    draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(0, 255, 0), width=2)
    draw.text((8, 8), "DOE^JANE", fill=(240, 240, 240), font=ImageFont.load_default(18))
    for tick in range(70, 540, 30):
        draw.line([(690, tick), (698, tick)], fill=(240, 240, 240))
    return image, place


@pytest.mark.parametrize("screen", [(0, 0, 0), (64, 64, 66), (18, 26, 58)])
@pytest.mark.parametrize("text", ["mask", "mask-inside"])
def test_the_sector_stays_whole_where_an_ecg_crosses_its_foot(phantom, tmp_path, screen, text):
    image, sector = draw_console(phantom, screen, over=12)
    (tmp_path / "src").mkdir()
    image.save(tmp_path / "src/p1_a.png")
    assert prepare(tmp_path / "src", tmp_path / "a", "--crop", "sector", "--text", text) == 0
    kept = read_gray_u8(tmp_path / "a" / load_frames(tmp_path / "a")[0].file_name)
    rows, columns = np.nonzero(sector)
    assert abs(kept.shape[0] - np.ptp(rows) - 1) <= 5
    assert abs(kept.shape[1] - np.ptp(columns) - 1) <= 5
    clean = np.asarray(Image.fromarray(phantom).resize((480, 480)))
    seen = (clean[clean.any(1)][:, clean.any(0)] > 12).sum()
    assert (kept > 8).sum() > (0.96 if text == "mask" else 0.985) * seen
    assert find_text(kept) == []


def test_masks_are_cropped_as_their_pictures_are(phantom, tmp_path):
    (tmp_path / "src").mkdir()
    padded = np.pad(phantom, ((40, 60), (90, 70)))
    Image.fromarray(padded).save(tmp_path / "src/p1_a.png")
    labels = np.zeros(padded.shape, np.uint8)
    rows, columns = np.nonzero(padded > 60)
    middle = len(rows) // 2
    labels[rows[middle] - 5 : rows[middle] + 6, columns[middle] - 3 : columns[middle] + 4] = 1
    write_mask(tmp_path / "masks/p1_a.png", labels)
    masks = ("--masks", str(tmp_path / "masks"))
    assert prepare(tmp_path / "src", tmp_path / "out", "--crop", "sector", *masks) == 0
    frame = load_frames(tmp_path / "out", require_mask=True)[0]
    image = read_gray_u8(tmp_path / "out" / frame.file_name)
    mask = read_mask_u8(tmp_path / "out" / str(frame.mask_file_name))
    assert mask.shape == image.shape
    assert image.shape < padded.shape
    assert (mask == 1).sum() == 77
    np.testing.assert_array_equal(image[mask == 1], padded[labels == 1])


@pytest.mark.parametrize("flags", [["--crop", "cone"], ["--text", "blur"]])
def test_wrong_words_are_refused(src, tmp_path, capsys, flags):
    assert prepare(src, tmp_path / "out", *flags) == 2
    assert f"{flags[0]}: expected one of" in capsys.readouterr().err


def test_displays_are_recognised_and_the_scan_is_found(screens):
    wanted = {"b-mode": {None}, "colour": {COLOUR_DOPPLER}, "m-mode": {STRIP}}
    wanted |= {"spectral": {STRIP, PANELS}}
    wanted |= {kind: {PANELS, COLOUR_DOPPLER} for kind in ("dual", "quad")}
    named = {kind: name_display(s.image_u8, s.lines) for kind, s in screens.items()}
    assert all(named[kind] in wanted[kind] for kind in KINDS), named
    screen = screens["b-mode"]
    scan, truth = find_scan(screen.image_u8, screen.lines), fill_convex(screen.sector)
    assert (scan & truth).sum() / (scan | truth).sum() > 0.94


def test_a_tinted_picture_is_no_doppler(phantom):
    tinted = (phantom[..., None] * np.array([1.0, 0.8, 0.5])).astype(np.uint8)
    assert name_display(tinted) is None
    assert name_display(np.repeat(phantom[..., None], 3, axis=-1)) is None


def test_small_letters_of_a_shrunk_screenshot_are_found(phantom):
    image = Image.new("L", (300, 220))
    image.paste(Image.fromarray(phantom).resize((180, 180)), (60, 30))
    draw = ImageDraw.Draw(image)
    for place, text in (((4, 4), "PETROVA ANNA"), ((220, 4), "12/03/2019")):
        draw.text(place, text, fill=230, font=ImageFont.load_default(8))
    boxes = find_text(np.asarray(image))
    assert any(box.top < 16 and box.left < 30 for box in boxes)
    assert any(box.top < 16 and box.right > 250 for box in boxes)


@needs_shared
def test_no_real_frame_is_taken_for_another_display():
    paths = [*sorted((SHARED / "camus/frames").glob("*.png"))[::24]]
    paths += sorted((SHARED / "hvsmr/images").glob("*.png"))[::12]
    assert {path.name: name_display(read_image_u8(path)) for path in paths} == {
        path.name: None for path in paths
    }


@needs_shared
def test_screens_drawn_around_real_frames_come_out_clean(tmp_path, capsys):
    rng, fonts = np.random.default_rng(8), list_fonts(bundled_only=True)[1:4]
    (tmp_path / "src").mkdir()
    for number, layout in enumerate(LAYOUTS):
        path = sorted((SHARED / "camus/frames").glob("*.png"))[30 * number]
        screen = draw_screen(read_gray_u8(path), fonts, rng, layout=layout)
        Image.fromarray(screen.image_u8).save(tmp_path / f"src/p{number}_.png")
    out = tmp_path / "out"
    assert prepare(tmp_path / "src", out, "--crop", "sector", "--text", "mask") == 0
    assert "text removed in 6 of 6 images" in capsys.readouterr().out
    assert not any(find_text(read_gray_u8(out / f.file_name)) for f in load_frames(out))


def test_images_that_are_read_twice_are_counted_once():
    seen = Seen()
    for _ in range(2):  # as with --annotated
        for number in range(MOST_SHOWN + 6):
            seen.add_preview(f"{number}.png", np.zeros((2, 8, 8, 3), np.uint8))
    assert (seen.num_changed, len(seen.previews)) == (MOST_SHOWN + 6, MOST_SHOWN)
