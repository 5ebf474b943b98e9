"""The training frame that an image is most like, after registration: what a generator repeats.

A generator gives a frame back as a whole, perhaps shifted, brighter or smoother. So a few
candidates of the same low frequencies are aligned as a whole, at a fraction of what `gallery`
costs, which also finds frames that a person has cropped, mirrored or put on a sheet.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echodiff.images import pad_square, resize_u8
from echodiff.metrics.likeness.alignment import MARGIN, PARTNER_PX, QUERY_PX, align, refine
from echodiff.metrics.likeness.gallery import Match
from echodiff.metrics.likeness.windows import WHOLE, Window, sample_window

NUM_CANDIDATES = 5
_COARSE_PX = 16
"""Side at which candidates are found."""
_AT_ONCE = 32
_PARTNER = Window(-MARGIN, -MARGIN, 1 + MARGIN, 1 + MARGIN)


class RegisteredFrames:
    """Frames that images are compared with; about 70 kB of memory each."""

    def __init__(self, frames_u8: Iterable[NDArray[np.uint8]]) -> None:
        """frames_u8: (H, W) each."""
        coarse, partners = [], []
        for frame in frames_u8:
            square = pad_square(frame)
            coarse.append(_shrink(square))
            partners.append(_sample(square, _PARTNER, PARTNER_PX))
        self._coarse = np.stack(coarse)
        self._partners = torch.from_numpy(np.stack(partners))

    def __len__(self) -> int:
        return len(self._coarse)

    def find_nearest(self, images_u8: Iterable[NDArray[np.uint8]]) -> Iterator[Match]:
        """Yield the frame of the highest likeness for each image (H, W)."""
        rest = iter(images_u8)
        while some := list(islice(rest, _AT_ONCE)):
            squares = [pad_square(image) for image in some]
            coarse = np.stack([_shrink(square) for square in squares])
            count = min(NUM_CANDIDATES, len(self))
            places = np.argsort(-(coarse @ self._coarse.T), axis=1)[:, :count]
            queries = torch.from_numpy(
                np.stack([_sample(square, WHOLE, QUERY_PX) for square in squares])
            ).repeat_interleave(count, 0)
            partners = self._partners[torch.from_numpy(places.reshape(-1).copy())]
            likeness = _compare(queries, partners).view(-1, count)
            best = likeness.max(dim=1)
            for row, (score, column) in enumerate(
                zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ):
                yield Match(score, int(places[row, column]))


def compare_all(images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Likeness (N, N) of every two images (H, W); 1 of an image and itself."""
    squares = [pad_square(image) for image in images_u8]
    found = np.eye(len(squares))
    rows, columns = np.triu_indices(len(squares), 1)
    if len(rows):
        queries = torch.from_numpy(np.stack([_sample(one, WHOLE, QUERY_PX) for one in squares]))
        partners = torch.from_numpy(
            np.stack([_sample(one, _PARTNER, PARTNER_PX) for one in squares])
        )
        likeness = _compare(queries[torch.from_numpy(rows)], partners[torch.from_numpy(columns)])
        found[rows, columns] = found[columns, rows] = likeness.numpy()
    return found


def _compare(queries: Tensor, partners: Tensor) -> Tensor:
    return refine(queries, partners, align(queries, partners).maps)


def _shrink(square: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Low frequencies as a vector of mean 0 and length 1: brightness and contrast play no part."""
    values = resize_u8(square, (_COARSE_PX, _COARSE_PX)).astype(np.float64).reshape(-1)
    values -= values.mean()
    length = float(np.linalg.norm(values))
    return values / (length if length > 0 else 1.0)


def _sample(square: NDArray[np.uint8], window: Window, size: int) -> NDArray[np.float32]:
    sampled: NDArray[np.float32] = sample_window(square, window, size) / np.float32(255)
    return sampled
