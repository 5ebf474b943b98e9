"""What stands between this machine and the hub: one line that says what to do."""

import socket
import sys
import threading
from contextlib import contextmanager

import pytest

from echodiff.__main__ import main
from echodiff.diffusion.base import find_base
from echodiff.errors import InputError
from echodiff.settings.command_line import run_main

# huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No proxy of this machine, no waiting between tries, and a client that reads all anew."""
    from huggingface_hub.utils import close_session

    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    close_session()
    yield
    close_session()


@contextmanager
def proxy(answer):
    """A proxy that answers everything with one line; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def socks(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://jane:secret@127.0.0.1:9")


def no_names(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.hospital.example")


def environment(**values):
    return lambda monkeypatch: [monkeypatch.setenv(*item) for item in values.items()]


SETTINGS = {
    "SOCKS": (socks, "the proxy socks5://127.0.0.1:9 needs a package: `pip install socksio`"),
    "offline": (offline, "HF_HUB_OFFLINE is set"),
    "scheme": (environment(HF_ENDPOINT="ftp://hub.local"),
               "HF_ENDPOINT ftp://hub.local: expected https://HOST"),
    "no scheme": (environment(HF_ENDPOINT="hub.local"), "HF_ENDPOINT hub.local: expected"),
    "no host": (environment(HF_ENDPOINT="https://"), "HF_ENDPOINT https:: expected https://HOST"),
    "certificates": (environment(SSL_CERT_FILE="/nowhere/ca.pem"),
                     "SSL_CERT_FILE /nowhere/ca.pem: no such file: correct it, or unset it"),
    "proxy is down": (environment(HTTP_PROXY="http://127.0.0.1:9"),
                      "nothing answers at http://127.0.0.1:9: is the proxy right?"),
    "proxy of no kind": (environment(HTTP_PROXY="foo://x"), "the proxy foo://x is not valid"),
    "no names": (no_names, "no host hub.hospital.example is known"),
}  # fmt: skip


def check(err, said):
    errors = [line for line in err.splitlines() if "error:" in line]
    assert len(errors) == 1, err
    assert said in errors[0]
    assert "it resumes" not in err
    assert "Traceback" not in err
    assert "secret" not in err


@pytest.mark.parametrize("name", SETTINGS)
def test_push_says_what_to_do(push, hub, monkeypatch, name):
    change, said = SETTINGS[name]
    change(monkeypatch)
    status, out, err = push("--yes")
    assert status == 2
    check(err, said)
    assert hub.requests == []
    assert "pushed:" not in out


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("command", ["pull", "weights", "base"])
def test_what_is_fetched_says_what_to_do(
    hub, place, finished, monkeypatch, capsys, load_script, command, name
):
    change, said = SETTINGS[name]
    change(monkeypatch)
    if command == "pull":
        assert main(["pull", "jane/hearts"]) == 2
    elif command == "weights":
        script = load_script("generate.py")
        argv = ["--prompt-file", str(finished / "two.txt"), "--weights", "hub:jane/hearts",
                "--out", "drawn"]  # fmt: skip
        assert run_main(lambda: script.main(argv), "generate.py") == 2
    else:
        with pytest.raises(InputError) as caught:
            find_base("nobody/no-such-model")
        message = str(caught.value)
        assert message.startswith("--base nobody/no-such-model: ")
        capsys.readouterr()
        sys.stderr.write(f"error: {message}\n")
    check(capsys.readouterr().err, said)
    assert not (place / "drawn").exists()
    assert not (place / "runs/hearts").exists()


def test_a_proxy_that_refuses_is_named(push, hub, monkeypatch):
    with proxy("407 Proxy Authentication Required") as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        _, _, err = push("--yes")
        check(err, "the proxy needs a user and password")


def test_a_tunnel_that_is_refused_is_named(push, hub, monkeypatch):
    with proxy("403 Forbidden") as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.hospital.example")
        _, _, err = push("--yes")
        check(err, f"the proxy {address} refuses (403 Forbidden")


def test_a_certificate_that_is_not_trusted_is_named(push, hub, monkeypatch):
    import importlib
    import ssl

    from huggingface_hub.errors import HfHubHTTPError

    # httpx with huggingface_hub 1, httpx2 with 2.
    client = importlib.import_module(HfHubHTTPError.__mro__[1].__module__.partition(".")[0])

    def fail(*args, **kwargs):
        cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
        raise client.ConnectError(str(cause)) from cause

    monkeypatch.setattr(client.Client, "send", fail)
    _, _, err = push("--yes")
    check(err, "set SSL_CERT_FILE to a file with the certificates of your network")


def test_a_base_in_the_cache_needs_no_network(hub, place, monkeypatch, tiny_random_base):
    """What an earlier download left is used, whatever keeps the hub away now."""
    import shutil

    cache = place / "hub-cache" / "models--jane--base"
    shutil.copytree(tiny_random_base, cache / "snapshots" / ("0" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    for name in SETTINGS:
        with monkeypatch.context() as patched:
            SETTINGS[name][0](patched)
            find_base.__globals__["_download"].cache_clear()
            assert find_base("jane/base").name == "0" * 40
