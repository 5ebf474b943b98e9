"""Cache features on disk, so that no image passes a slow network twice.

A network has a folder. Every call that met new images leaves one shard in it, a safetensors file
named by its contents: `digests` (n, 32) uint8, the SHA-256 of each image's pixels and shape;
`features` (n, D); `checksums` (n,) uint32, CRC-32 of digest and features. Shards are written whole
and never changed, so processes share a folder without locks. The digests of all shards are read
once; features only when they are needed. A shard that is damaged is removed, and what was in it
computed again: a cache may cost time, never an evaluation.
"""

import hashlib
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from echodiff.files import PARTIAL_PREFIX, written_beside

FORMAT = "features-1"
"""Part of every key: a change of the layout, or of what is hashed, makes a new folder."""
_DAMAGE = (OSError, SafetensorError, KeyError, ValueError, TypeError)

Compute = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]


class _Place(NamedTuple):
    shard: Path
    row: int
    checksum: int


class FeatureCache:
    """Features of one network in one folder, which need not exist yet."""

    def __init__(self, folder: Path, num_features: int) -> None:
        self.folder = folder
        self.num_features = num_features
        self._places: dict[bytes, _Place] | None = None
        self._is_writable = True

    def embed(
        self, images_u8: Sequence[NDArray[np.uint8]], compute: Compute
    ) -> NDArray[np.float64]:
        """Features (N, D) of grey images (H, W), N >= 1; `compute` sees each new one once."""
        digests = [digest_pixels(image) for image in images_u8]
        rows = self._read(digests)
        new = {
            digest: image
            for digest, image in zip(digests, images_u8, strict=True)
            if digest not in rows
        }
        if new:
            features = compute(list(new.values()))
            self._write(list(new), features)
            rows.update(zip(new, features, strict=True))
        return np.stack([rows[digest] for digest in digests])

    def _read(self, digests: Sequence[bytes]) -> dict[bytes, NDArray[np.float64]]:
        """Return what is cached of the given images."""
        if self._places is None:
            self._places = {}
            for shard in sorted(self.folder.glob("*.safetensors")):
                if not shard.name.startswith(PARTIAL_PREFIX):
                    self._places |= self._read_places(shard)
        wanted: dict[Path, dict[bytes, _Place]] = defaultdict(dict)
        for digest in digests:
            if place := self._places.get(digest):
                wanted[place.shard][digest] = place
        rows: dict[bytes, NDArray[np.float64]] = {}
        for shard, places in wanted.items():
            try:
                rows |= _read_rows(shard, places)
            except _DAMAGE:
                self._forget(shard)
        return rows

    def _read_places(self, shard: Path) -> dict[bytes, _Place]:
        try:
            with safe_open(shard, framework="numpy") as file:
                digests, checksums = file.get_tensor("digests"), file.get_tensor("checksums")
                shape = file.get_slice("features").get_shape()
            num = len(checksums)
            if digests.shape != (num, 32) or shape != [num, self.num_features]:
                raise ValueError(f"{shard}: not a shard of {self.num_features} features")
        except _DAMAGE:
            _remove(shard)
            return {}
        return {
            digest.tobytes(): _Place(shard, row, int(checksum))
            for row, (digest, checksum) in enumerate(zip(digests, checksums, strict=True))
        }

    def _forget(self, shard: Path) -> None:
        """Leave out a shard that was damaged, or that another process removed."""
        _remove(shard)
        assert self._places is not None
        self._places = {
            digest: place for digest, place in self._places.items() if place.shard != shard
        }

    def _write(self, digests: list[bytes], features: NDArray[np.float64]) -> None:
        assert self._places is not None
        if not self._is_writable:
            return
        # Networks compute in float32; only lossless values are kept as float16.
        narrow = features.astype(np.float32)
        stored = narrow if np.array_equal(narrow, features) else features
        checksums = [_checksum(*pair) for pair in zip(digests, stored, strict=True)]
        joined = b"".join(digests)
        shard = self.folder / f"{hashlib.sha256(joined).hexdigest()[:32]}.safetensors"
        tensors = {
            "digests": np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32),
            "features": np.ascontiguousarray(stored),
            "checksums": np.array(checksums, dtype=np.uint32),
        }
        try:
            with written_beside(shard) as partial:
                save_file(tensors, partial)
        except (OSError, SafetensorError) as error:
            self._is_writable = False
            sys.stderr.write(f"{self.folder}: features are not kept ({error})\n")
            return
        for row, (digest, checksum) in enumerate(zip(digests, checksums, strict=True)):
            self._places[digest] = _Place(shard, row, checksum)


def digest_pixels(image_u8: NDArray[np.uint8]) -> bytes:
    """SHA-256 over the shape and the pixels of an image."""
    digest = hashlib.sha256(str(image_u8.shape).encode())
    digest.update(image_u8.tobytes())
    return digest.digest()


def _remove(shard: Path) -> None:
    with suppress(OSError):
        shard.unlink(missing_ok=True)


def _read_rows(shard: Path, places: dict[bytes, _Place]) -> dict[bytes, NDArray[np.float64]]:
    with safe_open(shard, framework="numpy") as file:
        features = file.get_slice("features")
        rows = {digest: features[place.row : place.row + 1][0] for digest, place in places.items()}
    for digest, row in rows.items():
        if _checksum(digest, row) != places[digest].checksum:
            raise ValueError(f"{shard}: damaged")
    return {digest: row.astype(np.float64) for digest, row in rows.items()}


def _checksum(digest: bytes, row: NDArray[np.floating]) -> int:
    return zlib.crc32(row.tobytes(), zlib.crc32(digest))
