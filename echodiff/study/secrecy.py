"""Tokens and passwords: random, and stored as hashes alone."""

import base64
import hashlib
import hmac
import secrets

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
SCRYPT_MEMORY = 64 * 2**20
MIN_PASSWORD = 10


def new_token() -> str:
    """Random text of 256 bits for links and cookies."""
    return secrets.token_urlsafe(32)


def new_identifier() -> str:
    """Random text of 80 bits for readers and images' addresses."""
    return secrets.token_hex(10)


def new_password() -> str:
    """Random password of 100 bits that can be read aloud: five groups of four letters."""
    letters = "abcdefghijkmnopqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(5))


def hash_token(token: str) -> str:
    """SHA-256 of a random token; enough, as a token cannot be guessed."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_password(password: str) -> str:
    """scrypt hash with its parameters and a random salt."""
    salt, costs = secrets.token_bytes(16), (SCRYPT_N, SCRYPT_R, SCRYPT_P)
    parts = [base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt, *costs))]
    return "$".join(["scrypt", *map(str, costs), *parts])


def is_password(password: str, stored: str) -> bool:
    """Whether a password is the one of `hash_password`, compared in constant time."""
    _, n, r, p, salt, expected = stored.split("$")
    found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(expected))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=SCRYPT_MEMORY)
