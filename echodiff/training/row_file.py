"""Rows of numbers in one file: any process writes some of them, and each reads all of them mapped.

The file is memory-mapped; the page cache is shared by all processes. A resumed run finds the rows
that were written.
"""

import os
from collections.abc import Sequence
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
        """Make the file, with no row written; one of this shape that is there stays as it is."""
        if self._is_there():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(self.path) as partial:
            header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
            with partial.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + 4 * int(np.prod(self.shape)))

    def missing(self) -> list[int]:
        """Rows that were not written, or not to their end."""
        last = self._map().reshape(self.shape[0], -1)[:, -1]
        return [int(row) for row in np.flatnonzero(last == 0)]

    def write(self, row: int, values: torch.Tensor) -> None:
        """Write one row; a full disk is an OSError here, as through a mapping it would not be."""
        assert values.shape == self.shape[1:], (values.shape, self.shape)
        content = np.ascontiguousarray(values.cpu().numpy(), dtype="<f4").tobytes()
        with self.path.open("r+b") as file:
            file.seek((row - self.shape[0]) * len(content), os.SEEK_END)
            file.write(content)

    def read(self) -> torch.Tensor:
        """All rows, mapped: what is read of them is loaded then, and what is set stays private."""
        return torch.from_numpy(self._map())

    def _map(self) -> NDArray[np.float32]:
        return np.load(self.path, mmap_mode="c", allow_pickle=False)

    def _is_there(self) -> bool:
        try:
            return self._map().shape == self.shape
        except (OSError, ValueError):
            return False
