"""Run commands on made-up folders: no traceback, no hang, nothing changed outside `--out`.

    python benchmarks/fuzz.py --examples 10000 --seed 0

Hypothesis draws frames folders, run folders, weights and prompt files: sound ones with some fields
replaced by nonsense (deep nesting, huge numbers, halves of surrogate pairs, NaN, wrong types, paths
that lead outside, repeated fields), and plain bytes. A command reads each in this process. No base
model is loaded: nothing after that depends on what the stranger wrote.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
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

from fuzz_inputs import (
    ADAPTER,
    FACTS,
    JOB,
    LINES,
    METRICS,
    PLACES,
    RUN,
    records,
    sound_row,
    to_json,
    write_frames,
    write_generator,
    yaml_texts,
)
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

LONGEST = 5.0
"""Seconds that a command may take."""
SHARES = {"frames": 0.4, "run": 0.3, "weights": 0.1, "prompts": 0.2}
"""Of the examples."""

# --- A parent folder in which every file is hashed ----------------------------------------------


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
