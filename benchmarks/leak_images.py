"""What `push_leaks.py` plants into images: training images that were changed, and hidden bytes."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, PngImagePlugin

Grey = NDArray[np.uint8]
Change = Callable[[Grey, Sequence[Grey], np.random.Generator], Grey]
"""(a training image, images of nobody, a generator) -> what would go up."""


def _resized(image: Grey, size: tuple[int, int]) -> Grey:
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def _cropped(image: Grey, share: float, rng: np.random.Generator) -> Grey:
    height, width = image.shape
    top, left = (int(rng.uniform(0, 1 - share) * side) for side in (height, width))
    part = image[top : top + int(share * height), left : left + int(share * width)]
    return _resized(part, image.shape)


def _shifted(image: Grey, share: float, rng: np.random.Generator) -> Grey:
    by = [
        int(sign * share * side)
        for sign, side in zip(rng.choice([-1, 1], 2), image.shape, strict=True)
    ]
    moved = np.zeros_like(image)
    ends = [
        slice(max(0, step), side + min(0, step)) for step, side in zip(by, image.shape, strict=True)
    ]
    starts = [
        slice(max(0, -step), side + min(0, -step))
        for step, side in zip(by, image.shape, strict=True)
    ]
    moved[tuple(ends)] = image[tuple(starts)]
    return moved


def _covered(image: Grey, share: float, level: int | None, rng: np.random.Generator) -> Grey:
    covered = image.copy()
    height, width = (int(np.sqrt(share) * side) for side in image.shape)
    top, left = rng.integers(image.shape[0] - height), rng.integers(image.shape[1] - width)
    what = rng.integers(0, 256, (height, width)) if level is None else level
    covered[top : top + height, left : left + width] = what
    return covered


def _gamma(image: Grey, power: float) -> Grey:
    return np.asarray(255 * (image / 255) ** power, np.uint8)


def _jpeg(image: Grey, quality: int) -> Grey:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _sheet(
    image: Grey, others: Sequence[Grey], rng: np.random.Generator,
    rows: int, columns: int, border: int, level: int,
) -> Grey:  # fmt: skip
    cell = max(64, min(image.shape) // 2)
    size = (rows * (cell + border) + border, columns * (cell + border) + border)
    sheet, own = np.full(size, level, np.uint8), rng.integers(rows * columns)
    for number in range(rows * columns):
        shown = image if number == own else others[int(rng.integers(len(others)))]
        top = border + number // columns * (cell + border)
        left = border + number % columns * (cell + border)
        sheet[top : top + cell, left : left + cell] = _resized(shown, (cell, cell))
    return sheet


CHANGES: dict[str, Change] = {
    "mirrored": lambda a, o, r: a[:, ::-1],
    "upside down": lambda a, o, r: a[::-1],
    "turned": lambda a, o, r: np.rot90(a, int(r.integers(1, 4))),
    "transposed": lambda a, o, r: a.T if r.random() < 0.5 else a[::-1, ::-1].T,
    "inverted": lambda a, o, r: 255 - a,
    "cropped to 90 %": lambda a, o, r: _cropped(a, 0.9, r),
    "cropped to 75 %": lambda a, o, r: _cropped(a, 0.75, r),
    "cropped to 60 %": lambda a, o, r: _cropped(a, 0.6, r),
    "cropped to the middle half": lambda a, o, r: _resized(
        a[a.shape[0] // 4 : -(a.shape[0] // 4), a.shape[1] // 4 : -(a.shape[1] // 4)], a.shape
    ),
    "shifted by 7 %": lambda a, o, r: _shifted(a, 0.07, r),
    "shifted by 15 %": lambda a, o, r: _shifted(a, 0.15, r),
    "half the size": lambda a, o, r: _resized(a, (a.shape[0] // 2, a.shape[1] // 2)),
    "stretched by 1.4": lambda a, o, r: _resized(a, (a.shape[0], int(1.4 * a.shape[1]))),
    "brighter": lambda a, o, r: np.clip(a.astype(int) + 40, 0, 255).astype(np.uint8),
    "half as bright": lambda a, o, r: a // 2,
    "gamma 0.5 or 2": lambda a, o, r: _gamma(a, float(r.choice([0.5, 2]))),
    "more contrast": lambda a, o, r: np.clip(2 * (a.astype(int) - 60), 0, 255).astype(np.uint8),
    "JPEG of quality 30": lambda a, o, r: _jpeg(a, 30),
    "blurred": lambda a, o, r: np.asarray(
        Image.fromarray(a).filter(ImageFilter.GaussianBlur(a.shape[0] / 200))
    ),
    "noise of 15 levels": lambda a, o, r: np.clip(a + r.normal(0, 15, a.shape), 0, 255).astype(
        np.uint8
    ),
    "rotated by 8 degrees": lambda a, o, r: np.asarray(
        Image.fromarray(a).rotate(8 * r.choice([-1, 1]), Image.Resampling.BICUBIC)
    ),
    "a fifth covered": lambda a, o, r: _covered(a, 0.2, int(r.choice([0, 128, 255])), r),
    "a fifth covered by noise": lambda a, o, r: _covered(a, 0.2, None, r),
    "in a sheet of 2 x 2": lambda a, o, r: _sheet(a, o, r, 2, 2, 0, 0),
    "in a sheet of 3 x 4, black borders": lambda a, o, r: _sheet(a, o, r, 3, 4, 4, 0),
    "in a sheet of 2 x 3, white borders": lambda a, o, r: _sheet(a, o, r, 2, 3, 10, 255),
    "with a border": lambda a, o, r: np.pad(a, a.shape[0] // 6, constant_values=200),
    "mirrored, cropped, darker": lambda a, o, r: _gamma(_cropped(a[:, ::-1], 0.8, r), 1.5),
    "turned, inverted, JPEG": lambda a, o, r: _jpeg(np.ascontiguousarray(255 - np.rot90(a)), 50),
    "mirrored in a sheet": lambda a, o, r: _sheet(a[:, ::-1], o, r, 2, 3, 4, 0),
}  # fmt: skip


# --- Bytes ----------------------------------------------------------------------------------------


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def _png(image: Grey | NDArray[np.uint8], **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", **options)
    return file.getvalue()


def _with_chunk(image: Grey, kind: bytes, content: bytes) -> bytes:
    data = _png(image)
    return data[:33] + _chunk(kind, content) + data[33:]  # after IHDR


def _with_text(image: Grey, add: str, words: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    getattr(info, add)("Comment", words)
    return _png(image, pnginfo=info)


def _exif(words: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = words  # ImageDescription
    return exif.tobytes()


def _safetensors(tensors: dict[str, tuple[list[int], bytes]], metadata: dict[str, str]) -> bytes:
    place, header = 0, dict[str, object]({"__metadata__": metadata})
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [place, place + len(data)]}
        place += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values())


_LORA = "unet.mid_block.attentions.0.proj_in.lora_A.weight"
_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tIME", b"sPLT", b"hIST", b"prVt", b"caBX")
_WEIGHTS = "pytorch_lora_weights.safetensors"

Hide = Callable[[Grey, str, int], tuple[str, bytes]]
"""(a training image, words, number of the try) -> file name and bytes of what would go up."""
BYTES: dict[str, Hide] = {
    "PNG chunk": lambda a, w, i: (
        "sheet.png", _with_chunk(a, _CHUNKS[i % len(_CHUNKS)], w.encode())),
    "PNG text": lambda a, w, i: (
        "sheet.png", _with_text(a, ("add_text", "add_itxt")[i % 2], w)),
    "EXIF": lambda a, w, i: ("sheet.png", _png(a, exif=_exif(w))),
    "ICC profile": lambda a, w, i: ("sheet.png", _png(a, icc_profile=w.encode() * 20)),
    "bytes after the image": lambda a, w, i: (
        "sheet.png", _png(a) + (w.encode(), _png(a), b"PK\3\4")[i % 3]),
    "bytes behind the pixels": lambda a, w, i: (
        "sheet.png", _with_tail(a, w.encode(), is_compressed=bool(i % 2))),
    "alpha channel": lambda a, w, i: (
        "sheet.png", _png(np.dstack([np.zeros_like(a)] * 3 + [a]))),
    "palette": lambda a, w, i: ("sheet.png", _palette(a)),
    "second frame of an animation": lambda a, w, i: (
        "sheet.png", _png(np.zeros_like(a), save_all=True, append_images=[Image.fromarray(a)])),
    "image in the weights' header": lambda a, w, i: (
        _WEIGHTS, _safetensors({_LORA: ([4], b"\0" * 4)}, {"note": (
            _png(a).hex(), base64.b64encode(_png(a)).decode(), _png(a).hex(" "))[i % 3]})),
    "image in the scores": lambda a, w, i: (
        "metrics.json", json.dumps({"alarms": [_png(a).hex()]} if i % 2 else {
            "scores": {"x": {"curve": a[::2, ::2].ravel().tolist()}}}).encode()),
    "words in the weights' header": lambda a, w, i: (
        _WEIGHTS, _safetensors({_LORA: ([4], b"\0" * 4)}, {w: ""} if i % 2 else {"note": w})),
    "image as a tensor": lambda a, w, i: (
        _WEIGHTS, _safetensors({("image", "unet.picture", "x.lora_A.weight")[i % 3]: (
            list(a.shape), a.tobytes())}, {})),
    "bytes after the tensors": lambda a, w, i: (
        _WEIGHTS, _safetensors({_LORA: ([4], b"\0" * 4)}, {}) + a.tobytes()),
    "a file that is not on the list": lambda a, w, i: (
        ("notes.txt", "frame.png", "images.zip", "a.npy", "run.json.bak")[i % 5], _png(a)),
    "image inside the card": lambda a, w, i: (
        "README.md", b"![](" + (b"data:image/png;base64,", b"DATA:image/png;base64,")[i % 2]
        + base64.b64encode(_png(a)) + b")"),
}  # fmt: skip


def _with_tail(image: Grey, hidden: bytes, *, is_compressed: bool) -> bytes:
    """Bytes after the last row of the pixels, or after the end of their compression."""
    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    stream = zlib.compress(rows + hidden) if is_compressed else zlib.compress(rows) + hidden
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream)
            + _chunk(b"IEND", b""))  # fmt: skip


def _palette(image: Grey) -> bytes:
    """The image in the indices of a palette that is all black."""
    shown = Image.fromarray(image)
    shown.putpalette([0, 0, 0] * 256)
    file = io.BytesIO()
    shown.save(file, "PNG")
    return file.getvalue()
