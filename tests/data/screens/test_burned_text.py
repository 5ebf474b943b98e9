from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from echodiff.data.screens.burned_text import (
    Box,
    find_text,
    halve_size,
    list_places,
    look_for_text,
    mask_text,
)
from echodiff.data.screens.text_network import convolve, score_text
from echodiff.images import read_gray_u8, resize_u8
from echodiff.phantom.acquisition import Population, render, sample_acquisition
from echodiff.pretrain.drawn_text import COLOURS, draw_text, list_fonts, make_text

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the real files of ../shared/data, which are not shipped"
)
UNSEEN = 990_001  # a seed that no training used


@pytest.fixture(scope="module")
def phantoms():
    population = Population(styles=("random",), finding_rate=0.3)
    drawn = [sample_acquisition(UNSEEN, 2 * i, population) for i in range(4)]
    return [render(one, "echo", 384) for one in drawn]


def covered(boxes, shape):
    found = np.zeros(shape, bool)
    for box in boxes:
        found[box.top : box.bottom, box.left : box.right] = True
    return found


def test_texts_drawn_over_phantoms_are_found_and_covered(phantoms):
    rng = np.random.default_rng(7)
    fonts = list_fonts(bundled_only=True)
    shares = []
    for number in range(32):
        text = make_text(rng)
        drawn = draw_text(
            phantoms[number % len(phantoms)],
            text if len(text) > 3 else "12.03.1961",
            font=fonts[number % len(fonts)],
            height=8 + number % 17,
            colour=COLOURS[number % len(COLOURS)],
            rng=rng,
        )
        if drawn is not None and drawn.contrast > 40:
            shares.append(covered(find_text(drawn.image_u8), drawn.ink.shape)[drawn.ink].mean())
    assert len(shares) > 26
    assert np.mean(np.array(shares) >= 0.5) >= 0.95
    assert np.mean(np.array(shares) >= 0.95) >= 0.9


def test_phantoms_without_text_have_none(phantoms):
    assert not any(find_text(image) for image in phantoms)


@pytest.mark.parametrize("colour", [(0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 0)])
def test_colour_is_seen_even_where_its_luma_is_that_of_the_tissue(colour):
    image = Image.new("RGB", (160, 96), (200, 200, 200))
    draw = ImageDraw.Draw(image)
    draw.text((30, 40), "DOE^JANE 1961", fill=colour, font=ImageFont.load_default(15))
    boxes = find_text(np.asarray(image))
    assert covered(boxes, (96, 160))[42:54, 34:120].all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (9, 9), (33, 61), (64, 64, 3)])
def test_small_and_odd_pictures_are_looked_at(shape):
    assert find_text(np.zeros(shape, np.uint8)) == []


def test_boxes_lie_inside_and_are_filled():
    image = np.zeros((40, 120), np.uint8)
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((0, 0), "A. Petrova", fill=255, font=ImageFont.load_default(16))
    image = np.asarray(picture)
    boxes = find_text(image)
    assert boxes
    for box in boxes:
        assert 0 <= box.left < box.right <= 120
        assert 0 <= box.top < box.bottom <= 40
    assert not mask_text(image, boxes).any()
    assert image.any()
    np.testing.assert_array_equal(np.unique(mask_text(image, [Box(0, 0, 120, 40)], 9)), [9])


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 3)])
def test_the_convolution_is_that_of_torch(stride, dilation):
    import torch

    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 21, 18)).astype(np.float32)
    kernel = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(values)[None],
        torch.from_numpy(kernel),
        torch.from_numpy(bias),
        stride,
        dilation,
        dilation,
    )[0].relu()
    found = convolve(values, kernel, bias, stride, dilation)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_where_the_scout_points_the_answers_are_those_of_the_whole_picture(phantoms):
    image = Image.fromarray(np.pad(phantoms[0], ((30, 61), (20, 57))))
    ImageDraw.Draw(image).text((40, 5), "DOE^JANE 12.03", fill=220, font=ImageFont.load_default(14))
    picture = np.asarray(image)
    half = resize_u8(picture, halve_size(picture.shape))
    answers, whole = look_for_text(picture, half), score_text(picture)
    places = list(list_places(half))
    assert 0 < len(places) < 8
    assert sum((b.bottom - b.top) * (b.right - b.left) for b in places) < picture.size / 3
    for box in places:
        place = np.s_[box.top // 4 : box.bottom // 4, box.left // 4 : box.right // 4]
        np.testing.assert_allclose(answers[place], whole[place], atol=1e-4)
    assert answers.max() > 0.99


def test_small_phantoms_without_text_have_none():
    population = Population()
    drawn = [sample_acquisition(3, place, population) for place in (40, 63, 143, 175, 197, 303)]
    assert not any(find_text(render(one, "echo", 64)) for one in drawn)


@needs_shared
def test_real_frames_without_text_have_none():
    paths = sorted((SHARED / "camus/frames").glob("*.png"))[::16]
    assert [path.name for path in paths if find_text(read_gray_u8(path))] == []


@needs_shared
def test_the_text_of_a_real_frame_is_all_found():
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    path = SHARED / "us_dicom/philips_adult_echo_burned_in_text.dcm"
    image = pixel_array(dcmread(path))
    found = covered(find_text(image), image.shape)
    texts = {
        "Adult Echo": (16, 27, 140, 43), "S5-1": (16, 56, 60, 71), "49Hz": (16, 80, 66, 95),
        "16cm": (16, 100, 62, 115), "Asc Ao Diam 3.3 cm": (108, 68, 328, 84),
        "Asc Ao Index 2.0": (108, 98, 328, 112), "settings": (18, 142, 66, 236),
        "1.3 2.6": (16, 480, 88, 494), "TIS0.4": (830, 28, 896, 42), "MI 1.4": (920, 28, 982, 42),
        "M3": (965, 81, 983, 92), "65bpm": (935, 731, 991, 747),
    }  # fmt: skip
    for text, (left, top, right, bottom) in texts.items():
        ink = image[top:bottom, left:right] > 128
        assert found[top:bottom, left:right][ink].mean() > 0.95, text
    assert not found[200:640, 300:700].any()
