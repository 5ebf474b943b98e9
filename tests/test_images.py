import errno
import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from echodiff.anatomy import PALETTE, Label
from echodiff.errors import InputError
from echodiff.images import (
    bit_range,
    find_max_value,
    from_pm1,
    pad_square,
    read_gray_u8,
    read_image_u8,
    read_mask_u8,
    read_max_value,
    resize_mask,
    resize_u8,
    to_pm1,
    write_image,
    write_mask,
)

ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_grey_stays_grey_in_whatever_form(tmp_path):
    picture = Image.fromarray(ramp)
    for mode in ("L", "RGB", "LA", "RGBA"):
        picture.convert(mode).save(tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(read_image_u8(tmp_path / f"{mode}.png"), ramp)


def test_colour_is_read_as_colour_and_as_luma(tmp_path):
    colour = np.zeros((4, 5, 3), np.uint8)
    colour[..., 0] = 200
    write_image(tmp_path / "a.png", colour)
    np.testing.assert_array_equal(read_image_u8(tmp_path / "a.png"), colour)
    assert read_gray_u8(tmp_path / "a.png")[0, 0] == 60  # 0.299 x 200


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_files_are_scaled_by_their_own_bit_depth(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        assert file.mode == "I;16"
    image = read_image_u8(tmp_path / "a.png")
    assert (image.min(), image.max()) == (0, 255)
    assert np.abs(image.astype(int) - ramp).max() <= 1
    assert read_max_value(tmp_path / "a.png") == 2**bits - 1


def test_an_explicit_largest_value_wins(tmp_path):
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "a.png")
    assert read_image_u8(tmp_path / "a.png", max_value=4000)[0, 0] == 64
    with pytest.raises(InputError, match=r"a\.png: holds 1000, above"):
        read_image_u8(tmp_path / "a.png", max_value=999)


def test_a_set_shares_one_white_level(tmp_path):
    for name, top in (("a", 200), ("b", 3000)):
        Image.fromarray(np.full((4, 4), top, np.uint16)).save(tmp_path / f"{name}.png")
    write_image(tmp_path / "c.png", ramp)
    paths = sorted(tmp_path.iterdir())
    assert find_max_value(paths) == 4095
    assert find_max_value(paths[2:]) is None


def test_bit_range():
    assert [bit_range(v) for v in (1, 255, 256, 4095, 4096, 65535)] == [
        255, 255, 1023, 4095, 16383, 65535,
    ]  # fmt: skip


def test_floating_point_pictures_lie_in_0_to_1(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    assert read_image_u8(tmp_path / "a.tif")[0, 0] == 128
    Image.fromarray(np.full((4, 4), 2.0, np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"b\.tif: a floating-point image must lie in 0\.\.1"):
        read_image_u8(tmp_path / "b.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.8])
def test_a_truncated_file_is_an_input_error_that_names_it(tmp_path, kind, share):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(whole, kind)
    path = tmp_path / "cut.png"
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
    with pytest.raises(InputError, match=r"cut\.png: "):
        read_image_u8(path)


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_image_u8(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image_u8(tmp_path)


images = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)) | (
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
)


@given(images)
def test_a_written_picture_is_read_back_equal(tmp_path_factory, image):
    path = tmp_path_factory.mktemp("images") / "a.png"
    write_image(path, image)
    is_grey = image.ndim == 3 and (image == image[..., :1]).all()
    np.testing.assert_array_equal(read_image_u8(path), image[..., 0] if is_grey else image)


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_written_mask_is_read_back_equal(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("masks") / "a.png"
    write_mask(path, mask)
    np.testing.assert_array_equal(read_mask_u8(path), mask)


def test_a_mask_shows_its_labels_in_colour(tmp_path):
    write_mask(tmp_path / "a.png", np.full((2, 2), Label.LV, np.uint8))
    with Image.open(tmp_path / "a.png") as file:
        assert file.convert("RGB").getpixel((0, 0)) == PALETTE[Label.LV]


def test_a_colour_picture_is_no_mask(tmp_path):
    write_image(tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    with pytest.raises(InputError, match="one channel of label numbers"):
        read_mask_u8(tmp_path / "a.png")


@given(images)
def test_the_range_of_networks_and_back_changes_nothing(image):
    assert to_pm1(image).dtype == np.float32
    np.testing.assert_array_equal(from_pm1(to_pm1(image)), image)


def test_values_outside_the_range_are_clipped():
    assert from_pm1(np.array([-7.0, 7.0])).tolist() == [0, 255]


def test_shrinking_does_not_alias():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = resize_u8(stripes, (16, 16))
    assert small.shape == (16, 16)
    assert np.abs(small.astype(int) - 127).max() < 12


def test_resizing_a_mask_invents_no_label():
    mask = np.array([[0, 9], [3, 9]], np.uint8)
    assert set(np.unique(resize_mask(mask, (7, 5)))) <= {0, 3, 9}


@given(images)
def test_padding_keeps_every_pixel_and_is_square(image):
    square = pad_square(image)
    assert square.shape[0] == square.shape[1] == max(image.shape[:2])
    assert square.sum() == image.sum()


def test_a_full_disk_leaves_no_half_picture(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.png"):
        write_image(tmp_path / "a.png", ramp)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        resize_u8(np.zeros((4, 4, 2), np.uint8), (2, 2))
