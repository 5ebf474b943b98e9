"""Find duplicate images: exact ones by their pixels, near ones by a perceptual hash.

The hash is pHash, the signs of the low frequencies of a cosine transform. Its usual 64 bits
separate an ultrasound sector from a street, but not one sector from another, so echocardiograms
need more bits (`SIDE`) and a measured threshold (`RADIUS`).
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
"""Largest number of differing bits at which two images are near duplicates.

Measured on 219 CAMUS frames and on phantoms. Copies of a frame differ in at most 18 bits after JPEG
of quality 40, at 98 % or half the size, or with noise of 5 grey levels; in 36 if 30 grey levels
brighter, in 44 if 1.2 times as bright. Two patients differ in at least 140 bits in CAMUS and 112 in
2 million pairs of phantoms; with 100 times as many pairs the minimum falls by some 25 bits. With a
64-bit hash, both copies and two patients differ in 4 bits."""
_ROWS_AT_ONCE = 64

Sketch = NDArray[np.uint64]
"""The 576 bits of a perceptual hash, (9,)."""
Home = tuple[int, int]
"""Patient and split of a frame as numbers; -1 if unknown."""


class Duplicate(NamedTuple):
    """Two images that show the same, by their positions in the list."""

    later: int
    earlier: int
    distance: int
    """Number of bits of the perceptual hash that differ; 0 for equal pixels."""


def hash_pixels(image_u8: NDArray[np.uint8]) -> bytes:
    """Hash the size and the pixels of an image, regardless of its file format."""
    pixels = np.ascontiguousarray(image_u8)
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()


def sketch(gray_u8: NDArray[np.uint8]) -> Sketch | None:
    """Compute the perceptual hash of (H, W); None for a single grey level, where it is noise."""
    if np.ptp(gray_u8) == 0:
        return None
    import imagehash  # takes a fifth of a second, with PyWavelets

    bits = imagehash.phash(Image.fromarray(gray_u8), hash_size=SIDE, highfreq_factor=2).hash
    return np.packbits(bits).view(np.uint64)


def find_exact(digests: Sequence[bytes], homes: Sequence[Home]) -> Iterator[Duplicate]:
    """Yield every image with the pixels of an earlier one, preferably one of another home."""
    seen: dict[bytes, list[int]] = {}
    for later, digest in enumerate(digests):
        if not digest:
            continue
        earlier = seen.setdefault(digest, [])
        if earlier:
            apart = (place for place in earlier if are_apart(homes[later], homes[place]))
            yield Duplicate(later, next(apart, earlier[0]), 0)
        # One image per home is enough to compare with.
        if all(homes[place] != homes[later] for place in earlier):
            earlier.append(later)


def find_near(
    sketches: Sequence[Sketch | None], homes: Sequence[Home], radius: int = RADIUS
) -> Iterator[Duplicate]:
    """Yield every image that is similar to an earlier one of another home, with the most similar.

    All pairs are compared by XOR and bit count of 64-bit words, a block of rows at a time.
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
            yield Duplicate(places[later[place]], places[earlier[place]], int(distance[place]))


def are_apart(first: Home, second: Home) -> bool:
    """Whether two frames are known to have different patients or different splits."""
    return bool(_are_apart(np.array(first), np.array(second)))


def _are_apart(first: NDArray[np.int_], second: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Compare homes (..., 2); returns (...,)."""
    return np.asarray(((first != second) & (first >= 0) & (second >= 0)).any(axis=-1))
