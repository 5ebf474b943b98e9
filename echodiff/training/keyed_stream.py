"""Random numbers that nobody can compute without a key: those that a privacy guarantee rests on.

By SHAKE-256 (FIPS 202) of key, purpose and counter, so that a draw is still a function of its
step: a resumed run repeats it. `streams` gives numbers that anyone can repeat from the seed.
"""

import hashlib
import secrets
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.errors import InputError
from echodiff.files import written_beside

KEY_BYTES = 32
KEY_NAME = "noise_key.npy"


def open_key(folder: Path) -> bytes:
    """The key in `folder`; where there is none, one is drawn from the operating system and kept.

    The file is as secret as the noise: who has it can take the noise off the weights.
    """
    path = folder / KEY_NAME
    if path.is_file():
        key = np.load(path, allow_pickle=False).tobytes()
        if len(key) != KEY_BYTES:
            raise InputError(f"{path}: holds no key of {KEY_BYTES} bytes; --overwrite starts again")
        return key
    key = secrets.token_bytes(KEY_BYTES)
    folder.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as partial:
        partial.chmod(0o600)
        np.save(partial, np.frombuffer(key, np.uint8), allow_pickle=False)
    return key


def key_from_seed(seed: int) -> bytes:
    """A key that everybody who knows the seed has, too."""
    return hashlib.sha256(f"echodiff seeded noise {seed}".encode()).digest()


def fingerprint(key: bytes) -> str:
    """The first 16 hexadecimal digits of a hash of the key, which do not give it away."""
    return hashlib.sha256(b"echodiff fingerprint" + key).hexdigest()[:16]


def keyed_uniform(key: bytes, purpose: str, counter: int, count: int) -> NDArray[np.float64]:
    """Numbers (count,) between 0 and 1, both ends left out, with 53 random bits each."""
    message = key + hashlib.sha256(purpose.encode()).digest() + counter.to_bytes(8, "little")
    words = np.frombuffer(hashlib.shake_256(message).digest(8 * count), dtype="<u8")
    return (np.asarray(words >> 11, dtype=np.float64) + 0.5) * 2.0**-53


def keyed_normal(key: bytes, purpose: str, counter: int, count: int) -> torch.Tensor:
    """Standard normal numbers (count,), float64 on the CPU.

    Each is half the sum of four: the rounding of a single one can give away the value it was added
    to, that of four cannot within reach (Holohan and Braghin 2021, section 5.1).
    """
    uniform = torch.from_numpy(keyed_uniform(key, purpose, counter, 4 * count))
    return torch.special.ndtri(uniform).view(4, count).sum(dim=0) / 2


def keyed_generator(key: bytes, purpose: str, counter: int) -> np.random.Generator:
    """A generator of many numbers that need not be secret, only independent of each other."""
    message = key + hashlib.sha256(purpose.encode()).digest() + counter.to_bytes(8, "little")
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(hashlib.sha256(message).digest()[:16], "little"))
    )
