"""`echodiff push` of weights that obey masks: files, card, and generating from the repository."""

import importlib.util
import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from echodiff.diffusion.command import main as train_controlnet
from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.published import MASK_FILES
from echodiff.runs import Run

pytestmark = [
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    # huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate_pushed", shipped("generate.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.parametrize(
    "kind",
    ["control-lora", "t2i-adapter",
     *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("controlnet", "concat"))],
)  # fmt: skip
def test_a_pushed_kind_is_generated_from_by_its_name(
    kind, push, place, hub, tiny_random_base, masked_frames, script, fresh_accelerate
):
    masked_frames.write_masked_frames(place / "frames")
    (place / "frames" / "README.md").write_text(
        "---\nlicense: cc-by-4.0\npretty_name: Discs\nechodiff_weights_may_be_shared: yes\n---\nx\n"
    )
    base = shutil.copytree(tiny_random_base, place / "base")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\nA toy.\n")
    train_controlnet(
        [
            *("--base", str(base), "--data", "frames", "--kind", kind, "--out", "runs/masks"),
            *("--max-steps", "1", "--obedience-images", "0", "--threads", "1", "--seed", "3"),
        ]
    )
    flags = ["--base-model", "jane/toy", "--out", "up"]
    status, out, _ = push(*flags, "--yes", "--accept", "discs", run_dir="runs/masks")
    assert status == 0, out
    found = {p.relative_to(place / "up").as_posix() for p in (place / "up").rglob("*")
             if p.is_file()}  # fmt: skip
    assert found == {*MASK_FILES[kind], "README.md", "config.yaml", "push.json", "run.json"}
    record = Run.load(place / "up").record
    assert (record["kind"], record["labels"][1:]) == (kind, ["LV", "LV_MYOCARDIUM", "LA"])
    card = (place / "up" / "README.md").read_text("utf-8")
    assert ModelCard(card).data.library_name == "diffusers"
    assert f"Weights ({kind}) that make" in card
    assert "BACKGROUND, LV, LV\\_MYOCARDIUM, LA" in card or "BACKGROUND, LV, LV_MYOCARDIUM" in card
    for code in code_of(card):
        compile(code, "card", "exec")
    assert bool(code_of(card)) == (kind != "concat")
    fresh_accelerate()
    flags = ["--masks", "frames", "--num-images", "1", "--steps", "1", "--features", "texture"]
    flags += ["--reference", "frames", "--base", str(base), "--weights", "hub:jane/hearts"]
    script.main([*flags, "--out", "drawn"])
    (frame,) = load_frames(place / "drawn", require_mask=True)
    assert json.loads(frame.settings)["kind"] == kind
