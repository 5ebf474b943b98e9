"""Search a set of images for those most similar to a query, in whole or in part.

Candidates are found by low-frequency descriptors, in the eight symmetries, inverted or not. Each
candidate is then aligned and its grain is compared (`alignment`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echodiff.images import resize_u8
from echodiff.metrics.likeness import windows as parts
from echodiff.metrics.likeness.alignment import MARGIN, PARTNER_PX, QUERY_PX, align, refine
from echodiff.metrics.likeness.windows import SYMMETRIES, WHOLE, Symmetry, Window

T = TypeVar("T")

KEPT_PX = 192
"""Longest side of the copy that is kept of each image, pixels."""
LARGEST_PX = 1024
"""Longest side of a query, pixels; larger ones are reduced."""
_QUERIES_AT_ONCE = 128
_MEMBERS_AT_ONCE = 64
_ALIGNED_AT_ONCE = 256
_REFINED = 5
"""Candidates per query whose grain is compared."""


class Match(NamedTuple):
    """The image of the gallery that is most similar to a query."""

    score: float
    """0 to 1, see `alignment.refine`."""
    place: int
    """Index of the image in the gallery; -1 if nothing could be compared."""


class _Comparison(NamedTuple):
    """Windows of a query that are compared with windows of the gallery's images."""

    queries: tuple[Window, ...]
    members: tuple[Window, ...]
    num_candidates: int
    """Images of the gallery that become candidates."""


class _Candidate(NamedTuple):
    query: int
    place: int
    query_window: Window
    member_window: Window
    symmetry: Symmetry
    """Maps the query's window onto the other."""
    sign: float
    """-1: the query is inverted."""


class _Queries(NamedTuple):
    """Descriptors of some queries."""

    contents: list[Window]
    turned: list[Tensor]
    """For each comparison (Q, W * 8, 43): every window in the eight symmetries."""
    tiles: list[tuple[Window, ...]]
    tiled: list[Tensor]
    """For each query (T, 43)."""

    @classmethod
    def describe(cls, images: Sequence[NDArray[np.uint8]]) -> Self:
        thumbnails = torch.stack([_thumbnail(image, WHOLE) for image in images])
        contents = [parts.find_content(image) for image in images]
        trimmed = [_thumbnail(i, w) for i, w in zip(images, contents, strict=True)]
        described = [parts.describe_windows(thumbnails, one.queries) for one in _COMPARISONS]
        content = parts.describe_windows(torch.stack(trimmed), (WHOLE,))
        described[0] = torch.cat([described[0], content], 1)
        tiles = [parts.list_tiles(image) for image in images]
        tiled = [_describe_tiles(image, some) for image, some in zip(images, tiles, strict=True)]
        return cls(contents, [_turn(one) for one in described], tiles, tiled)


_CROPS = parts.list_crops()
_COMPARISONS = (
    _Comparison((WHOLE,), _CROPS, 30),
    _Comparison(
        parts.list_corners(),
        parts.list_crops(between=(0.75, 0.95)),
        2,
    ),
    _Comparison(parts.list_uncovered(), parts.list_uncovered(), 3),
)
_NUM_TILED = 2


class Gallery:
    """Images that queries are searched for in; about 70 kB of memory per image."""

    def __init__(self, images_u8: Iterable[NDArray[np.uint8]]) -> None:
        """images_u8: (H, W) each."""
        self._kept: list[NDArray[np.uint8]] = []
        self._contents: list[Window] = []
        whole, content = [], []
        for image in images_u8:
            small = _limit(image, KEPT_PX)
            self._kept.append(small)
            self._contents.append(parts.find_content(small))
            whole.append(_thumbnail(small, WHOLE))
            content.append(_thumbnail(small, self._contents[-1]))
        self._whole, self._content = torch.stack(whole), torch.stack(content)

    def __len__(self) -> int:
        return len(self._kept)

    def find_nearest(
        self,
        queries_u8: Iterable[NDArray[np.uint8]],
        excluded: Sequence[NDArray[np.bool_]] | None = None,
    ) -> Iterator[Match]:
        """Yield the most similar image for each query (H, W).

        excluded: for each query, which images of the gallery are left out, (N,) each.
        """
        start = 0
        for some in _batches(queries_u8, _QUERIES_AT_ONCE):
            images = [_limit(image, LARGEST_PX) for image in some]
            mask = None
            if excluded is not None:
                mask = torch.from_numpy(np.stack(excluded[start : start + len(images)]))
            yield from self._match(images, mask)
            start += len(images)

    def _match(self, images: list[NDArray[np.uint8]], excluded: Tensor | None) -> list[Match]:
        candidates = self._find_candidates(images, excluded)
        best = [Match(0.0, -1)] * len(images)
        aligned: dict[int, list[tuple[float, _Candidate, Tensor]]] = {}
        for some in _batches(candidates, _ALIGNED_AT_ONCE):
            maps, likeness = align(*self._cut(images, some))
            for candidate, one, value in zip(some, maps, likeness.tolist(), strict=True):
                aligned.setdefault(candidate.query, []).append((value, candidate, one))
        kept = [
            entry
            for of_query in aligned.values()
            for entry in sorted(of_query, key=lambda entry: -entry[0])[:_REFINED]
        ]
        for entries in _batches(kept, _ALIGNED_AT_ONCE):
            chosen = [candidate for _, candidate, _ in entries]
            maps = torch.stack([one for _, _, one in entries])
            scores = refine(*self._cut(images, chosen), maps)
            for candidate, score in zip(chosen, scores.tolist(), strict=True):
                best[candidate.query] = max(best[candidate.query], Match(score, candidate.place))
        return best

    def _cut(
        self, images: list[NDArray[np.uint8]], candidates: Sequence[_Candidate]
    ) -> tuple[Tensor, Tensor]:
        """Cut the queries (N, 96, 96), turned and inverted, and their partners (N, 125, 125)."""
        queries, partners = [], []
        for one in candidates:
            query = _sample(images[one.query], one.query_window, QUERY_PX)
            queries.append(np.ascontiguousarray(parts.turn(query, one.symmetry)) * one.sign)
            left, top, right, bottom = one.member_window
            wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
            window = Window(left - wide, top - high, right + wide, bottom + high)
            partners.append(_sample(self._kept[one.place], window, PARTNER_PX))
        return torch.from_numpy(np.stack(queries)), torch.from_numpy(np.stack(partners))

    # --- Candidates -------------------------------------------------------------------------------

    def _find_candidates(
        self, images: list[NDArray[np.uint8]], excluded: Tensor | None
    ) -> list[_Candidate]:
        """Find the images that match each query best in low frequencies, and their windows."""
        queries = _Queries.describe(images)
        best = self._compare(queries)
        if excluded is not None:
            best = best.masked_fill(excluded, -1)
        found = []
        for query in range(len(images)):
            for number, comparison in enumerate(_COMPARISONS):
                ours = [*comparison.queries, *([queries.contents[query]] if number == 0 else [])]
                for place in _largest(best[number, query], comparison.num_candidates):
                    theirs = self._describe(comparison, slice(place, place + 1))[0]
                    row, column, sign = _find_place(queries.turned[number][query], theirs)
                    window, symmetry = divmod(row, len(SYMMETRIES))
                    of_members = [*comparison.members, self._contents[place]]
                    found.append(_Candidate(query, place, ours[window], of_members[column],
                                            SYMMETRIES[symmetry], sign))  # fmt: skip
            if tiles := queries.tiles[query]:
                for place in _largest(best[-1, query], _NUM_TILED):
                    theirs = self._describe_tiled(slice(place, place + 1))[0]
                    row, column, sign = _find_place(queries.tiled[query], theirs)
                    part, symmetry = divmod(column, len(SYMMETRIES))
                    found.append(_Candidate(query, place, tiles[row],
                                            (WHOLE, self._contents[place])[part],
                                            _invert(SYMMETRIES[symmetry]), sign))  # fmt: skip
        return found

    def _compare(self, queries: _Queries) -> Tensor:
        """Best match of any two windows: (comparisons + tiles, queries, images)."""
        num_queries = len(queries.tiles)
        best = torch.zeros(len(_COMPARISONS) + 1, len(self), num_queries)
        for start in range(0, len(self), _MEMBERS_AT_ONCE):
            members = slice(start, start + _MEMBERS_AT_ONCE)
            for number, comparison in enumerate(_COMPARISONS):
                for place, theirs in enumerate(self._describe(comparison, members), start):
                    best[number, place] = _find_best(theirs[None], queries.turned[number])[0]
            tiled = self._describe_tiled(members)
            for query, ours in enumerate(queries.tiled):
                if len(ours):
                    best[-1, members, query] = _find_best(tiled, ours[None])[:, 0]
        return best.transpose(1, 2)

    def _describe(self, comparison: _Comparison, members: slice) -> Tensor:
        """Descriptors (n, P, 43) of the windows of each image, its content last."""
        found = parts.describe_windows(self._whole[members], comparison.members)
        content = parts.describe_windows(self._content[members], (WHOLE,))
        return parts.flatten(torch.cat([found, content], 1))

    def _describe_tiled(self, members: slice) -> Tensor:
        """Descriptors (n, 16, 43) of whole images and of their contents in the eight symmetries."""
        both = torch.cat(
            [
                parts.describe_windows(one[members], (WHOLE,))
                for one in (self._whole, self._content)
            ],
            1,
        )
        return _turn(both)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _describe_tiles(image: NDArray[np.uint8], tiles: tuple[Window, ...]) -> Tensor:
    """Describe the tiles of an image, (T, 43)."""
    if not tiles:
        return torch.zeros(0, parts.NUM_VALUES)
    small = torch.from_numpy(_limit(image, parts.SHEET_PX).astype(np.float32))
    return parts.flatten(parts.describe_windows(small[None], tiles)[0])


def _turn(descriptors: Tensor) -> Tensor:
    """Descriptors (N, W, 8, 8) in the eight symmetries: (N, W * 8, 43)."""
    return parts.flatten(parts.describe_turned(descriptors).flatten(1, 2))


def _find_best(members: Tensor, queries: Tensor) -> Tensor:
    """Best match of any two windows of (n, P, 43) and (Q, W, 43), inverted or not: (n, Q)."""
    products = (members.flatten(0, 1) @ queries.flatten(0, 1).T).abs_()
    best = products.view(len(members), -1, products.shape[1]).amax(1)
    return best.view(len(members), len(queries), -1).amax(2)


def _find_place(queries: Tensor, members: Tensor) -> tuple[int, int, float]:
    """Row and column of the best match of (W, 43) and (P, 43); -1 if one of them is inverted."""
    products = queries @ members.T
    row, column = divmod(int(products.abs().argmax()), products.shape[1])
    return row, column, float(products[row, column].sign())


def _largest(values: Tensor, num: int) -> list[int]:
    """Indices of the `num` largest values, without negative ones."""
    top = values.topk(min(num, len(values)))
    return [place for value, place in zip(*map(Tensor.tolist, top), strict=True) if value >= 0]


def _invert(symmetry: Symmetry) -> Symmetry:
    transposed, by_y, by_x = symmetry
    return Symmetry(transposed, by_x, by_y) if transposed else symmetry


def _limit(image: NDArray[np.uint8], largest_px: int) -> NDArray[np.uint8]:
    scale = min(1.0, largest_px / max(image.shape))
    height, width = (max(parts.FREQUENCIES, round(side * scale)) for side in image.shape)
    return resize_u8(image, (height, width))


def _thumbnail(image: NDArray[np.uint8], window: Window) -> Tensor:
    return torch.from_numpy(_sample(image, window, parts.THUMBNAIL_PX))


def _sample(image: NDArray[np.uint8], window: Window, size: int) -> NDArray[np.float32]:
    """(size, size) in 0..1."""
    return parts.sample_window(image, window, size) / np.float32(255)
