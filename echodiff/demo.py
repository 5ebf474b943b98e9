"""`echodiff demo`: fine-tune, generate, score and report with the embedded model.

Phantom frames stand for a hospital whose scanner and findings the embedded base has not seen. The
demo runs the two scripts as a user does, then writes one page of gains. The training is launched as
a process; `generate.py` runs three times in this one, which imports what it needs meanwhile.
"""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.anatomy import Finding
from echodiff.captions.findings import findings_in
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.sampling.settings import FAST, GenerateConfig
from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import shipped, write_json_atomic, write_text_atomic
from echodiff.frames.maker import share_of_firsts
from echodiff.frames.reader import load_frames
from echodiff.report.demo_page import FIRSTS, gain_lines, write_demo_page
from echodiff.runs import RECORD, Run
from echodiff.settings.command_line import parse, save

PROG = "echodiff demo"
CONFIG = "demo.yaml"
FEATURES = ("tiny", "texture")

# accelerate prints a warning if these are missing. Quiet: the script reports its own errors, and
# the launcher would add a traceback.
LAUNCH = ("--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no",
          "--dynamo_backend", "no", "--quiet")  # fmt: skip

IMPORTED_MEANWHILE = (
    "echodiff.diffusion.sampling.drawing",
    "echodiff.evaluate",
    "echodiff.report.page",
)
"""Modules for generating and comparing, imported while the training starts."""

NUM_JUDGED = 16
"""Prompts that state a finding from which its share of images can be judged."""

RECORDS = {"run": RECORD, "base": "generate.json", "lora": "generate.json", "asd": "generate.json"}
"""Folder of each stage, and the record that its command writes there."""
STALE = {"status": "stale"}
"""In the record: marked by --overwrite and not yet run again."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Fine-tune the embedded base on simulated frames of a new hospital, and report the gains.

    Takes five to ten minutes on two cores. The same command resumes an unfinished demo.
    """

    out: Path = Path("echodiff-demo")
    """Folder for the run, three sets of images, and report.html."""
    seed: int = 0
    """Random seed of the frames, the training and the images (0 or more)."""
    num_images: int = 80
    """Number of images by the base model and by the LoRA, each (8 or more; at most one per
    held-out frame)."""
    num_asd: int = 16
    """Number of images for prompts/asd.txt (4 or more)."""
    steps: int = FAST.steps
    """Number of sampler steps (1 to 1000)."""
    guidance: float = 5.0
    """Scale of classifier-free guidance for all images (1 or more; 1 is off)."""
    lora_scale: float = 1.0
    """Strength of the adapter (0 to 2)."""
    retries: int = 5
    """Draw a heart again that the segmenter finds broken or unclear, up to this many times (0 to
    100). At 0 more hearts are broken, and fewer at a smaller --lora-scale: docs/results.md."""
    phantom_frames: int | None = None
    """Number of simulated frames of the new hospital. Default: 480, as in the preset demo."""
    max_steps: int | None = None
    """Number of training steps. Default: 660, as in the preset demo."""
    base: str = "tiny"
    """Base model: `tiny` (embedded), a hub id, or a local folder."""
    overwrite: bool = False
    """Replace another demo in --out."""

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        if self.num_images < 8:
            raise ValueError(f"--num-images {self.num_images}: must be 8 or more")
        if self.num_asd < 4:
            raise ValueError(f"--num-asd {self.num_asd}: must be 4 or more")
        # What is handed on under the same name has the check of the command it is handed to.
        shared = ("steps", "guidance", "lora_scale", "retries", "seed")
        GenerateConfig(prompt_file=Path(), **{name: getattr(self, name) for name in shared})
        TrainLoraConfig(**self.of_training)

    @property
    def of_training(self) -> dict[str, Any]:
        """What the user said of the training; the rest is up to its preset."""
        given = {"phantom_frames": self.phantom_frames, "max_steps": self.max_steps}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Stage:
    """One command of the demo: how it is run, how a person types it, what it leaves."""

    title: str
    run: Callable[[Sequence[str]], None]
    """Runs it with these flags; bad input raises InputError."""
    flags: list[str]
    typed: str
    record: Path
    """JSON file its command leaves: `finished` in it means done."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages that are not done yet, compare, write the report, print its path."""
    config = parse(DemoConfig, argv, prog=PROG)
    start = time.monotonic()
    _open_folder(config)
    run_dir = config.out / "run"

    run_stage(training_stage(config, run_dir), 1)
    prompt_file, num_images = write_prompts(config, Run.load(run_dir))
    stages = generation_stages(config, run_dir, prompt_file, num_images)
    for number, stage in enumerate(stages, start=2):
        run_stage(stage, number)

    print("\n[5/5] compare, report", flush=True)
    gains = compare(config, run_dir)
    commands = [stage.typed for stage in [training_stage(config, run_dir), *stages]]
    report = report_demo(config.out, Run.load(run_dir), gains, commands)
    for line in gain_lines(gains):
        print(line)
    print(f"all gains in {config.out / 'metrics.json'}")
    print(f"{time.monotonic() - start:.0f} s; open {report.resolve()}")


# --- The commands -------------------------------------------------------------------------------


def training_stage(config: DemoConfig, run_dir: Path) -> Stage:
    """`accelerate launch train_lora.py`."""
    flags = ["--config", "demo", "--out", str(run_dir), "--seed", str(config.seed)]
    flags += ["--base", config.base] if config.base != "tiny" else []
    for name, value in config.of_training.items():
        flags += ["--" + name.replace("_", "-"), str(value)]
    script = shipped("train_lora.py")
    return Stage(
        "fine-tune the base on a new hospital",
        partial(launch, script),
        flags,
        " ".join(["accelerate launch", _short(script), *flags]),
        run_dir / RECORDS["run"],
    )


def generation_stages(
    config: DemoConfig, run_dir: Path, prompt_file: Path, num_images: int
) -> list[Stage]:
    """`python generate.py` for the bare base, for the LoRA, and for the LoRA with ASD prompts."""
    asd = shipped("prompts/asd.txt")
    return [
        _generation_stage(config, "base", "the bare base", "none", prompt_file, num_images),
        _generation_stage(config, "lora", "base and LoRA", str(run_dir), prompt_file, num_images),
        _generation_stage(config, "asd", "septal defects", str(run_dir), asd, config.num_asd),
    ]


def _generation_stage(
    config: DemoConfig, name: str, what: str, weights: str, prompt_file: Path, num_images: int
) -> Stage:
    flags = ["--prompt-file", _short(prompt_file), "--weights", weights]
    flags += ["--base", config.base] if config.base != "tiny" else []
    flags += [] if weights == "none" else ["--lora-scale", str(config.lora_scale)]
    flags += ["--num-images", str(num_images), "--scheduler", FAST.scheduler]
    flags += ["--steps", str(config.steps), "--guidance", str(config.guidance)]
    flags += ["--retries", str(config.retries)]
    flags += ["--reference", str(config.out / "run"), "--features", ",".join(FEATURES)]
    flags += ["--seed", str(config.seed), "--out", str(config.out / name)]
    script = shipped("generate.py")
    return Stage(
        f"draw {num_images} images: {what}",
        partial(call, script),
        flags,
        " ".join(["python", _short(script), *flags]),
        config.out / name / RECORDS[name],
    )


def run_stage(stage: Stage, number: int) -> None:
    """Run a command unless its work is done; its own words and bars go to the terminal."""
    print(f"\n[{number}/5] {stage.title}\n$ {stage.typed}", flush=True)
    record = read_record(stage.record) if stage.record.is_file() else {}
    if "finished" in record:
        print("done before", flush=True)
        return
    stage.run([*stage.flags, *(["--overwrite"] if STALE.items() <= record.items() else [])])


def launch(script: Path, flags: Sequence[str]) -> None:
    """`accelerate launch script flags`; meanwhile, what comes after it is imported here."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH]
    with subprocess.Popen([*launcher, str(script), *flags]) as process:
        for module in IMPORTED_MEANWHILE:
            importlib.import_module(module)
    if process.returncode:
        status = f"stopped with status {process.returncode}"
        raise InputError(f"accelerate launch {script.name}: {status}")


def call(script: Path, flags: Sequence[str]) -> None:
    """`python script flags`, in this process."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # as the script does
        runpy.run_path(str(script))["main"](flags)


def write_prompts(config: DemoConfig, run: Run) -> tuple[Path, int]:
    """Write the captions of the held-out frames as prompts; return the file and their number."""
    from echodiff.diffusion.sampling.reference import held_out_pictures
    from echodiff.report.pictures import find_pictures

    captions = [one.text for one in find_pictures(held_out_pictures(run)) if one.text]
    chosen = choose_prompts(captions, config.num_images)
    if len(chosen) < min(config.num_images, 8):
        raise InputError(f"{run.run_dir}: {len(chosen)} captioned held-out frames are too few")
    path = config.out / "held-out.txt"
    head = "# Captions of held-out frames, each finding in enough of them to judge it."
    write_text_atomic(path, "\n".join([head, *chosen]) + "\n")
    return path, len(chosen)


def choose_prompts(captions: Sequence[str], num: int) -> list[str]:
    """Choose `num` captions, in their order: those that name no finding at their share of all, then
    in turn one more for the finding that has fewest, up to NUM_JUDGED, then the earliest."""
    stated = [findings_in(caption) for caption in captions]
    healthy = [place for place, named in enumerate(stated) if not named]
    chosen = set(healthy[: round(num * len(healthy) / max(1, len(captions)))])
    while len(chosen) < num:
        counts = {f: sum(f in stated[place] for place in chosen) for f in Finding}
        left = {
            f: [place for place, named in enumerate(stated) if f in named and place not in chosen]
            for f in Finding if counts[f] < NUM_JUDGED
        }  # fmt: skip
        if not any(left.values()):
            break
        rarest = min((f for f in left if left[f]), key=counts.__getitem__)
        chosen.add(left[rarest][0])
    rest = [place for place in range(len(captions)) if place not in chosen]
    chosen.update(rest[: num - len(chosen)])
    return [captions[place] for place in sorted(chosen)]


# --- What was gained ----------------------------------------------------------------------------


def compare(config: DemoConfig, run_dir: Path) -> dict[str, Any]:
    """LoRA against base, both against the same held-out frames; written to DIR/metrics.json."""
    from echodiff.diffusion.sampling.reference import held_out_pictures
    from echodiff.evaluate import compare_frames

    pictures = held_out_pictures(Run.load(run_dir))
    gains = compare_frames(config.out / "base", config.out / "lora", pictures, features=FEATURES)
    firsts = [share_of_firsts(load_frames(config.out / name)) for name in ("base", "lora")]
    if "intact_gain" in gains and None not in firsts:
        gains["intact_gain"][FIRSTS] = firsts
    write_json_atomic(config.out / "metrics.json", {"scores": gains, "alarms": []})
    return gains


def report_demo(out: Path, run: Run, gains: dict[str, Any], commands: Sequence[str]) -> Path:
    """Write DIR/report.html and return its path."""
    from echodiff.diffusion.sampling.reference import held_out_pictures

    return write_demo_page(out, run, held_out_pictures(run), gains, commands)


# --- The folder ---------------------------------------------------------------------------------


def _open_folder(config: DemoConfig) -> None:
    """Begin the demo's folder, or go on in it; another demo's, or something else's, is refused."""
    path = config.out / CONFIG
    if config.out.exists() and not config.out.is_dir():
        raise InputError(f"--out {config.out}: is a file, not a folder")
    if path.is_file():
        begun = parse(DemoConfig, ["--config", str(path)], prog=PROG)
        if "\nretries:" not in path.read_text(encoding="utf-8"):  # begun before there were any
            begun = replace(begun, retries=0)
        ours, theirs = vars(replace(config, out=begun.out, overwrite=False)), vars(begun)
        differing = [name for name, value in ours.items() if theirs[name] != value]
        if differing and not config.overwrite:
            flags = ", ".join("--" + name.replace("_", "-") for name in differing)
            raise InputError(
                f"{config.out}: holds a demo with another {flags}; --overwrite replaces it"
            )
        if config.overwrite:
            _condemn(config.out)
    elif config.out.exists() and any(config.out.iterdir()):
        raise InputError(f"--out {config.out}: is not empty and does not hold a demo")
    save(replace(config, overwrite=False), path)


def _condemn(out: Path) -> None:
    """Mark every stage as stale, before any is run: a demo killed half-way mixes none with its own.

    Each command clears its own folder when its turn comes.
    """
    for folder, record in RECORDS.items():
        if (out / folder).exists():
            path = out / folder / record
            begun = read_record(path) if path.is_file() else {}
            begun.pop("finished", None)
            write_json_atomic(path, begun | STALE)
    for name in ("metrics.json", "report.html"):
        (out / name).unlink(missing_ok=True)


def _short(path: Path) -> str:
    """A path as typed from here, where it lies below."""
    resolved, here = path.resolve(), Path.cwd().resolve()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(path)
