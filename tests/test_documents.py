"""JSON and YAML of strangers: a plain value, or one line; through the doors that read them."""

import json
import time
from pathlib import Path

import pytest

from echodiff.data.cards import read_head
from echodiff.documents import parse_json, parse_yaml
from echodiff.errors import InputError
from echodiff.gan.weights import parse_facts
from echodiff.runs import Run

JSON_FAULTS = {
    '{"a": 1, "a": 2}': "a field occurs twice: a",
    "[" * 100_000: "nested deeper than 32 levels",
    '{"a":' * 40 + "1" + "}" * 40: "nested deeper than 32 levels",
    '{"a": NaN}': "a: nan is not a finite number",
    '{"a": [1e999]}': "a: inf is not a finite number",
    "9" * 5000: "a whole number beyond 64 bits",
    '{"a": -18446744073709551616}': "a: a whole number beyond 64 bits",
    '{"a": "\\ud800"}': "holds half of a surrogate pair",
    "{": "Expecting property name",
}
YAML_FAULTS = {
    "a: 1\na: 2": "a field occurs twice: a",
    "a: &x 1\nb: *x": "line 1: has an anchor or an alias",
    "a: !!python/object/apply:os.system [ls]": "line 1: has a tag",
    "a: " + "[" * 200 + "]" * 200: "nested deeper than 32 levels",
    "a: .nan": "a: nan is not a finite number",
    "a: " + "9" * 5000: "a whole number beyond 64 bits",
    "a: 2026-99-99": "month must be in 1..12",
    "[a]: 1": "unhashable key",
    "x" * 300_001: "characters of YAML, more than 300000",
}
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
)


def says(message: str) -> str:
    return "(?s).*" + "".join("\\" + c if c in "()[]{}.*+?^$|\\" else c for c in message)


@pytest.mark.parametrize(("text", "message"), JSON_FAULTS.items(), ids=range(len(JSON_FAULTS)))
def test_json_of_a_stranger_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says(message)) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match=says(message)):
        parse_facts(text)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: "):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 0.5}}\n{text}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: "):
        Run.load(tmp_path).read_metrics()


@pytest.mark.parametrize(("text", "message"), YAML_FAULTS.items(), ids=range(len(YAML_FAULTS)))
def test_yaml_of_a_stranger_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says(message)) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
    (tmp_path / "README.md").write_text(f"---\n{text}\n---\n")
    with pytest.raises(InputError, match=says(message)):
        read_head(tmp_path / "README.md")


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    """It was expanded into its own error line."""
    start = time.perf_counter()
    with pytest.raises(InputError, match="refused") as caught:
        parse_yaml(BOMB)
    assert time.perf_counter() - start < 1
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": "x"}, "'train' must be a list of text, not x"),
        ({"held_out": [1]}, "'held_out' must be a list of text"),
        ({"data_dir": ["a"]}, "'data_dir' must be text"),
        ({"resolution": "big"}, "'resolution' must be a whole number, not big"),
        ({"resolution": True}, "'resolution' must be a whole number, not True"),
        ({"white_level": 1.5}, "'white_level' must be a whole number or null"),
        ({"frames": {"a": 1}}, "'frames' must be an object"),
        ({"status": None}, "'status' must be text, not None"),
    ],
)
def test_wrong_types_in_a_run_are_named(
    fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished"} | fields))
    with pytest.raises(InputError, match=says(f"run.json: {message}")):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"generator": ["a"]}, "'generator' must be text"),
        (
            {"generator": "none", "channels": 1, "norm": "batch", "width": 4},
            "'generator' is 'none', none of",
        ),
        ({"generator": "cnn", "channels": 1}, "lacks 'norm'"),
        ({"width": 10**9}, "'width' is 1000000000, not 1 to 8192"),
        ({"labels": "abc"}, "'labels' must be a list of a whole number"),
    ],
)
def test_wrong_facts_of_a_generator_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=says(message)):
        parse_facts(json.dumps(fields))


def test_a_norm_that_is_not_finite_stands_in_no_row(tmp_path: Path) -> None:
    """A gradient scaler skips steps whose norm is infinite; JSON has no such number."""
    (tmp_path / "run.json").write_text('{"status": "running"}')
    run = Run.load(tmp_path)
    run.log(1, loss=0.5, gradient_norm=float("inf"))
    assert run.read_metrics() == [{"step": 1, "loss": 0.5}]
