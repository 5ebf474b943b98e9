"""Pictures that are there twice: pixel for pixel, or nearly so.

Near doubles are found by pHash, the signs of the low frequencies of a cosine transform. The usual
64 bits tell an ultrasound sector from a street, not one sector from another: echocardiograms need
more of them (`SIDE`), and a radius (`RADIUS`) that was measured.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 24
"""Frequencies along each axis: 576 bits."""
RADIUS = 60
"""Bits in which two pictures of one frame may differ. Measured on 219 CAMUS frames and on phantoms:
JPEG of quality 40, 98 % or half the size, noise of 5 grey levels: 18 at most; 30 grey levels
brighter 36, brightness times 1.2 44. Two patients: 140 and more in CAMUS, 112 and more in 2 million
pairs of phantoms, where a hundredfold of pairs takes some 25 bits off. Of 64 bits, one frame's
changes and two patients both differ in 4."""
_ROWS_AT_ONCE = 64

Sketch = NDArray[np.uint64]
"""(9,): the 576 bits of a perceptual hash."""
Home = tuple[int, int]
"""Patient and split of a frame as numbers; -1 where unknown."""


class Double(NamedTuple):
    """Two pictures, by their places in the list, that are one."""

    later: int
    earlier: int
    distance: int
    """Bits of the perceptual hash that differ; 0 for equal pixels too."""


def hash_pixels(image_u8: NDArray[np.uint8]) -> bytes:
    """Digest of size and pixels, whatever file they came from."""
    pixels = np.ascontiguousarray(image_u8)
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()


def sketch(gray_u8: NDArray[np.uint8]) -> Sketch | None:
    """(H, W) -> its perceptual hash; None for a picture of one grey level, which looks like any."""
    if np.ptp(gray_u8) == 0:
        return None
    import imagehash  # with PyWavelets a fifth of a second

    bits = imagehash.phash(Image.fromarray(gray_u8), hash_size=SIDE, highfreq_factor=2).hash
    return np.packbits(bits).view(np.uint64)


def find_exact(digests: Sequence[bytes], homes: Sequence[Home]) -> Iterator[Double]:
    """Every picture with the pixels of an earlier one, of another home where there is such."""
    seen: dict[bytes, list[int]] = {}
    for later, digest in enumerate(digests):
        if not digest:
            continue
        earlier = seen.setdefault(digest, [])
        if earlier:
            apart = (place for place in earlier if are_apart(homes[later], homes[place]))
            yield Double(later, next(apart, earlier[0]), 0)
        # One of every home is enough to compare with.
        if all(homes[place] != homes[later] for place in earlier):
            earlier.append(later)


def find_near(
    sketches: Sequence[Sketch | None], homes: Sequence[Home], radius: int = RADIUS
) -> Iterator[Double]:
    """Every picture that nearly repeats an earlier one of another home; the nearest such is named.

    All pairs are compared, some rows at a time: 64-bit XOR and bit count.
    """
    places = [place for place, one in enumerate(sketches) if one is not None]
    if len(places) < 2:
        return
    bits = np.stack([one for one in sketches if one is not None])
    home = np.array([homes[place] for place in places])
    for start in range(0, len(places), _ROWS_AT_ONCE):
        some = bits[start : start + _ROWS_AT_ONCE]
        end = start + len(some)
        distance = np.zeros((len(some), end), dtype=np.uint16)
        for word in range(bits.shape[1]):
            distance += np.bitwise_count(some[:, word, None] ^ bits[None, :end, word])
        later, earlier = np.nonzero(distance <= radius)
        distance, later = distance[later, earlier], later + start
        wanted = (earlier < later) & _are_apart(home[later], home[earlier])
        later, earlier, distance = later[wanted], earlier[wanted], distance[wanted]
        order = np.lexsort((distance, later))
        nearest = order[np.unique(later[order], return_index=True)[1]]
        for place in nearest.tolist():
            yield Double(places[later[place]], places[earlier[place]], int(distance[place]))


def are_apart(first: Home, second: Home) -> bool:
    """Whether two frames are known to be of two patients or in two splits."""
    return bool(_are_apart(np.array(first), np.array(second)))


def _are_apart(first: NDArray[np.int_], second: NDArray[np.int_]) -> NDArray[np.bool_]:
    """(..., 2) homes -> (...,)."""
    return np.asarray(((first != second) & (first >= 0) & (second >= 0)).any(axis=-1))
