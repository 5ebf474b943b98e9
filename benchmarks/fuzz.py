"""Commands on made-up folders of strangers: no traceback, no hang, nothing changed outside `--out`.

    python benchmarks/fuzz.py --examples 10000 --seed 0

Hypothesis draws frames folders, run folders, weights and prompt files: sound ones with some fields
replaced by nonsense (deep nesting, huge numbers, halves of surrogate pairs, NaN, wrong types, paths
that lead away, repeated fields), and plain bytes. A command reads each in this process. No base
model is loaded: what comes after that is no more of the stranger's choosing.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

LONGEST = 5.0
"""Seconds that a command may take."""
SHARES = {"frames": 0.4, "run": 0.3, "weights": 0.1, "prompts": 0.2}
"""Of the examples."""

# --- What a stranger may write ------------------------------------------------------------------

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**30, -(10**30), 2**63, 2**64, float("nan"), float("inf"), -0.0, 1e308]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from([
        "", "\ud800", "\0", "../secret/images/0.png", "/etc/passwd", "..", ".", "~", "images/0.png",
        "a" * 300, "Mc" + "x" * 3000, "a_" * 3000, "((" * 3000, "ASD, four chamber view", "train",
        "<script>", "{{ 7 * 7 }}", "\x1b[2J", "os:system", "tiny", "finished", "generated",
    ]),
)  # fmt: skip
DEEP = st.integers(30, 3000).map(lambda depth: Raw("[" * depth + "]" * depth))
VALUES = st.one_of(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
        max_leaves=6,
    ),
    DEEP,
    st.integers(20, 5000).map(lambda digits: Raw("9" * digits)),
)


class Raw(str):
    """JSON as it is written into the file."""


def to_json(value: Any) -> str:
    """JSON of a value, in which `Raw` stands as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {to_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value)


@st.composite
def records(draw: Any, sound: dict[str, Any]) -> str:
    """A JSON object: `sound`, with some fields replaced, gone, or there twice; or no object."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return to_json(draw(VALUES))
    if kind == 1:
        return draw(st.text(max_size=40))
    record = dict(sound)
    for name in draw(st.lists(st.sampled_from(sorted(sound)), max_size=2)):
        record[name] = draw(VALUES)
    for name in draw(st.lists(st.sampled_from(sorted(sound)), max_size=1)):
        record.pop(name, None)
    text = to_json(record)
    if kind == 2:
        text = text[: draw(st.integers(0, len(text)))]
    if kind == 3 and record:
        text = text[:-1] + f", {json.dumps(next(iter(record)))}: 1}}"
    return text


@st.composite
def yaml_texts(draw: Any) -> str:
    lines = {"rank": "8", "base": '"tiny"', "seed": "0", "prompt": "x"}
    for name in draw(st.lists(st.sampled_from(sorted(lines)), max_size=2)):
        lines[name] = draw(st.sampled_from([
            "&a [1]", "*a", "!!python/name:os.system", ".nan", "1e999", "9" * 5000,
            "[" * 200, "2026-99-99",
            '"\\uD800"', "{a: 1, a: 2}", "|\n  x", "? ", "'", "\x07",
        ]))  # fmt: skip
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


ROW = {
    "file_name": "images/0.png", "text": "ASD, four chamber view", "patient_id": "p0",
    "split": "train", "mask_file_name": "masks/0.png", "spacing_mm": 0.5, "white_level": 255,
    "findings": ["asd"], "seed": 0, "weights": "0" * 64, "settings": "{}", "source": "x",
    "prompt": "ASD", "pair_id": "q", "record": "{}", "other": [1],
}  # fmt: skip
TRAINED_ON = {"patients": {"a" * 32: [""]}, "pixels": ["b" * 64], "sketches": ["0" * 144]}
RUN = {
    "command": "train_lora", "status": "finished", "created": "2026-01-01", "fingerprint": "0" * 64,
    "settings": {"rank": 8}, "data": "", "frames": {"images/0.png": "0" * 16}, "versions": {},
    "base": "tiny", "base_sha256": "0" * 64, "resolution": 32, "data_dir": "../secret",
    "train": ["images/0.png"], "val": ["images/0.png"], "test": [], "held_out": ["images/0.png"],
    "white_level": None, "trained_on": TRAINED_ON, "weights_sha256": "0" * 64, "num_steps": 4,
    "source_dir": "../secret", "train_source": ["images/0.png"], "networks_sha256": {"G": "0"},
}  # fmt: skip
JOB = {
    "fingerprint": "0" * 64, "config": {"prompt_file": "a.txt", "num_images": 4, "seed": 0},
    "base": "tiny", "weights": "../run", "weights_sha256": "0" * 64, "trained_on": TRAINED_ON,
    "settings": {"steps": 2}, "white_level": 255, "finished": True, "seconds": 1.0,
    "reference": "4 frames", "versions": {},
}  # fmt: skip
PLACES = ["frames", "frames", "../secret", "/etc"]
METRICS = {"step": 1, "loss": 0.5, "gradient_norm": 1.0, "learning_rate": 1e-3}
FACTS = {
    "generator": "patch_cgan", "channels": 1, "norm": "batch", "width": 4, "resolution": 32,
    "method": "patch_cgan", "modality": "echo", "source_kind": "mask", "labels": [1],
    "white_level": 255,
}  # fmt: skip
ADAPTER = {"unet.lora_alpha": 8.0, "unet.r": 4, "lora_alpha": 8, "alpha_pattern": {"a": 1.0},
           "use_rslora": False, "peft_type": "LORA"}  # fmt: skip
LINES = st.one_of(
    st.text(max_size=40),
    st.sampled_from([
        "ASD", "LVH | guidance=4 weight=2", "x | weight=99999999999999999999", "x | guidance=nan",
        "((((a))))", "[a|b]", "<lora:x:1>", "Negative prompt: b", "Steps: 20, Sampler: x", "# c",
        "|", 'x | negative="', "x | weight=\u0663", "\ud7ff",
        "a_" * 20000, "((" * 20000 + "))" * 20000,
        "(a:1.2)" * 9000, "[" * 30000, "Steps: 1, " * 9000, "x | " + "a=b " * 9000, "\x1b[2J\x07",
    ]),
)  # fmt: skip


# --- The stage: folders in a parent whose every byte is remembered ------------------------------


def write_frames(folder: Path, rows: list[str]) -> None:
    """Four pictures, masks for them, and rows as they are given."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
        for number in range(len(rows)):
            grey = np.full((16, 16), 30 * number, np.uint8)
            Image.fromarray(grey).save(folder / name / f"{number}.png")
    text = "".join(f"{row}\n" for row in rows)
    (folder / "metadata.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))


def write_generator(path: Path) -> None:
    """A small generator, masks to pictures."""
    from echodiff.gan.networks.generators import build_generator
    from echodiff.gan.weights import save_network

    save_network(
        path, build_generator("patch_cgan", 1, norm="batch", width=2), FACTS | {"width": 2}
    )


def sound_row(number: int) -> dict[str, Any]:
    return ROW | {
        "file_name": f"images/{number}.png", "mask_file_name": f"masks/{number}.png",
        "patient_id": f"p{number}",
    }  # fmt: skip


def snapshot(parent: Path) -> dict[str, str]:
    """A hash of everything below `parent` but `out`."""
    found = {}
    for path in sorted(parent.rglob("*")):
        name = path.relative_to(parent).as_posix()
        if not name.startswith("out"):
            is_file = path.is_file() and not path.is_symlink()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
    return found


@dataclasses.dataclass
class Tally:
    """What came out."""

    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    slowest: float = 0.0

    def add(self, kind: str, status: object, seconds: float) -> None:
        self.statuses[f"{kind} {status}"] += 1
        self.slowest = max(self.slowest, seconds)


def load_script(name: str) -> Callable[[list[str]], None]:
    from echodiff.files import shipped

    spec = importlib.util.spec_from_file_location(name, shipped(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], None] = module.main
    return main


def refuse_base(*_: Any, **__: Any) -> None:
    from echodiff.errors import InputError

    raise InputError("no base is loaded here")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No word of a command on the terminal, no base model, and the folder as it was."""
    from echodiff.diffusion.sampling import pipeline as model

    here, loaded = Path.cwd(), model.load_base
    logging.disable(logging.CRITICAL)
    model.load_base = refuse_base
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                yield
            finally:
                os.chdir(here)
                model.load_base = loaded
                logging.disable(logging.NOTSET)


def try_command(kind: str, parent: Path, command: Callable[[], Any], tally: Tally) -> None:
    """Run a command; AssertionError where it does what it must not."""
    from echodiff.settings.command_line import run_main

    before, start = snapshot(parent), time.perf_counter()
    with quiet():
        os.chdir(parent)
        status = run_main(command, kind)
    seconds = time.perf_counter() - start
    assert status in (0, 1, 2), f"{kind}: status {status}"
    assert seconds < LONGEST, f"{kind}: took {seconds:.1f} s"
    after = snapshot(parent)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not changed, f"{kind}: changed {sorted(changed)[:3]}"
    shutil.rmtree(parent / "out", ignore_errors=True)
    tally.add(kind, status, seconds)


# --- One example of each kind -------------------------------------------------------------------


def fuzz_frames(data: Any, parent: Path, tally: Tally) -> None:
    from echodiff.data.check.command import main as check
    from echodiff.evaluate import main as evaluate
    from echodiff.gan.translate import main as translate

    rows = [data.draw(records(sound_row(0)))]
    rows += [to_json(sound_row(number)) for number in range(1, 4)]
    write_frames(parent / "in", rows)
    if data.draw(st.booleans()):
        text = data.draw(records(JOB))
        (parent / "in/generate.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    if data.draw(st.integers(0, 3)) == 0:
        (parent / "in/README.md").write_text(f"---\n{data.draw(yaml_texts())}---\n", "utf-8")
    if data.draw(st.integers(0, 5)) == 0:
        os.replace(parent / "in/images/0.png", parent / "in/images/kept.png")
        (parent / "in/images/0.png").symlink_to(parent / "secret/images/0.png")
    match data.draw(st.integers(0, 3)):
        case 0 | 1:
            command = partial(check, ["in", "--no-text", "--workers", "1"])
        case 2:
            arguments = ["in", "--reference", "real", "--features", "texture", "--out", "out"]
            command = partial(evaluate, arguments)
        case _:
            write_generator(parent / "G.safetensors")
            command = partial(translate, ["G.safetensors", "in", "--out", "out"])
    try_command("frames", parent, command, tally)


def fuzz_run(data: Any, parent: Path, tally: Tally) -> None:
    from echodiff.evaluate import main as evaluate
    from echodiff.hub.push import main as push
    from echodiff.report.charts import draw_curves, draw_score_curves
    from echodiff.report.tables import list_training_facts
    from echodiff.runs import Run

    run = parent / "in"
    write_frames(run / "frames", [to_json(sound_row(number)) for number in range(4)])
    for name, text in (
        ("run.json", data.draw(records(RUN | {"data_dir": data.draw(st.sampled_from(PLACES))}))),
        ("metrics.jsonl", "\n".join([to_json(METRICS), data.draw(records(METRICS)), ""])),
        ("config.yaml", data.draw(yaml_texts())),
    ):
        (run / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    for name in ("pytorch_lora_weights.safetensors", "pytorch_lora_weights_kohya.safetensors"):
        (run / name).write_bytes(b"")

    def report() -> None:
        opened = Run.load(Path("in"))
        draw_curves(opened.read_metrics())
        draw_score_curves(opened.read_metrics())
        list_training_facts(opened)

    rest = ["--features", "texture", "--out", "out"]
    commands: list[Callable[[], Any]] = [
        partial(push, ["in", "--repo", "a/b", "--out", "out"]),
        partial(evaluate, ["real", "--reference", "in", *rest]),
        partial(evaluate, ["real", "--reference", "real", "--train", "in", *rest]),
        partial(GENERATE, ["--prompt-file", "two.txt", "--weights", "in", *rest]),
        report,
    ]
    try_command("run", parent, data.draw(st.sampled_from(commands)), tally)


def fuzz_weights(data: Any, parent: Path, tally: Tally) -> None:
    import torch
    from safetensors.torch import save_file

    from echodiff.diffusion.adapter_layouts import read_adapter
    from echodiff.gan.weights import load_generator

    key = "unet.down_blocks.0.attn2.to_q"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 4), f"{key}.lora_B.weight": torch.ones(4, 2)}
    metadata = {
        "echodiff": data.draw(records(FACTS)),
        "lora_adapter_metadata": data.draw(records(ADAPTER)),
    }
    file = parent / "in.safetensors"
    with contextlib.suppress(UnicodeEncodeError):  # safetensors writes no such header
        save_file(tensors, file, metadata)
        read = data.draw(st.sampled_from([read_adapter, load_generator]))
        try_command("weights", parent, lambda: read(file) and None, tally)  # type: ignore[operator]


def fuzz_prompts(data: Any, parent: Path, tally: Tally) -> None:
    text = data.draw(st.one_of(
        st.lists(LINES, max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
        st.binary(max_size=60),
    ))  # fmt: skip
    (parent / "in.txt").write_bytes(text)
    arguments = ["--prompt-file", "in.txt", "--weights", "none", "--features", "texture"]
    try_command("prompts", parent, partial(GENERATE, [*arguments, "--out", "out"]), tally)


KINDS = {
    "frames": fuzz_frames, "run": fuzz_run, "weights": fuzz_weights, "prompts": fuzz_prompts,
}  # fmt: skip
GENERATE = load_script("generate")


def run(num_examples: int, number: int) -> Tally:
    """Try `num_examples` examples drawn from seed `number`; AssertionError at the first fault."""
    tally = Tally()
    for kind, share in SHARES.items():
        try_kind(KINDS[kind], max(1, round(num_examples * share)), number, tally)
    return tally


def try_kind(
    fuzz: Callable[[Any, Path, Tally], None], num_examples: int, number: int, tally: Tally
) -> None:
    @seed(number)
    @settings(
        max_examples=num_examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def example(data: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="echodiff-fuzz-") as place:
            parent = Path(place).resolve()
            for name in ("secret", "real"):
                write_frames(parent / name, [to_json(sound_row(i)) for i in range(4)])
            (parent / "two.txt").write_text("ASD\nLVH\n")
            fuzz(data, parent, tally)

    example()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    tally = run(arguments.examples, arguments.seed)
    for name, count in sorted(tally.statuses.items()):
        print(f"{name}: {count}")
    print(
        f"{tally.statuses.total()} examples in {time.perf_counter() - start:.0f} s: no traceback, "
        f"nothing changed outside --out, slowest {tally.slowest:.2f} s"
    )


if __name__ == "__main__":
    main()
