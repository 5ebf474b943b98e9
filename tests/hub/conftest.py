"""A hub on this machine, and a finished run with a scored set, both made once by real commands."""

import importlib.util
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from echodiff.__main__ import main
from echodiff.files import shipped
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.published import hash_images
from echodiff.runs import Run

BASE_CARD = "---\nlicense: creativeml-openrail-m\n---\nA toy in the place of SD 1.5.\n"


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look for themselves there
    spec.loader.exec_module(module)
    return module


hub_server = load_module(Path(__file__).parent / "hub_server.py")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_random_base: Path) -> Path:
    """A folder with `runs/ours`, a run on phantoms, and `generated/asd-1`, eight scored images;
    `generated/base-1` are those of the base alone. Run and set have an audit that passed."""
    place = tmp_path_factory.mktemp("finished")
    base = shutil.copytree(tiny_random_base, place / "base")
    (base / "README.md").write_text(BASE_CARD)
    (place / "two.txt").write_text("ASD, four chamber view\nLVH | guidance=2\n")
    run, drawn = place / "runs/ours", place / "generated/asd-1"
    train = [
        *("--base", str(base), "--threads", "1", "--phantom-frames", "12", "--max-steps", "2"),
        *("--sample-every", "0", "--checkpoint-every", "1", "--rank", "4", "--alpha", "8"),
        *("--learning-rate", "0.5", "--out", str(run)),
    ]
    draw = [
        *("--prompt-file", str(place / "two.txt"), "--weights", str(run), "--num-images", "8"),
        *("--steps", "2", "--features", "texture", "--out", str(drawn)),
    ]
    alone = [*draw, "--weights", "none", "--base", str(base), "--reference", str(run)]
    alone += ["--out", str(place / "generated/base-1")]
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for script, flags in (
            ("train_lora.py", train), ("generate.py", draw), ("generate.py", alone),
        ):  # fmt: skip
            forget_accelerate()
            load_module(shipped(script)).main(flags)
    forget_accelerate()
    write_audit(run, drawn)
    return place


def forget_accelerate() -> None:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def write_audit(run_dir: Path, folder: Path, **fields: Any) -> None:
    """The parts of a privacy.json that a push reads, as `echodiff audit` leaves them."""
    record = {
        "weights_sha256": Run.load(run_dir).record["weights_sha256"],
        "verdict": "Weights passed: nothing was found.",
        "passed": True,
        "sets": [{"sha256": hash_images(folder), "passed": True, "verdict": "passed: no copy."}],
    }
    (run_dir / "privacy.json").write_text(json.dumps(record | fields), encoding="utf-8")


@pytest.fixture
def audit() -> Callable[..., None]:
    """`audit(run_dir, folder, passed=False, ...)` writes an audit of a run and a set."""
    return write_audit


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with copies of the run and the set."""
    for name in ("runs", "generated"):
        shutil.copytree(finished / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    return tmp_path


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hub of our own, empty; at the end it must not have been asked for what it does not know."""
    from huggingface_hub.utils import close_session

    server = hub_server.Hub()
    server.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", hub_server.WRITE_TOKEN)
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(place / "hub-cache"),
        "HF_HUB_DISABLE_XET": True,  # its transfer is not HTTP of this kind
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    yield server
    close_session()
    server.stop()
    assert server.violations == []


@pytest.fixture
def push(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`push(*flags)` on `runs/ours` for jane/hearts -> exit status, stdout, stderr."""

    def run(*flags: str, run_dir: str = "runs/ours", repo: str = "jane/hearts") -> Any:
        argv = ["push", *([run_dir] if run_dir else []), "--repo", repo, *flags]
        status = main(argv)
        out, err = capsys.readouterr()
        sys.stdout.write(out + err)  # told where a test fails
        return status, out, err

    return run


SCORED = ("--generated", "generated/asd-1",
          "--base-model", "stable-diffusion-v1-5/stable-diffusion-v1-5")  # fmt: skip


@pytest.fixture
def scored() -> tuple[str, ...]:
    """Flags of a push that lacks an audit, and the scores of the base alone."""
    return SCORED


def edit_json(path: Path, **fields: Any) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(value | fields), encoding="utf-8")


@pytest.fixture
def edit() -> Callable[..., None]:
    """`edit(path, key=value)` sets fields of a JSON file."""
    return edit_json


@pytest.fixture
def with_card(place: Path) -> Callable[[str | None], Path]:
    """`with_card(text)`: the run's frames as a folder of their own, with that data card."""

    def make(card: str | None) -> Path:
        data = place / "frames"
        shutil.move(place / "runs/ours/frames", data)
        (data / "README.md").unlink(missing_ok=True)
        if card is not None:
            (data / "README.md").write_text(card, encoding="utf-8")
        hashes = hash_frames(data, load_frames(data))
        edit_json(place / "runs/ours/run.json", data_dir=str(data), frames=hashes)
        return data

    return make


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """`load_script("generate.py")`: a script of the clone as a module."""
    return lambda name: load_module(shipped(name))
