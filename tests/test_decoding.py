"""Pictures and masks as cameras, scanners, editors and annotation tools write them."""

import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from echodiff.__main__ import main
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.images import (
    has_deep_pixels,
    read_gray_u8,
    read_image_u8,
    read_mask_u8,
    read_max_value,
    read_size,
)

up = np.add.outer(np.arange(6) * 30, np.arange(9) * 10).astype(np.uint8)
"""(6, 9), different at every corner."""
deep = up.astype(np.uint16) * 16
"""The same in 12 bits."""
LABELS = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 1, 1]], np.uint8)


def stored(values, orientation):
    """What a camera stores for `values` under an EXIF orientation."""
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    return np.ascontiguousarray(values.swapaxes(0, 1) if orientation > 4 else values)


def write_png(path, values, *, bits=16, colour_type, chunks=()):
    """A PNG of any bit depth: (H, W) or (H, W, C) as its colour type has it."""
    values = np.atleast_3d(values)
    height, width, num_channels = values.shape
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        one_by_one = np.unpackbits(values.astype(np.uint8), axis=2).reshape(height, width, 8)
        packed = one_by_one[..., 8 - bits :].reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in packed]
    assert num_channels == {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )
    )


def pack_lzw(data):
    """TIFF's LZW with literal codes of 9 bits alone, cleared before they grow."""
    codes = [256]
    for start in range(0, len(data), 200):
        codes += [*data[start : start + 200], 256]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def build_tiff(tags, strip):
    """A little-endian TIFF of one strip."""
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    bits = struct.pack("<3H", 16, 16, 16)
    entries = [*tags, (273, end + len(bits)), (279, len(strip))]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, value in sorted(entries):
        count, number = (len(value), end) if isinstance(value, tuple) else (1, value)
        head += struct.pack("<HHII", tag, 4 if tag in {273, 279} else 3, count, number)
    return head + b"\0\0\0\0" + bits + strip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_a_turned_picture_is_read_as_a_viewer_shows_it(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}.get(suffix, {})
    Image.fromarray(stored(up, orientation)).save(path, exif=exif, **options)
    assert read_size(path) == (6, 9)
    image = read_image_u8(path).astype(int)
    assert np.abs(image - up).max() <= (12 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_turned_tiff_of_16_bits_is_upright(tmp_path, orientation, channels):
    path = tmp_path / "a.tif"
    values = stored(deep if channels == 1 else np.repeat(deep[..., None], 3, 2), orientation)
    tifffile.imwrite(
        path,
        values,
        photometric="minisblack" if channels == 1 else "rgb",
        extratags=[(274, "H", 1, orientation, True)],
    )
    assert read_size(path) == (6, 9)
    np.testing.assert_array_equal(read_image_u8(path, max_value=4080), up)


def test_a_mask_is_turned_as_its_picture_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = (up > 100).astype(np.uint8)
    for name, values in {"src": up, "masks": mask}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(stored(values, 6)).save(tmp_path / name / "a.png", exif=exif)
    out = tmp_path / "out"
    flags = ["--masks", str(tmp_path / "masks"), "--out", str(out)]
    with pytest.warns(UserWarning, match="patient of its own"):
        assert main(["prepare", "folder", str(tmp_path / "src"), *flags]) == 0
    [frame] = load_frames(out)
    np.testing.assert_array_equal(read_image_u8(out / frame.file_name), up)
    np.testing.assert_array_equal(read_mask_u8(out / str(frame.mask_file_name)), mask)


@pytest.mark.parametrize("kind", ["grey", "grey-alpha", "rgb", "rgba"])
def test_16_bits_are_read_in_every_colour_mode_of_png(tmp_path, kind):
    colour = np.repeat(deep[..., None], 3, 2)
    opaque = np.full((*deep.shape, 1), 65535, np.uint16)
    values, colour_type = {
        "grey": (deep, 0),
        "grey-alpha": (np.concatenate([deep[..., None], opaque], 2), 4),
        "rgb": (colour, 2),
        "rgba": (np.concatenate([colour, opaque], 2), 6),
    }[kind]
    path = tmp_path / "a %03d.png"
    write_png(path, values, colour_type=colour_type)
    assert has_deep_pixels(path)
    assert read_max_value(path) == deep.max()
    np.testing.assert_array_equal(read_image_u8(path, max_value=4080), up)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_16_bit_colour_tiff_keeps_its_bits(tmp_path, compression, planar, byte_order, tile):
    colour = np.stack([deep, deep + 1, deep // 2], 2)
    values = colour if planar == "contig" else colour.transpose(2, 0, 1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values, photometric="rgb", planarconfig=planar, compression=compression,
        byteorder=byte_order, bigtiff=byte_order == "<", tile=tile,
    )  # fmt: skip
    assert read_max_value(path) == colour.max()
    np.testing.assert_array_equal(
        read_image_u8(path, max_value=4095), np.rint(colour * (255 / 4095))
    )


def test_16_bit_colour_tiff_of_another_compression_keeps_its_bits(tmp_path):
    # LZW, as editors save it: tifffile alone does not write or read it.
    tags = [(256, 64), (257, 4), (258, (16, 16, 16)), (259, 5), (262, 2), (277, 3), (278, 4)]
    colour = np.arange(4 * 64 * 3, dtype="<u2").reshape(4, 64, 3)
    (tmp_path / "a.tif").write_bytes(build_tiff(tags, pack_lzw(colour.tobytes())))
    np.testing.assert_array_equal(
        read_image_u8(tmp_path / "a.tif", max_value=4095), np.rint(colour * (255 / 4095))
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_that_is_cut_short_is_refused(tmp_path, suffix):
    colour = np.random.default_rng(0).integers(0, 4096, (64, 64, 3)).astype(np.uint16)
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    if suffix == ".png":
        write_png(whole, colour, colour_type=2)
    else:
        tifffile.imwrite(whole, colour, photometric="rgb")
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=rf"cut{suffix}: "):
        read_image_u8(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("values", "photometric"),
    [
        (65535 - deep, "miniswhite"),
        (2**32 - 1 - deep.astype(np.uint32), "miniswhite"),
        (deep.astype(np.uint32), "minisblack"),
        (deep.astype(np.int16), "minisblack"),
        (up / np.float32(255), "minisblack"),
        (up / np.float64(255), "minisblack"),
    ],
    ids=["white-16", "white-32", "black-32", "signed-16", "float-32", "float-64"],
)
def test_grey_tiff_of_either_byte_order_keeps_its_greys(
    tmp_path, values, photometric, orientation, byte_order, compression
):
    tifffile.imwrite(
        tmp_path / "a.tif", stored(values, orientation), photometric=photometric,
        byteorder=byte_order, compression=compression,
        extratags=[(274, "H", 1, orientation, True)],
    )  # fmt: skip
    assert read_size(tmp_path / "a.tif") == (6, 9)
    np.testing.assert_array_equal(read_image_u8(tmp_path / "a.tif", max_value=4080), up)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_tiff_with_alpha_lies_over_black(tmp_path, bits, compression, byte_order, planar):
    grey, full = (up, 255) if bits == 8 else (deep, 65535)
    alpha = np.full_like(grey, full)
    alpha[:2] = 0
    values = np.stack([grey, alpha], 2 if planar == "contig" else 0)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="minisblack", planarconfig=planar,
        byteorder=byte_order, compression=compression, extrasamples=["unassalpha"],
    )  # fmt: skip
    image = read_image_u8(tmp_path / "a.tif", max_value=4080)
    np.testing.assert_array_equal(image, np.where(alpha > 0, up, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_premultiplied_tiff_is_not_darkened_twice(tmp_path, channels):
    alpha = np.full((*deep.shape, 1), 32768, np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", np.concatenate([deep[..., None]] * channels + [alpha], 2),
        photometric="minisblack" if channels == 1 else "rgb", extrasamples=["assocalpha"],
    )  # fmt: skip
    np.testing.assert_array_equal(read_image_u8(tmp_path / "a.tif", max_value=4080), up)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_white_is_white_whichever_end_of_the_scale_the_file_gives_it(tmp_path, bits):
    full = 2**bits - 1
    wanted = np.rint(up.astype(float) / up.max()) * 255 if bits == 1 else up
    values = np.rint(wanted.astype(np.float64) * full / 255).astype(
        np.uint16 if bits == 16 else np.uint8
    )
    for name, numbers in {"minisblack": values, "miniswhite": full - values}.items():
        numbers = numbers.astype(bool) if bits == 1 else numbers.astype(values.dtype)
        tifffile.imwrite(tmp_path / f"{name}.tif", numbers, photometric=name)
        np.testing.assert_array_equal(
            read_image_u8(tmp_path / f"{name}.tif", max_value=65535), wanted
        )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_picture_of_few_bits_reaches_from_black_to_white(tmp_path, bits):
    levels = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, 0)
    write_png(tmp_path / "a.png", levels, bits=bits, colour_type=0)
    image = read_image_u8(tmp_path / "a.png")
    np.testing.assert_array_equal(image, levels * (255 // (2**bits - 1)))


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".png", ".webp"])
def test_several_pages_or_frames_are_refused(tmp_path, suffix):
    pages = [Image.fromarray(up // 2), Image.fromarray(up), Image.fromarray(up // 3)]
    path = tmp_path / f"a{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    for read in (read_image_u8, read_mask_u8, read_size):
        with pytest.raises(InputError, match=rf"a{suffix}: holds 3 pages or frames"):
            read(path)


def test_a_thumbnail_behind_the_picture_is_no_second_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(up, photometric="minisblack")
        file.write(up[::3, ::3], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_image_u8(tmp_path / "a.tif"), up)
    big = Image.fromarray(np.full((64, 64), 90, np.uint8))
    big.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[big.resize((16, 16))])
    np.testing.assert_array_equal(read_image_u8(tmp_path / "a.jpg"), 90)


def test_transparent_pixels_are_laid_over_black(tmp_path):
    rgba = np.dstack([up, up, up, np.full_like(up, 255)])
    rgba[:2, ..., 3] = 0
    rgba[2, ..., :] = (200, 200, 200, 128)
    wanted = up.copy()
    wanted[:2], wanted[2] = 0, 100
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., [0, 3]], "LA").save(tmp_path / "la.png")
    for name in ("rgba", "la"):
        np.testing.assert_array_equal(read_image_u8(tmp_path / f"{name}.png"), wanted)
    palette = Image.fromarray(LABELS)
    palette.putpalette([255, 255, 255, 40, 40, 40, 80, 80, 80, 120, 120, 120])
    palette.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_array_equal(read_image_u8(tmp_path / "palette.png"), LABELS * 40)
    write_png(
        tmp_path / "deep.png",
        np.dstack([deep, np.where(deep > 1000, 65535, 0)]),
        colour_type=4,
    )
    np.testing.assert_array_equal(
        read_image_u8(tmp_path / "deep.png", max_value=4080), np.where(deep > 1000, up, 0)
    )


def test_inks_are_read_as_colour(tmp_path):
    grey = np.full((16, 16), 90, np.uint8)
    Image.fromarray(grey).convert("RGB").convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image_u8(tmp_path / "a.jpg").astype(int) - 90).max() <= 2


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (np.full((6, 9, 3), 0.5, np.float32), {"photometric": "rgb"}, "cannot be"),
        (np.full((6, 9), -5, np.int16), {}, "negative values"),
        (np.full((6, 9), -5, np.int8), {}, "signed pixels of 8 bits"),
        (np.full((6, 9), 7, np.int16), {"photometric": "miniswhite"}, "cannot be read"),
        (np.full((6, 9, 3), 9, np.uint8), {"photometric": "cielab"}, "colours of the kind LAB"),
        (np.full((6, 9, 4), 9, np.uint16), {"photometric": "separated"}, "neither grey nor RGB"),
    ],
)
def test_what_cannot_be_read_right_is_refused_in_one_line(tmp_path, values, options, words):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **({"photometric": "minisblack"} | options))
    with pytest.raises(InputError, match=words) as error:
        read_image_u8(path)
    assert str(error.value).startswith(str(path))


# --- Masks ------------------------------------------------------------------------------------


def test_grey_masks_hold_the_numbers_that_are_stored(tmp_path):
    for bits in (2, 4, 8, 16):
        path = tmp_path / f"{bits}.png"
        write_png(path, LABELS, bits=bits, colour_type=0)
        np.testing.assert_array_equal(read_mask_u8(path), LABELS)
    for name, dtype in {"i": np.int32, "f": np.float32}.items():
        Image.fromarray(LABELS.astype(dtype)).save(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(read_mask_u8(tmp_path / f"{name}.tif"), LABELS)
    binary = LABELS > 1
    Image.fromarray(binary).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_mask_u8(tmp_path / "1.png"), binary)


def test_palette_and_equal_channels_are_masks(tmp_path):
    palette = Image.fromarray(LABELS)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    palette.save(tmp_path / "a.png", bits=2)
    palette.save(tmp_path / "b.png", transparency=0)
    rgba = np.dstack([LABELS, LABELS, LABELS, np.full_like(LABELS, 255)])
    Image.fromarray(rgba[..., :3].copy()).save(tmp_path / "c.png")
    Image.fromarray(rgba[..., [0, 3]], "LA").save(tmp_path / "d.png")
    rgba[LABELS == 0] = (255, 255, 255, 0)
    Image.fromarray(rgba).save(tmp_path / "e.png")
    write_png(tmp_path / "f.png", np.repeat(LABELS[..., None], 3, 2), colour_type=2)
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_mask_u8(path), LABELS)


def test_masks_that_would_give_wrong_labels_are_refused(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.jpg")
    Image.fromarray(np.dstack([LABELS, LABELS // 2, LABELS])).save(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.tif", 255 - LABELS, photometric="miniswhite")
    Image.fromarray(LABELS + np.float32(0.5)).save(tmp_path / "d.tif")
    words = ["JPEG changes", "is in colour", "0 is white", "whole numbers"]
    for path, word in zip(sorted(tmp_path.iterdir()), words, strict=True):
        with pytest.raises(InputError, match=rf"{path.name}: .*{word}"):
            read_mask_u8(path)


@pytest.mark.parametrize(
    ("mask", "table", "wanted"),
    [
        ((LABELS > 1).astype(np.uint8) * 255, "255=LV", (LABELS > 1) * 1),
        (LABELS > 1, "1=RV", (LABELS > 1) * 4),
        ((LABELS > 1).astype(np.uint16) * 200, "200=LA", (LABELS > 1) * 3),
    ],
)
def test_a_binary_mask_names_its_one_structure(tmp_path, mask, table, wanted):
    for name, values in {"src": LABELS * 40, "masks": mask}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "a.png")
    out = tmp_path / "out"
    flags = ["--masks", str(tmp_path / "masks"), "--mask-labels", table, "--out", str(out)]
    with pytest.warns(UserWarning, match="patient of its own"):
        assert main(["prepare", "folder", str(tmp_path / "src"), *flags]) == 0
    [frame] = load_frames(out)
    np.testing.assert_array_equal(read_mask_u8(out / str(frame.mask_file_name)), wanted)


def test_without_pyav_colour_of_16_bits_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "deep.png"
    write_png(path, np.stack([deep, deep + 1, deep // 2], 2), colour_type=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError) as refused:
        read_gray_u8(path)
    line = "16-bit colour needs the package av: pip install 'echodiff[medical]'"
    assert str(refused.value) == f"{path}: {line}"
