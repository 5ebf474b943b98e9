"""What `fuzz.py` draws: records, rows, YAML and prompt lines of strangers, and sound folders.

A record is a sound one with some fields replaced by nonsense, missing, or repeated.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

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
    """JSON that is written into the file as it is."""


def to_json(value: Any) -> str:
    """Return the JSON of a value; `Raw` is written as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {to_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value)


@st.composite
def records(draw: Any, sound: dict[str, Any]) -> str:
    """A JSON object: `sound` with some fields replaced, missing or repeated; or no object."""
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


# --- Folders -----------------------------------------------------------------------------------


def write_frames(folder: Path, rows: list[str]) -> None:
    """Write an image and a mask per row, and the rows as given."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
        for number in range(len(rows)):
            grey = np.full((16, 16), 30 * number, np.uint8)
            Image.fromarray(grey).save(folder / name / f"{number}.png")
    text = "".join(f"{row}\n" for row in rows)
    (folder / "metadata.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))


def write_generator(path: Path) -> None:
    """Write a small generator from masks to images."""
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
