"""Fit the sector of a scan: two straight edges from one apex, and an arc around it.

A scan converter draws a sector of a circle around a point. If an export stretched the pixels, the
circle is an ellipse. The fit ignores overlays that touch the tissue, such as an ECG across its
lower end, and dark tissue at the edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Points = NDArray[np.float64]
"""(N, 2): rows and columns."""
ASKED = 40
"""Number of points of which every pair is tried as the start of a line or an arc."""
LEAST_SUPPORT = 0.3
"""Least share of an edge's length along which tissue ends at the fitted line."""
NARROWEST, WIDEST = 0.25, 3.5
"""Limits of the sum of both slopes (columns per row): about 15 and 120 degrees."""
AS_GOOD = 0.95
"""A circle is preferred if this share of the points on the best ellipse lie on it."""
MOST_STRETCH = 2.0
"""Largest ratio of an arc's half axes."""
HIDDEN_PX = 4
"""Ends of tissue within this many pixels of hidden pixels are not used."""
LEAST_KNOWN = 0.1
"""Hidden points of an edge are left out if at least this share of its points is visible."""
MOST_OUTSIDE, LEAST_INSIDE = 0.12, 0.5
"""Largest share of the tissue outside a fan, and least share of the fan that is tissue."""
VISIBLE, STEP_PX = 8, 4
"""Least step between tissue and screen at an edge (grey levels), and the pixels averaged for it."""
MOST_BEYOND = 0.003
"""Largest share of the tissue beyond a straight side that cuts the fan."""
CUT_SIDE, CUT_FOOT = 0.05, 0.25
"""Least length of such a side, as a share of the height and of the width of the fan."""


@dataclass(frozen=True, kw_only=True)
class Fan:
    """A sector in pixel centres; an edge is `x = offset + slope * y`."""

    left: tuple[float, float]
    """Offset and slope."""
    right: tuple[float, float]
    axes: tuple[float, float]
    """Half axes of the lower arc around the apex: down and across."""
    near: float
    """Radius where the scan begins, as a share of the lower arc's."""
    top: float
    """First row; then last row, first and last column."""
    bottom: float
    first: float
    last: float

    @property
    def apex(self) -> tuple[float, float]:
        """Row and column where the edges meet."""
        row = (self.right[0] - self.left[0]) / (self.left[1] - self.right[1])
        return row, self.left[0] + self.left[1] * row

    def fill(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask (H, W) of the pixels whose centre lies in the sector."""
        y, x = np.ogrid[: shape[0], : shape[1]]
        row, column = self.apex
        distance = ((y - row) / self.axes[0]) ** 2 + ((x - column) / self.axes[1]) ** 2
        inside = (x >= self.left[0] + self.left[1] * y) & (x <= self.right[0] + self.right[1] * y)
        inside &= (distance <= 1) & (distance >= self.near**2)
        inside &= (y >= max(self.top, row)) & (y <= self.bottom)
        return np.asarray(inside & (x >= self.first) & (x <= self.last))

    def scaled(self, factor: float) -> "Fan":
        """Return the same fan in an image that is `factor` times as large."""

        def place(at: float) -> float:
            return (at + 0.5) * factor - 0.5

        def edge(line: tuple[float, float]) -> tuple[float, float]:
            return place(line[0]) + line[1] * (0.5 - 0.5 * factor), line[1]

        return Fan(
            left=edge(self.left), right=edge(self.right), near=self.near,
            axes=(self.axes[0] * factor, self.axes[1] * factor),
            top=place(self.top), bottom=place(self.bottom),
            first=place(self.first), last=place(self.last),
        )  # fmt: skip


def fit_fan(
    tissue: NDArray[np.bool_], hidden: NDArray[np.bool_], tolerance: float = 1.5
) -> Fan | None:
    """Fit a fan to a mask of tissue (H, W); None if the tissue does not have that shape.

    hidden: pixels of which it is unknown whether they are tissue. tolerance: largest distance
    (pixels) of a point from the line that it supports.
    """
    rows = np.flatnonzero(tissue.any(axis=1))
    columns = np.flatnonzero(tissue.any(axis=0))
    if len(rows) < 16 or len(columns) < 16:
        return None
    first = tissue[rows].argmax(axis=1)
    last = tissue.shape[1] - 1 - tissue[rows, ::-1].argmax(axis=1)
    lowest = tissue.shape[0] - 1 - tissue[::-1, columns].argmax(axis=0)
    near_hidden = ndimage.binary_dilation(hidden, iterations=HIDDEN_PX)
    ends = [_known(y, x, near_hidden) for y, x in ((rows, first), (rows, last), (lowest, columns))]
    left, right = fit_edge(ends[0], -1, tolerance), fit_edge(ends[1], 1, tolerance)
    if left is None or right is None or not NARROWEST < right[1] - left[1] < WIDEST:
        return None
    fan = Fan(
        left=left, right=right, axes=(1.0, 1.0), near=0.0,
        top=float(rows[0]), bottom=np.inf, first=-np.inf, last=np.inf,
    )  # fmt: skip
    axes = fit_arc(ends[2], fan, tolerance)
    if axes is None:
        return None
    fan = cut_sides(replace(fan, axes=axes), tissue & ~near_hidden, ends)
    fan = replace(fan, near=find_near(fan, tissue))
    inside = fan.fill((tissue.shape[0], tissue.shape[1]))
    both = tissue & inside
    upper = slice(rows[0], rows[0] + len(rows) // 4)  # hollow if two sectors are side by side
    is_full = both[upper].sum() >= LEAST_INSIDE * inside[upper].sum()
    is_full &= both.sum() >= LEAST_INSIDE * inside.sum()
    return fan if is_full and both.sum() >= (1 - MOST_OUTSIDE) * tissue.sum() else None


def sharpen_fan(fan: Fan, grey: NDArray[np.uint8], hidden: NDArray[np.bool_], reach: int) -> Fan:
    """Move the edges of a fan to where the image (H, W) meets the grey of the screen.

    Edges move by at most `reach` pixels; an edge that is not visible, or is `hidden`, stays.
    """
    row, column = fan.apex
    radius = min(fan.axes)
    places = np.linspace(0.25, 0.97, 240)
    edges: dict[str, tuple[float, float]] = {}
    for name, (offset, slope), side in (("left", fan.left, -1), ("right", fan.right, 1)):
        along = np.array([1, slope]) / np.hypot(1, slope)
        points = np.array([row, column]) + radius * places[:, None] * along
        normals = np.broadcast_to(
            np.array([-side * slope, side]) / np.hypot(1, slope), points.shape
        )
        found = fit_edge(find_ends(grey, hidden, points, normals, reach), side, 1.0)
        edges[name] = found or (offset, slope)
    fan = replace(fan, left=edges["left"], right=edges["right"])
    row, column = fan.apex
    rays = np.linspace(fan.left[1], fan.right[1], 402)[1:-1]
    down = 1 / np.hypot(1 / fan.axes[0], rays / fan.axes[1])
    points = np.stack([row + down, column + rays * down], 1)
    normals = np.stack([down / fan.axes[0] ** 2, rays * down / fan.axes[1] ** 2], 1)
    normals /= np.hypot(*normals.T)[:, None]
    inside = (points[:, 0] < fan.bottom) & (points[:, 1] > fan.first) & (points[:, 1] < fan.last)
    ends = find_ends(grey, hidden, points[inside], normals[inside], reach)
    axes = fit_arc(ends, fan, 1.0) if len(ends) > 40 else None
    return fan if axes is None else replace(fan, axes=(axes[0] + 0.5, axes[1] + 0.5))


def find_ends(
    grey: NDArray[np.uint8],
    hidden: NDArray[np.bool_],
    points: Points,
    normals: Points,
    reach: int,
) -> Points:
    """Find where tissue ends along normals (N, 2) through points (N, 2), within `reach` pixels.

    Normals along which no end is visible, or something is hidden, are left out.
    """
    steps = np.arange(-reach - STEP_PX, reach + STEP_PX)
    y, x = (points[:, None] + steps[:, None] * normals[:, None]).transpose(2, 0, 1)
    values = ndimage.map_coordinates(grey.astype(np.float32), [y, x], order=1, mode="nearest")
    covered = ndimage.map_coordinates(hidden.astype(np.float32), [y, x], order=0, mode="nearest")
    screen = np.median(values[:, -STEP_PX:], axis=1, keepdims=True)
    means = ndimage.uniform_filter1d(np.abs(values - screen), STEP_PX, axis=1)[:, STEP_PX // 2 :]
    # Means inside minus means outside: a thin line next to the edge is not a step.
    falls = means[:, : -STEP_PX - STEP_PX // 2] - means[:, STEP_PX : -(STEP_PX // 2)]
    last = falls.argmax(axis=1)
    seen = (falls.max(axis=1) > VISIBLE) & ~covered.any(axis=1)
    ends = steps[last[seen] + STEP_PX]
    return np.asarray(points[seen] + ends[:, None] * normals[seen])


def fit_edge(points: Points, side: int, tolerance: float) -> tuple[float, float] | None:
    """Fit the straight edge on which most of the points lie; return offset and slope.

    side: -1 for the left edge, 1 for the right; few points lie beyond it on that side.
    """
    if len(points) < 16:
        return None
    y, x = points.T
    pairs = _pairs(points)
    span = y[pairs[:, 1]] - y[pairs[:, 0]]
    pairs = pairs[span >= 0.1 * np.ptp(y)]
    if not len(pairs):
        return None
    (y0, y1), (x0, x1) = y[pairs].T, x[pairs].T
    slopes = (x1 - x0) / (y1 - y0)
    beyond = side * (x - (x0 - slopes * y0)[:, None] - slopes[:, None] * y)
    best = _choose(beyond, tolerance * np.hypot(1, slopes)[:, None])
    for _ in range(3):
        slope, offset = np.polyfit(y[best], x[best], 1)
        near = np.abs(x - offset - slope * y) <= tolerance * np.hypot(1, slope)
        if near.sum() < 8:
            return None
        best = near
    if side * slope < 0.02 or best.sum() < LEAST_SUPPORT * (y[best].max() - y[best].min()):
        return None
    return float(offset), float(slope)


def fit_arc(points: Points, fan: Fan, tolerance: float) -> tuple[float, float] | None:
    """Fit the arc around the apex on which most points lie; return half axes (down, across)."""
    row, column = fan.apex
    y, x = points[:, 0] - row, points[:, 1] - column
    inside = (y > 0) & (x > 1.02 * fan.left[1] * y) & (x < 1.02 * fan.right[1] * y)
    y, x = y[inside], x[inside]
    if len(y) < 16:
        return None
    squares = np.stack([y**2, x**2], 1)
    pairs = _pairs(squares)
    pairs = pairs[np.abs(np.diff(x[pairs] ** 2, axis=1)[:, 0]) > 0.02 * np.ptp(x) ** 2]
    far = np.hypot(y, x)
    # A circle through every point, and an ellipse through every pair.
    radii = far[np.linspace(0, len(y) - 1, ASKED).astype(int)]
    circles = np.stack([radii**-2.0, radii**-2.0], 1)
    shapes = np.empty((0, 2))
    if len(pairs):
        systems = squares[pairs]
        good = np.abs(np.linalg.det(systems)) > 1e-6
        shapes = np.linalg.solve(systems[good], np.ones((good.sum(), 2, 1)))[..., 0]
        shapes = shapes[(shapes > 0).all(axis=1)]
        shapes = shapes[np.abs(np.log(shapes[:, 0] / shapes[:, 1])) < 2 * np.log(MOST_STRETCH)]
    found = [
        _choose((np.sqrt(squares @ some.T).T - 1) * far, np.full((len(some), 1), tolerance))
        for some in (circles, shapes)
        if len(some)
    ]
    is_circle = len(found) == 1 or found[0].sum() >= AS_GOOD * found[1].sum()
    best = found[0] if is_circle else found[1]
    for _ in range(3):
        axes = np.linalg.lstsq(squares[best], np.ones(best.sum()), rcond=None)[0]
        if is_circle or (axes <= 0).any():
            axes = np.repeat(float(np.mean(far[best])) ** -2.0, 2)
        best = np.abs((np.sqrt(squares @ axes) - 1) * far) <= tolerance
        if best.sum() < LEAST_SUPPORT * len(y):
            return None
    return float(axes[0] ** -0.5), float(axes[1] ** -0.5)


def cut_sides(fan: Fan, tissue: NDArray[np.bool_], ends: Sequence[Points]) -> Fan:
    """Cut the fan at the straight sides of an image area that ends within it."""
    sides = {"first": fan.first, "last": fan.last, "bottom": fan.bottom}
    rows, columns = np.nonzero(fan.fill((tissue.shape[0], tissue.shape[1])))
    for name, values, reach in (
        ("first", ends[0], columns.min()), ("last", ends[1], columns.max()),
        ("bottom", ends[2], rows.max()),
    ):  # fmt: skip
        y, x = values.T.astype(int)
        values = (y if name == "bottom" else x)[tissue[y, x]]
        counts = np.convolve(np.bincount(values, minlength=3), [1, 1, 1], mode="same")
        side = int(counts.argmax())
        beyond = side - reach if name == "first" else reach - side
        least = CUT_FOOT * np.ptp(columns) if name == "bottom" else CUT_SIDE * np.ptp(rows)
        parts = {"first": tissue[:, : max(0, side - 1)], "last": tissue[:, side + 2 :]}
        is_end = parts.get(name, tissue[side + 2 :]).sum() <= MOST_BEYOND * tissue.sum()
        if counts[side] > least and beyond > 2 and is_end:
            sides[name] = float(side)
    return replace(fan, first=sides["first"], last=sides["last"], bottom=sides["bottom"])


def find_near(fan: Fan, tissue: NDArray[np.bool_]) -> float:
    """Find the radius where tissue begins, as a share of the arc's; 0 if it is not an arc."""
    row, column = fan.apex
    y, x = np.nonzero(tissue & fan.fill((tissue.shape[0], tissue.shape[1])))
    ray = (x - column) / np.maximum(y - row, 1e-6)
    radius = np.hypot((y - row) / fan.axes[0], (x - column) / fan.axes[1])
    bins = np.digitize(ray, np.linspace(fan.left[1], fan.right[1], 26)) - 1
    begins = np.array([radius[bins == one].min() for one in range(3, 22) if (bins == one).any()])
    if len(begins) < 12:
        return 0.0
    start, spread = np.median(begins), np.subtract(*np.percentile(begins, [80, 20]))
    is_arc = start * fan.axes[0] > 8 and spread * fan.axes[0] < 3
    return float(np.percentile(begins, 20)) - 1 / fan.axes[0] if is_arc else 0.0


def _known(rows: NDArray[np.intp], columns: NDArray[np.intp], hidden: NDArray[np.bool_]) -> Points:
    """Return the points that are not hidden, or all points if those are too few."""
    points, known = np.stack([rows, columns], 1).astype(float), ~hidden[rows, columns]
    return points[known] if known.mean() > LEAST_KNOWN else points


def _choose(beyond: NDArray[np.float64], tolerance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the points on the best of (M, N) lines: many points on it, few beyond."""
    on = np.abs(beyond) <= tolerance
    score = on.sum(axis=1) - 0.5 * (beyond > tolerance).sum(axis=1)
    return np.asarray(on[int(score.argmax())])


def _pairs(points: Points) -> NDArray[np.intp]:
    """Return pairs of indices among evenly spaced points."""
    chosen = np.unique(np.linspace(0, len(points) - 1, ASKED).astype(np.intp))
    return np.array(list(combinations(chosen.tolist(), 2)), dtype=np.intp).reshape(-1, 2)
