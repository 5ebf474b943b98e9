import errno
import importlib
import re
import string
import subprocess
import sys
import typing
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import echodiff
from echodiff.errors import InputError
from echodiff.settings.command_line import (
    parse,
    positional,
    run_main,
    save,
)
from echodiff.settings.fields import as_dict, is_list, item_type, print_help


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A toy command."""

    src: Path = positional(default=Path("frames"))
    """Folder to read."""
    rank: int = 8
    """Rank of the matrices, at least 1."""
    learning_rate: float = 9e-4
    """Step size, above 0."""
    scheduler: Literal["ddim", "euler"] = "ddim"
    """Sampler."""
    features: tuple[str, ...] = ("tiny",)
    """Feature networks."""
    sizes_mm: tuple[float, ...] = (1.0, 2.0)
    """Two lengths."""
    name: str | None = None
    """A word."""
    out: Path | None = None
    """Where to."""
    exact: bool = False
    """Same bits everywhere."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"--rank must be at least 1, got {self.rank}")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """A command that cannot do without."""

    out: Path
    num_images: int


def read(argv, cls=Settings):
    return parse(cls, argv, prog="toy")


def failure(argv, capsys, cls=Settings):
    with pytest.raises(SystemExit) as stop:
        read(argv, cls)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_no_arguments_give_the_defaults():
    assert read([]) == Settings()


def test_flags_are_read_in_kebab_and_snake_case():
    assert read(["--learning-rate", "5e-5"]) == read(["--learning_rate=5e-5"])
    assert read(["--learning-rate", "5e-5"]).learning_rate == 5e-5


def test_lists_are_written_with_commas():
    config = read(["--features", "tiny,texture", "--sizes-mm", "3,4.5"])
    assert config.features == ("tiny", "texture")
    assert config.sizes_mm == (3.0, 4.5)


def test_booleans_are_switched_on_and_off():
    assert read(["--exact"]).exact
    assert not read(["--exact", "--no-exact"]).exact


def test_positional_field_comes_with_or_without_its_flag():
    assert read(["real"]) == read(["--src", "real"]) == read(["--exact", "real", "--no-exact"])


def test_words_stay_words():
    assert read(["--name", "12"]).name == "12"
    assert read(["--name", "null"]).name == "null"


def test_an_optional_field_takes_back_what_the_file_says(tmp_path, capsys):
    file = tmp_path / "toy.yaml"
    file.write_text("name: from the file\nout: runs/a\n")
    config = read(["--config", str(file), "--no-name", "--no-out"])
    assert (config.name, config.out) == (None, None)
    assert "--no-rank is unknown" in failure(["--no-rank"], capsys)


def find_configs():
    """Every settings class of every command."""
    for path in sorted(Path(echodiff.__file__).parent.rglob("*.py")):
        if found := re.findall(r"^class (\w+Config)\b", path.read_text("utf-8"), re.MULTILINE):
            name = ".".join(path.relative_to(Path(echodiff.__file__).parents[1]).parts)
            module = importlib.import_module(name.removesuffix(".py"))
            yield from (getattr(module, one) for one in found)


CONFIGS = [cls for cls in find_configs() if is_dataclass(cls)]
EATEN = (
    r"""
null|~|#x|#ff0000=RV,#0000ff=LV|1e3|0x10|yes|no|on|{a}|[a]|[a,b]|2024-01-01|1:30|*x|&x|!x|!!str|'q'
"q"|.nan|.inf|?|@x|`x`|%x|<<|>|-|---x|a: b|- x|a #b| x |? x|key: [1|\|д
""".strip()
    .replace("\n", "|")
    .split("|")
)
printable = st.text(string.printable + "éд#~\u2028", min_size=1, max_size=12)


def test_all_commands_have_settings():
    assert len(CONFIGS) > 20


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_text_given_to_a_flag_is_that_text(cls, data, tmp_path_factory):
    hints = typing.get_type_hints(cls)
    texts = [f for f in fields(cls) if item_type(hints[f.name]) in {str, Path}]
    if not texts:
        return
    field = data.draw(st.sampled_from(texts))
    eaten = st.sampled_from([*EATEN, "|", "a\tb", "a\nb"])
    text = data.draw((eaten | printable).filter(lambda text: not text.startswith("--")))
    argv = [
        f"--{f.name}={1 if hints[f.name] is int else 'x'}"
        for f in fields(cls)
        if f.default is f.default_factory and f is not field
    ]
    wanted = Path(text) if item_type(hints[field.name]) is Path else text
    if field.metadata.get("repeated"):
        wanted = (wanted,)
    elif is_list(hints[field.name]):
        wanted = tuple(type(wanted)(t.strip()) for t in text.split(",") if t.strip())
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        # What a command makes of the text is its own affair: here it is what reaches the command.
        patch.setattr(cls, "__init__", lambda _self, **values: seen.update(values))
        parse(cls, [*argv, f"--{field.name.replace('_', '-')}", text], prog="toy")
    assert seen[field.name] == wanted


@pytest.mark.parametrize("flag", ["--out", "--name", "--src", "--scheduler"])
def test_an_empty_value_is_refused(flag, capsys):
    assert flag in failure([flag, ""], capsys)


def test_a_number_with_a_colon_is_no_number(capsys):
    assert "--rank: expected a number, got '1:30'" in failure(["--rank", "1:30"], capsys)


def test_quoted_words_of_a_file_stay_words(tmp_path):
    file = tmp_path / "toy.yaml"
    file.write_text('name: "#x"\nout: "null"\nfeatures: ["1e3", "no", "[a]"]\n')
    config = read(["--config", str(file)])
    assert (config.name, config.out) == ("#x", Path("null"))
    assert config.features == ("1e3", "no", "[a]")


@pytest.mark.parametrize("order", ["before", "after"])
def test_flags_win_over_the_file_wherever_they_stand(tmp_path, order):
    file = tmp_path / "lora.yaml"
    file.write_text("rank: 4\nlearning_rate: 5e-5\n")
    flags, config = ["--rank", "2"], ["--config", str(file)]
    parsed = read(flags + config if order == "before" else config + flags)
    assert (parsed.rank, parsed.learning_rate) == (2, 5e-5)


def test_every_shipped_preset_is_offered_by_its_name(capsys):
    error = failure(["--config", "nowhere"], capsys)
    assert "--config: no preset or file nowhere" in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rank", "0"], "--rank must be at least 1, got 0"),
        (["--rank", "many"], "--rank: expected int, got 'many'"),
        (["--rank", "2.5"], "--rank: expected int, got '2.5'"),
        (["--rank"], "--rank needs a value"),
        (["--rank", "--exact"], "--rank needs a value"),
        (["--learning-rate", "nan"], "--learning-rate: expected float, got 'nan'"),
        (["--learning-rate", ".inf"], "--learning-rate: inf is not a finite number"),
        (["--sizes-mm", "1,.nan"], "--sizes-mm: nan is not a finite number"),
        (["--scheduler", "dim"], "--scheduler: expected Literal['ddim', 'euler'], got 'dim'"),
        (["--ranks", "4"], "--ranks is unknown; did you mean --rank?"),
        (["--no-rank"], "--no-rank is unknown"),
        (["--exact=perhaps"], "--exact: expected bool, got 'perhaps'"),
        (["a", "b"], "unexpected argument 'b'"),
    ],
)
def test_a_bad_flag_is_one_line_that_names_it(argv, words, capsys):
    assert words in failure(argv, capsys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rank: .nan", "rank: nan is not a finite number"),
        ("learning_rate: .nan", "learning_rate: nan is not a finite number"),
        ("learning_rate: lots", "learning_rate: expected float, got 'lots'"),
        ("rnak: 4", "rnak is unknown; did you mean rank?"),
        ("rank: 0", "--rank must be at least 1"),
        ("- rank", "expected `key: value` lines"),
        ("rank: [", "lora.yaml"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(text, words, capsys, tmp_path):
    file = tmp_path / "lora.yaml"
    file.write_text(text)
    error = failure(["--config", str(file)], capsys)
    assert words in error
    assert "--rank" in words or "lora.yaml" in error


def test_a_missing_or_binary_file_is_one_line(capsys, tmp_path):
    assert "nothing.yaml" in failure(["--config", "nothing.yaml"], capsys)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "x.yaml" in failure(["--config", str(tmp_path / "x.yaml")], capsys)


def test_what_is_required_is_named(capsys):
    assert "missing: --out, --num-images" in failure([], capsys, Needs)


def test_help_tells_units_defaults_and_choices(capsys):
    with pytest.raises(SystemExit) as stop:
        read(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in ("usage: toy SRC", "Step size, above 0. (default: 0.0009)", "{ddim,euler}"):
        assert words in text
    assert "--exact | --no-exact" in text


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
def test_help_gives_each_default_once(cls, capsys):
    print_help(cls, "toy", "")
    texts = capsys.readouterr().out.split("\n  --")
    assert [text for text in texts if "Default:" in text and "(default:" in text] == []


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
paths = st.text(string.printable, min_size=1, max_size=20).map(Path)


@given(
    st.builds(
        Settings,
        src=paths,
        rank=st.integers(1, 2**40),
        learning_rate=st.floats(allow_nan=False, allow_infinity=False),
        scheduler=st.sampled_from(["ddim", "euler"]),
        features=st.lists(words, max_size=3).map(tuple),
        sizes_mm=st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple),
        name=st.none() | words | st.sampled_from(["null", "1e3", "no", "12", "~", "[a, b]", "'"]),
        out=st.none() | paths | st.just(Path("null")),
        exact=st.booleans(),
    )
)
def test_a_saved_config_is_read_back_equal(tmp_path_factory, config):
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    save(config, file)
    assert read(["--config", str(file)]) == config


def test_as_dict_is_plain():
    assert as_dict(Settings())["src"] == "frames"
    assert as_dict(Settings())["features"] == ["tiny"]


def raising(error):
    def main():
        raise error

    return main


def test_run_main_returns_what_the_command_returns():
    assert run_main(lambda: None, "toy") == 0
    assert run_main(lambda: 1, "toy") == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("--rank: no\nmore"), 2, "toy: error: --rank: no more\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a.png"),
            2,
            "toy: error: out/a.png: No space left on device\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "toy: error: x: Permission "),
        (KeyboardInterrupt(), 130, "toy: error: interrupted\n"),
    ],
)
def test_run_main_turns_what_is_not_our_mistake_into_one_line(error, status, line, capsys):
    assert run_main(raising(error), "toy") == status
    captured = capsys.readouterr().err
    assert captured.startswith(line)
    assert captured.count("\n") == 1


def test_run_main_lets_our_own_mistakes_through():
    with pytest.raises(ZeroDivisionError):
        run_main(raising(ZeroDivisionError()), "toy")


def test_a_warning_is_one_line_without_a_place_in_the_source(tmp_path):
    (tmp_path / "src").mkdir()
    Image.new("L", (64, 64), 90).save(tmp_path / "src" / "a.png")
    command = [sys.executable, "-m", "echodiff", "prepare", "folder", "src", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (
        "warning: no --patient-regex: every image counts as a patient of its own\n" in done.stderr
    )
    assert ".py" not in done.stderr
