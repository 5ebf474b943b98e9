"""Start the networks of a translation from trained weights instead of random ones."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from echodiff.errors import InputError
from echodiff.fingerprints import compute_fingerprint, sha256_file
from echodiff.gan.names import find_forward
from echodiff.gan.weights import load_generator
from echodiff.runs import Run
from echodiff.training.checkpoints import check_finite
from echodiff.training.weight_files import open_safetensors


def start_from(nets: Mapping[str, nn.Module], path: Path | None) -> str:
    """Put the weights at `path` into `nets`; return their SHA-256, or "" where `path` is None.

    A finished run gives the weights of every network, discriminators too. A file, ours or a
    published one, gives those of the generator from source to target alone. Weights of other names
    or shapes are an InputError, and nothing is changed.
    """
    if path is None:
        return ""
    try:
        if not path.is_dir():
            return _start_generator(nets, path)
        run = Run.load(path)
        if run.record.get("command") != "train-gan":
            raise InputError(f"{path}: is no run of train-gan")
        if not run.is_finished:
            raise InputError(f"{path}: the run is not finished")
        return _start_all(nets, path)
    except InputError as error:
        raise InputError(f"--init-from {error}") from error


def _start_all(nets: Mapping[str, nn.Module], folder: Path) -> str:
    files = {name: folder / f"{name}.safetensors" for name in nets}
    found = {file.stem for file in folder.glob("*.safetensors")}
    if found != set(nets):
        raise InputError(
            f"{folder}: has the networks {', '.join(sorted(found))}, here they are "
            f"{', '.join(sorted(nets))}: give its --method"
        )
    states = {}
    for name, file in files.items():
        with open_safetensors(file) as opened:
            states[name] = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        _check_fits(nets[name], states[name], file)
    for name, state in states.items():
        nets[name].load_state_dict(state)
    return compute_fingerprint({name: sha256_file(file) for name, file in files.items()})


def _start_generator(nets: Mapping[str, nn.Module], file: Path) -> str:
    loaded = load_generator(file)
    net, state = nets[find_forward(nets)], loaded.net.state_dict()
    _check_fits(net, state, file)
    net.load_state_dict(state)
    return loaded.sha256


def _check_fits(net: nn.Module, state: Mapping, file: Path) -> None:
    """InputError where `state` is not one of `net`, or holds NaN or infinity."""
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    for key in sorted(wanted.keys() | state.keys()):
        there = tuple(state[key].shape) if key in state else "missing"
        here = wanted.get(key, "missing")
        if there != here:
            raise InputError(
                f"{file}: {key} is {there}, here it is {here}: give its --generator, --norm, "
                "--width and --channels"
            )
    check_finite(state.items(), file)
