"""Connection to a model hub: its address, and errors explained in one line."""

import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from urllib.parse import urlsplit

from echodiff.errors import InputError

_ANSWERS = {
    401: "the hub rejects the token: run `hf auth login`, or set HF_TOKEN",
    403: "this token has no permission: the name is another user's, or the token is read-only",
    404: "no such repository, or this token has no access to it",
    407: "the proxy needs a user and password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
    409: "the name is taken, or the repository changed in the meantime: run the command again",
    412: "the repository changed in the meantime: run the command again",
    413: "file too large for the hub",
    429: "too many requests to the hub: run the command again later, it resumes",
}


def endpoint() -> str | None:
    """Return the hub of HF_ENDPOINT as currently set; None for huggingface_hub's default."""
    given = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not given:
        return None
    split = urlsplit(given)
    if split.scheme not in ("http", "https") or not split.hostname:
        raise InputError(f"HF_ENDPOINT {given}: expected https://HOST or http://HOST:PORT")
    return given


@contextmanager
def told_in_one_line(name: str = "") -> Iterator[None]:
    """Turn errors of the hub's client into a one-line InputError that begins with `name`."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # hide its retries; the outcome is reported
    try:
        # Python's own error names neither the file nor the variable.
        certificates = os.environ.get("SSL_CERT_FILE")
        if certificates and not Path(certificates).is_file():
            raise InputError(f"SSL_CERT_FILE {certificates}: no such file: correct it, or unset it")
        endpoint()
        yield
    except InputError:
        raise
    except Exception as error:
        kinds = (OSError, ValueError, RuntimeError, ImportError)
        if not (isinstance(error, kinds) or _is_of_client(error, "HTTPError")):
            raise
        raise InputError(f"{name}: {_explain(error)}".removeprefix(": ")) from error
    finally:
        logging.set_verbosity(verbosity)


def _explain(error: BaseException) -> str:
    """Explain an error of the hub's client and how to fix it; disk errors are raised unchanged."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    told = _explain_answer(chain) or _explain_setting(chain) or _explain_network(chain)
    if told is not None:
        return told
    if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is not None):
        raise error  # an error of the disk, not of the hub
    if isinstance(error, RuntimeError) and len(chain) > 1:
        return f"{error} ({type(chain[-1]).__name__}: {' '.join(str(chain[-1]).split())})"
    return " ".join(str(error).split())


def _explain_answer(chain: Sequence[BaseException]) -> str | None:
    """Explain an error status in the hub's answer."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    for one in chain:
        if isinstance(one, RevisionNotFoundError):
            return "there is no such revision (404)"
        status = getattr(getattr(one, "response", None), "status_code", None)
        if status is None:
            continue
        if isinstance(one, RepositoryNotFoundError):
            status = 404  # the Hub answers 401 for repositories without access
        said = str(getattr(one, "server_message", None) or "").strip()
        if status >= 500:
            answer = "the hub failed: run the command again, it resumes"
        else:
            answer = _ANSWERS.get(status, "the hub refused")
        return f"{answer} ({status}{': ' if said else ''}{' '.join(said.split())})"
    return None


def _explain_setting(chain: Sequence[BaseException]) -> str | None:
    """Explain a setting in the environment that prevents requests to the hub."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    kinds = [type(one) for one in chain]
    text = " ".join(str(one) for one in chain)
    if any(issubclass(kind, OfflineModeIsEnabled) for kind in kinds):
        is_wanted = any(issubclass(kind, LocalEntryNotFoundError) for kind in kinds)
        cache = " and it is not in the cache" if is_wanted else ""
        return f"HF_HUB_OFFLINE is set{cache}: unset it to connect to the hub"
    if any(issubclass(kind, ImportError) for kind in kinds) and "SOCKS" in text:
        return (
            f"the proxy {_proxy()} needs a package: `pip install socksio`, "
            "or unset ALL_PROXY and HTTPS_PROXY"
        )
    if "scheme for proxy" in text:
        return f"the proxy {_proxy()} is not valid: HTTPS_PROXY has the form http://HOST:PORT"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            "its certificate is not trusted: set SSL_CERT_FILE to a file with the "
            "certificates of your network (REQUESTS_CA_BUNDLE is not read)"
        )
    if any(issubclass(kind, ssl.SSLError) for kind in kinds):
        return f"no encrypted connection ({text.split(chr(10))[0]}): is SSL_CERT_FILE right?"
    return None


def _explain_network(chain: Sequence[BaseException]) -> str | None:
    """Explain at which point the network failed."""
    proxy = _proxy()
    address = proxy or _hub()
    setting = "the proxy" if proxy else "HF_ENDPOINT"
    for one in reversed(chain):
        if isinstance(one, socket.gaierror):
            return (
                f"no host {urlsplit(address).hostname or address} is known: is this machine on a "
                f"network, and is {setting} right?"
            )
        if isinstance(one, ConnectionRefusedError):
            return f"nothing answers at {address}: is {setting} right?"
        if _is_of_client(one, "ProxyError"):
            return f"the proxy {proxy or ''} refuses ({' '.join(str(one).split())})"
        if _is_of_client(one, "UnsupportedProtocol"):
            return f"{address} is not the address of a hub: HF_ENDPOINT has the form https://HOST"
    for one in chain:
        if isinstance(one, ConnectionError) or _is_of_client(one, "HTTPError"):
            return f"the connection broke ({type(one).__name__}): run the command again, it resumes"
    return None


def _is_of_client(error: BaseException, name: str) -> bool:
    """Whether `error` is this class of httpx (huggingface_hub 1) or of httpx2 (2)."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] in ("httpx", "httpx2")
        for kind in type(error).__mro__
    )


def _hub() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or str(constants.ENDPOINT)


def _proxy() -> str | None:
    """Return the proxy used for the hub, without user and password."""
    split = urlsplit(_hub())
    proxies = urllib.request.getproxies()
    found = proxies.get(split.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(split.netloc):
        return None
    scheme, mark, rest = found.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
