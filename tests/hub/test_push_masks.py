"""`echodiff push` of weights that obey masks: files, card, and generating from the repository."""

import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard

from echodiff.anatomy import Label
from echodiff.diffusion.command import main as train_controlnet
from echodiff.files import shipped
from echodiff.frames.layout import mask_of
from echodiff.frames.reader import load_frames
from echodiff.images import read_mask_u8, read_size, write_mask
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


def write_rows(folder, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


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


def test_a_labelled_set_goes_up_with_its_masks_and_comes_back(
    push, place, hub, edit, monkeypatch, capsys
):
    """Rows of phantoms: a set of real frames' masks needs a reason."""
    from datasets import load_dataset

    from echodiff.__main__ import main

    drawn = place / "generated/asd-1"
    frames = load_frames(drawn)
    (drawn / "masks").mkdir()
    rows = []
    for frame in frames:
        mask = np.zeros(read_size(drawn / frame.file_name), np.uint8)
        mask[4:12, 4:12], mask[14:18, 4:12] = Label.LV, Label.LA
        name = mask_of(frame.file_name)
        write_mask(drawn / name, mask)
        of_mask = {"mask_file_name": name, "mask_source": "echodiff phantom"}
        private = {"mask": "masks/p1-secret.png", "patient_id": "p1"}
        rows.append(frame.to_row() | of_mask | private)
    write_rows(drawn, rows)
    metrics = json.loads((drawn / "metrics.json").read_text())
    dice = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 8, "n_reference": 4, "values": [0.8] * 600}
    edit(drawn / "metrics.json", scores=metrics["scores"] | {"mask_dice_lv": dice})
    status, out, _ = push("--dataset", str(drawn), "--yes", repo="jane/labelled")
    assert status == 0, out
    assert "images and masks" in out
    repo = hub.repos["dataset", "jane/labelled"]
    assert {name for name in repo.files if name.startswith("masks/")} == {
        row["mask_file_name"] for row in rows
    }
    published = (place / "push/labelled/metadata.jsonl").read_text()
    assert "p1" not in published
    assert "8 images were generated for a label mask" in repo.files["README.md"].decode()
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    folder = str(place / "push/labelled")
    opened = load_dataset(folder, split="train", cache_dir=str(place / "datasets"))
    assert opened.num_rows == 8
    assert np.array_equal(np.asarray(opened[0]["mask"]), read_mask_u8(drawn / "masks/000000.png"))

    assert main(["pull", "jane/labelled", "--dataset", "--out", "frames/labelled"]) == 0
    back = load_frames(place / "frames/labelled", require_mask=True)
    assert np.array_equal(
        read_mask_u8(place / "frames/labelled" / back[3].mask_file_name),
        read_mask_u8(drawn / "masks/000003.png"),
    )

    # Masks are annotations of others' frames: what is not free needs a reason.
    for source, words in (("camus", "CAMUS: 8 masks are annotations of its frames"),
                          (None, "8 masks are of frames that no row names")):  # fmt: skip
        write_rows(drawn, [row | {"mask_source": source} for row in rows])
        status, out, _ = push("--dataset", str(drawn), repo="jane/camus")
        assert status == 1
        assert words in out
        assert not (place / "push/camus").exists()
    # A number that is no label would be a place to hide something.
    write_rows(drawn, rows)
    write_mask(drawn / "masks/000000.png", np.full_like(mask, 99))
    status, _, err = push("--dataset", str(drawn), repo="jane/labelled")
    assert status == 2
    assert "000000.png: label 99 in the mask" in err
