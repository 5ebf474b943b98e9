"""Windows and POSIX: what one of them lacks is asked for in `echodiff.system` alone."""

import ast
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echodiff.system import portable_name

ROOT = Path(__file__).parents[1]
SOURCES = [
    *(path for path in sorted((ROOT / "echodiff").rglob("*.py")) if path.name != "system.py"),
    ROOT / "train_lora.py",
    ROOT / "generate.py",
]
POSIX = {
    "os": {
        "fork", "forkpty", "fsync", "fdatasync", "sync", "getuid", "geteuid", "getgid", "getegid",
        "getpgid", "killpg", "setsid", "setpgrp", "sched_getaffinity", "sched_setaffinity", "wait3",
        "wait4", "mkfifo", "mknod", "statvfs", "chown", "chroot", "uname", "getloadavg", "nice",
        "symlink", "link", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "pwrite",
        "sysconf", "ttyname", "umask", "fchmod", "fchown", "O_DIRECTORY", "O_NOFOLLOW", "cpu_count",
    },
    "signal": {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "alarm",
               "pause", "setitimer", "sigwait", "pthread_kill"},
    "time": {"tzset", "clock_gettime"},
}  # fmt: skip
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog", "posix", "msvcrt",
           "winreg", "_winapi"}  # fmt: skip


def find_faults(source: str) -> list[str]:
    """What Windows has not got, and text files without encoding or line end, in a module."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in POSIX.get(node.value.id, ()):
                faults.append(f"{node.lineno}: {node.value.id}.{node.attr}")
        elif isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            faults += [f"{node.lineno}: import {name}" for name in sorted(names & MODULES)]
        elif isinstance(node, ast.ImportFrom):
            taken = POSIX.get(node.module or "", set()) & {alias.name for alias in node.names}
            faults += [f"{node.lineno}: {node.module}.{name}" for name in sorted(taken)]
            if (node.module or "").partition(".")[0] in MODULES:
                faults.append(f"{node.lineno}: from {node.module}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith(("/dev/", "/proc/", "/tmp/")):
                faults.append(f"{node.lineno}: {node.value}")
        elif isinstance(node, ast.Call):
            faults += [f"{node.lineno}: {text}" for text in find_text_faults(node)]
    return faults


def find_text_faults(call: ast.Call) -> list[str]:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg for keyword in call.keywords}
    words = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    if name == "get_context" and {"fork", "forkserver"} & set(words):
        return ["a context that forks"]
    if name == "read_text" and not call.args and "encoding" not in given:
        return ["read_text without encoding"]
    if name == "write_text" and not {"encoding", "newline"} <= given:
        return ["write_text without encoding and newline"]
    if name == "open":
        modes = [word for word in words if isinstance(word, str) and set(word) <= set("rwaxbt+")]
        is_builtin = isinstance(call.func, ast.Name)
        if any("b" not in mode for mode in modes) or (not modes and (is_builtin or not call.args)):
            is_written = any(set(mode) & set("wax") for mode in modes)
            wanted = {"encoding", "newline"} if is_written else {"encoding"}
            return [] if wanted <= given else [f"open without {' and '.join(sorted(wanted))}"]
    return []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_asks_for_nothing_that_one_system_alone_has(path):
    assert find_faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import os\nos.sched_getaffinity(0)",
        "import signal\nos.kill(1, signal.SIGKILL)",
        "def peak():\n    import resource",
        "from fcntl import flock",
        "get_context('fork')",
        "open('/dev/null', 'wb')",
        "open(path)",
        "path.open('w', encoding='utf-8')",
        "path.read_text()",
        "path.write_text(text, encoding='utf-8')",
    ],
)
def test_the_search_finds_each_kind(line):
    assert len(find_faults(line)) == 1


@pytest.fixture
def windows(monkeypatch):
    """As far as this machine can play it: what Windows lacks is gone, it syncs what it can write,
    and deletes no mapped file."""
    fcntl = pytest.importorskip("fcntl")
    import shutil

    import torch.distributed  # noqa: F401  (loaded before its own imports are out of reach)

    real_fsync, real_rmtree = os.fsync, shutil.rmtree

    def fsync(handle):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        real_fsync(handle)

    def rmtree(path, ignore_errors=False, **options):
        maps = Path("/proc/self/maps")
        if maps.is_file() and f"{Path(path).resolve()}{os.sep}" in maps.read_text():
            if ignore_errors:
                return
            raise PermissionError(13, "The process cannot access the file", str(path))
        real_rmtree(path, ignore_errors=ignore_errors, **options)

    for name in ("fork", "sched_getaffinity", "wait4", "getuid", "statvfs"):
        monkeypatch.delattr(os, name, raising=False)
    for name in ("SIGKILL", "SIGHUP"):  # SIGALRM is what pytest-timeout needs
        monkeypatch.delattr(signal, name, raising=False)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])


def test_a_run_stops_goes_on_and_cleans_up(windows, train_lora, make_frames, tmp_path, caplog):
    flags = ["--data", make_frames("frames"), "--batch-size", 2, "--checkpoint-every", 2,
             "--sample-every", 0, "--max-steps", 6, "--out", tmp_path / "run"]  # fmt: skip
    from echodiff.training import loop

    real = loop.save_checkpoint
    calls = []

    def stop_after_two(*args, **options):
        calls.append(real(*args, **options))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            train_lora(*flags)
    gc.collect()  # the traceback holds what the first run had mapped
    train_lora(*flags)
    assert (tmp_path / "run" / "pytorch_lora_weights.safetensors").is_file()
    assert not (tmp_path / "run" / "scratch").exists()
    assert "not removed" not in caplog.text
    for path in (tmp_path / "run").rglob("*"):
        assert path.name == portable_name(path.name)


@pytest.mark.parametrize("encoding", ["cp1251", "cp866", "ascii"])
def test_a_console_without_a_character_shows_another(encoding):
    code = (
        "import sys\nfrom echodiff.settings.command_line import run_main\n"
        "sys.exit(run_main(lambda: print('MMD\\u00b2 \\u00d7 \\u2192'), 'x'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"MMD")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("patient-1_ED", "patient-1_ED"),
        ("a:b", "a-3ab"),
        ('what?"<>|*', "what-3f-22-3c-3e-7c-2a"),
        ("con", "con_"),
        ("Aux.png", "Aux_.png"),
        ("com1.2.png", "com1_.2.png"),
        ("console", "console"),
        ("ends.", "ends-2e"),
        ("ends ", "ends-20"),
        ("сердце", "сердце"),
    ],
)
def test_names_that_windows_has_not(name, expected):
    assert portable_name(name) == expected


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made there")
def test_prepared_frames_can_be_copied_to_windows(tmp_path, capsys):
    import numpy as np
    from PIL import Image

    from echodiff.__main__ import main
    from echodiff.frames.reader import load_frames

    (tmp_path / "export").mkdir()
    noise = np.random.default_rng(0)
    for name in ("p1:a", "con", "p2?"):
        image = Image.fromarray(noise.integers(0, 255, (40, 40), dtype=np.uint8))
        image.save(tmp_path / "export" / f"{name}.png")
    argv = ["prepare", "folder", str(tmp_path / "export"), "--out", str(tmp_path / "frames"),
            "--patient-regex", "(.).*"]  # fmt: skip
    assert main(argv) == 0
    names = [Path(frame.file_name).name for frame in load_frames(tmp_path / "frames")]
    assert sorted(names) == ["con_.png", "p1-3aa.png", "p2-3f.png"]
