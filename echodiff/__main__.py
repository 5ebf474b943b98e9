"""The `echodiff` command: names the others, and loads only the one that was asked for."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from echodiff import __version__

COMMANDS = {
    "demo": ("echodiff.demo", "fine-tune, generate and score on embedded parts, then a report"),
    "phantom": ("echodiff.phantom.dataset", "simulate echo, MR and CT frames of a 3D heart"),
    "prepare": ("", "turn data sets, DICOM and 3D hearts into frames folders"),
    "check": (
        "echodiff.data.check.command",
        "is a frames folder sound, and without identifiers?",
    ),
    "train-gan": ("echodiff.gan.command", "learn a translation: CycleGAN, CUT, patch-cGAN, CNN"),
    "translate": ("echodiff.gan.translate", "run a trained generator over a frames folder"),
    "evaluate": ("echodiff.evaluate", "score a generated frames folder against a real one"),
    "push": ("echodiff.hub.push", "put weights or a generated set on a model hub; dry run first"),
    "pull": ("echodiff.hub.pull", "fetch them again, every file held against its hash"),
    "pretrain": ("echodiff.pretrain.command", "make the embedded base model and feature network"),
}
PREPARE = {
    "folder": ("echodiff.data.folder", "pictures, with masks and captions where there are some"),
    "unpaired": ("echodiff.data.unpaired", "trainA, trainB, testA, testB: two frames folders"),
    "echonet-dynamic": (
        "echodiff.data.echonet.dynamic",
        "adult A4C clips: ED and ES, or every k-th frame",
    ),
    "echonet-pediatric": ("echodiff.data.echonet.pediatric", "the same of children, A4C and PSAX"),
    "camus": ("echodiff.data.camus", "apical echo: ED and ES, or whole sequences, with masks"),
    "acdc": ("echodiff.data.mr.acdc", "cine MR: short-axis slices at ED and ES, with masks"),
    "mnms": ("echodiff.data.mr.mnms", "the same, of four makers"),
    "mesh": ("echodiff.data.mesh.command", "3D heart models: label slices and their pseudo images"),
    "dicom": (
        "echodiff.data.dicom.command",
        "ultrasound clips and MR series: grey, cropped, without identifiers",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 findings of a check, 2 bad input."""
    try:
        return dispatch(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        # The reader of our output went away, as in `echodiff --help | head -1`. Without a stream
        # there is nothing that Python would try to flush at exit.
        sys.stdout = None
        return 1


def dispatch(arguments: list[str]) -> int:
    """Find the command that the first words name, and hand it the others."""
    prog, commands = "echodiff", COMMANDS
    if arguments[:1] == ["--version"]:
        print(f"echodiff {__version__}")
        return 0
    if arguments[:1] == ["prepare"]:
        prog, commands = "echodiff prepare", PREPARE
        arguments.pop(0)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(overview(prog, commands), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name = arguments.pop(0)
    if name not in commands:
        close = difflib.get_close_matches(name, commands, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(commands)}"
        print(f"error: {prog} {name} is not a command; {hint}", file=sys.stderr)
        return 2

    from echodiff.settings.command_line import run_main

    prog, is_source = f"{prog} {name}", commands is PREPARE

    def run() -> int | None:
        # Imported here, so that run_main explains an optional package that is missing.
        module = importlib.import_module(commands[name][0])
        if is_source:
            from echodiff.data.preparation import prepare_source

            prepare_source(module.SOURCE, arguments, prog=prog)
            return 0
        status: int | None = module.main(arguments)
        return status

    return run_main(run, prog)


def overview(prog: str, commands: dict[str, tuple[str, str]]) -> str:
    """One line a command."""
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{text}" for name, (_, text) in commands.items()]
    after = [] if prog != "echodiff" else ["", "Training and sampling: train_lora.py, generate.py"]
    usage = f"usage: {prog} COMMAND ...   ({prog} COMMAND --help for its flags)"
    return "\n".join([usage, "", *lines, *after])


if __name__ == "__main__":
    sys.exit(main())
