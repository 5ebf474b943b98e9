"""Rows of numbers in one file: each process writes some of them, and maps all of them to read.

The file is memory-mapped; the page cache is shared by all processes. A resumed run finds the rows
that were written.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.files import written_beside


class RowFile:
    """`num_rows` rows of `shape`, float32, in the `.npy` file `path`.

    A row that was never written is zero. One whose writing was cut off is zero at its end, so a row
    counts as written when its last value is not zero.
    """

    def __init__(self, path: Path, num_rows: int, shape: Sequence[int]) -> None:
        self.path, self.shape = path, (num_rows, *shape)

    def create(self) -> None:
        """Create the file without any row; an existing file of this shape is kept."""
        with suppress(OSError, ValueError):
            if self._map().shape == self.shape:
                return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(self.path) as partial:
            header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
            with partial.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + 4 * int(np.prod(self.shape)))

    def missing(self) -> list[int]:
        """Return the rows that were not written, or not completely."""
        last = self._map().reshape(self.shape[0], -1)[:, -1]
        return [int(row) for row in np.flatnonzero(last == 0)]

    def write(self, row: int, values: torch.Tensor) -> None:
        """Write one row, not through the mapping, so that a full disk is an OSError."""
        assert values.shape == self.shape[1:], (values.shape, self.shape)
        content = np.ascontiguousarray(values.cpu().numpy(), dtype="<f4").tobytes()
        with self.path.open("r+b") as file:
            file.seek((row - self.shape[0]) * len(content), os.SEEK_END)
            file.write(content)

    def read(self) -> torch.Tensor:
        """Map all rows: they are loaded when read, and changes are not written to the file."""
        return torch.from_numpy(self._map())

    def _map(self) -> NDArray[np.float32]:
        return np.load(self.path, mmap_mode="c", allow_pickle=False)
