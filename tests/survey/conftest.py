"""Frames of small hearts from three scanners, two of which are trained on."""

from pathlib import Path

import numpy as np
import pytest

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from tests.hearts import draw_heart

VENDORS = {"canon": 1.0, "ge": 0.6, "siemens": 1.6}
"""Exponent of the grey levels of each."""
HELD_OUT = "siemens"


def write_scans(out: Path, *, vendors=tuple(VENDORS), num_train=3, num_test=4, split=True) -> Path:
    """ED and ES of some patients of each vendor."""
    rng = np.random.default_rng(0)
    with FramesWriter(out) as writer:
        for vendor in vendors:
            for patient in range(num_train + num_test):
                for phase in ("ED", "ES"):
                    image, mask = draw_heart(rng, es=phase == "ES")
                    image = (255 * (image / 255) ** VENDORS[vendor]).astype(np.uint8)
                    frame = Frame(
                        file_name=f"{vendor}-{patient}-{phase}.png", text="short axis",
                        patient_id=f"{vendor}-{patient}", view="SAX", phase=phase,
                        vendor=vendor, modality="mr", spacing_mm=1.5,
                        split=("train" if patient < num_train else "test") if split else None,
                    )  # fmt: skip
                    writer.add(frame, image, mask)
    return out
