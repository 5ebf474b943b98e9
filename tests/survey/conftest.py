"""Frames of small hearts from three scanners, two of which are trained on."""

import numpy as np
import pytest

from echodiff.frames.reader import load_frames
from echodiff.images import read_gray_u8, write_image

GAMMAS = {"canon": 1.0, "ge": 0.6, "siemens": 1.6}
"""Exponent of the grey levels of each."""
NUM_TRAIN, NUM_TEST = 3, 2
"""Patients of each vendor, with two frames."""


@pytest.fixture(scope="session")
def write_scans(hearts):
    """`write_scans(folder)`: ED and ES of five patients of each vendor."""

    def write(out, vendors=tuple(GAMMAS)):
        count = 2 * (NUM_TRAIN + NUM_TEST)
        splits = ["train"] * 2 * NUM_TRAIN + ["test"] * 2 * NUM_TEST
        hearts(
            out, count * len(vendors), split=splits, view="SAX", modality="mr", spacing_mm=1.5,
            vendor=[vendor for vendor in vendors for _ in range(count)],
        )  # fmt: skip
        for row in load_frames(out):
            image = read_gray_u8(out / row.file_name) / 255
            path = out / row.file_name
            write_image(path, (255 * image ** GAMMAS[row.vendor]).astype(np.uint8))
        return out

    return write
