"""Find images whose size or grey levels are far from the others, with robust statistics."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from echodiff.data.check.faults import Fault
from echodiff.data.check.images import CheckedImage
from echodiff.frames.rows import Frame

MOST_ALIKE = 0.95
"""If at least this share of the images has one size, every other size is an outlier."""
FARTHEST = 6.0
"""Largest distance from the median that is not an outlier, in robust standard deviations."""
LEAST_SIDE_DEVIATION = 0.1
"""Smallest standard deviation of log2 of a side that is assumed for a set: 7 %."""
LEAST_LEVEL_DEVIATION = 3.0
"""Smallest standard deviation of mean and spread that is assumed, in grey levels."""
FEWEST = 20
"""Smallest number of images in which outliers are searched."""


def find_outliers(frames: Sequence[Frame], images: Sequence[CheckedImage]) -> Iterator[Fault]:
    """Find outliers of size in the whole set, and of brightness within each modality and vendor."""
    readable = [place for place, image in enumerate(images) if image.size is not None]
    yield from _find_size_outliers(
        [frames[place].file_name for place in readable],
        [images[place].size or (0, 0) for place in readable],
    )
    groups: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
    for place in readable:
        groups[frames[place].modality, frames[place].vendor].append(place)
    for places in groups.values():
        if len(places) >= FEWEST:
            yield from _find_range_outliers(
                [frames[place].file_name for place in places],
                np.array([[images[place].mean, images[place].spread] for place in places]),
            )


def measure_deviation(values: NDArray[np.floating], least: float) -> NDArray[np.float64]:
    """Return the signed distance of values (N,) from their median, in robust standard deviations.

    The robust standard deviation is 1.4826 times the median absolute deviation, which is the
    standard deviation for a normal distribution, and at least `least`.
    """
    middle = np.median(values)
    deviation = max(1.4826 * float(np.median(np.abs(values - middle))), least)
    return np.asarray((values - middle) / deviation, dtype=np.float64)


def _find_size_outliers(files: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Iterator[Fault]:
    if len(files) < FEWEST:
        return
    (usual, number) = Counter(sizes).most_common(1)[0]
    if number >= MOST_ALIKE * len(sizes):
        is_far = np.array([size != usual for size in sizes])
        others = f"{usual[1]}x{usual[0]}"
    else:
        logs = np.log2(np.array(sizes, dtype=np.float64))
        far = np.stack([measure_deviation(side, LEAST_SIDE_DEVIATION) for side in logs.T])
        is_far = np.asarray((np.abs(far) > FARTHEST).any(axis=0))
        height, width = np.median(np.array(sizes), axis=0)
        others = f"about {width:.0f}x{height:.0f}"
    for place in np.flatnonzero(is_far).tolist():
        height, width = sizes[place]
        yield Fault("size-outlier", files[place], f"is {width}x{height}, the others are {others}")


def _find_range_outliers(files: Sequence[str], levels: NDArray[np.float64]) -> Iterator[Fault]:
    for name, values in zip(("mean", "spread"), levels.T, strict=True):
        far = measure_deviation(values, LEAST_LEVEL_DEVIATION)
        for place in np.flatnonzero(np.abs(far) > FARTHEST).tolist():
            yield Fault(
                "range-outlier",
                files[place],
                f"{name} of the grey levels is {values[place]:.0f}, the median of the others "
                f"{np.median(values):.0f}",
            )
