"""The `echodiff` command: list the commands, and load only the one that was typed."""

import difflib
import importlib
import runpy
import sys
import warnings
from collections.abc import Sequence

from echodiff import __version__

COMMANDS = {
    "demo": ("echodiff.demo", "fine-tune, generate and score with the embedded model; a report"),
    "phantom": ("echodiff.phantom.dataset", "simulate echo, MR and CT frames of a 3D heart"),
    "prepare": ("", "turn data sets, DICOM and 3D hearts into frames folders"),
    "check": ("echodiff.data.check.command", "validate a frames folder and look for identifiers"),
    "train-lora": ("train_lora.py", "fine-tune Stable Diffusion with a LoRA; also train_lora.py"),
    "train-controlnet": (
        "echodiff.diffusion.command",
        "train what makes images obey a label mask, in four kinds",
    ),
    "generate": ("generate.py", "generate images for a prompt file; also generate.py"),
    "train-gan": ("echodiff.gan.command", "train CycleGAN, CUT, patch-cGAN, a CNN or SRGAN"),
    "translate": ("echodiff.gan.translate", "run a trained generator over a frames folder"),
    "evaluate": ("echodiff.evaluate", "score generated frames against real ones"),
    "utility": (
        "echodiff.utility.command",
        "train segmentation with synthetic frames, test on real",
    ),
    "audit": (
        "echodiff.audit.command",
        "measure what weights and images tell of the training frames",
    ),
    "compare-generators": (
        "echodiff.survey.command",
        "GAN, VAE, diffusion, flow matching and ControlNet on the same frames",
    ),
    "study": ("", "blinded reader study: plan, serve, audit, export and analyse"),
    "push": ("echodiff.hub.push", "upload weights or generated images to a model hub"),
    "pull": ("echodiff.hub.pull", "download them, and verify every file by its hash"),
    "pretrain": ("echodiff.pretrain.command", "train the embedded base model and feature network"),
}
"""Module or script of each command, and one line of help."""
PREPARE = {
    "folder": ("echodiff.data.folder", "images, with masks and captions if there are any"),
    "dataset": (
        "echodiff.data.hub_dataset",
        "a data set of Hugging Face `datasets`, from a hub or saved to disk",
    ),
    "unpaired": ("echodiff.data.unpaired", "trainA, trainB, testA, testB: two frames folders"),
    "echonet-dynamic": (
        "echodiff.data.echonet.dynamic",
        "adult A4C clips: ED and ES, or every k-th frame",
    ),
    "echonet-pediatric": ("echodiff.data.echonet.pediatric", "clips of children, A4C and PSAX"),
    "camus": ("echodiff.data.camus", "apical echo: ED and ES, or whole sequences, with masks"),
    "acdc": ("echodiff.data.mr.acdc", "cine MR: short-axis slices at ED and ES, with masks"),
    "mnms": ("echodiff.data.mr.mnms", "like ACDC, four scanner vendors"),
    "mesh": ("echodiff.data.mesh.command", "3D heart models: label slices and their pseudo images"),
    "dicom": (
        "echodiff.data.dicom.command",
        "ultrasound clips and MR series: grey, cropped, without identifiers",
    ),
}
STUDY = {
    "demo": ("echodiff.study.demo", "run a whole study with simulated frames and readers"),
    "init": ("echodiff.study.init", "draw pools and sequences, and make all images equal"),
    "audit": ("echodiff.study.audit.command", "try to tell the source without the content"),
    "serve": ("echodiff.study.serve", "run the web application that readers rate in"),
    "invite": ("echodiff.study.invite", "make invitation links for readers or annotators"),
    "password": ("echodiff.study.password", "give the organiser a new password"),
    "export": ("echodiff.study.export", "write ratings and readers as CSV, JSON and Parquet"),
    "analyze": ("echodiff.study.analyze", "test, model and plot the ratings; a report"),
    "power": ("echodiff.study.power", "simulate how many readers and images a difference needs"),
}
"""Module of each command of the reader study, and one line of help."""
GROUPS = {"prepare": PREPARE, "study": STUDY}

LAUNCHED = (
    "On several GPUs: accelerate launch -m echodiff train-lora ..., and the same of generate."
)


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
    if arguments and arguments[0] in GROUPS:
        commands = GROUPS[arguments[0]]
        prog = f"echodiff {arguments.pop(0)}"
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

    (place, _), prog = commands[name], f"{prog} {name}"

    def run() -> int | None:
        # Imported here, so that run_main explains an optional package that is missing.
        if place.endswith(".py"):
            run_script(place, arguments, prog)
            return 0
        module = importlib.import_module(place)
        if commands is PREPARE:
            from echodiff.data.preparation import prepare_source

            prepare_source(module.SOURCE, arguments, prog=prog)
            return 0
        status: int | None = module.main(arguments)
        return status

    return run_main(run, prog)


def run_script(name: str, arguments: list[str], prog: str) -> None:
    """Run a script that ships with the package, in this process, as a command of this name."""
    from echodiff.files import shipped

    script = runpy.run_path(str(shipped(name)))
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # as generate.py does
        script["main"](arguments, prog=prog)


def overview(prog: str, commands: dict[str, tuple[str, str]]) -> str:
    """List the commands, one line each."""
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{text}" for name, (_, text) in commands.items()]
    after = [] if prog != "echodiff" else ["", LAUNCHED]
    usage = f"usage: {prog} COMMAND ...   ({prog} COMMAND --help for its flags)"
    return "\n".join([usage, "", *lines, *after])


if __name__ == "__main__":
    sys.exit(main())
