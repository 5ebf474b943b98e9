import errno
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echodiff.config import InputError, as_dict, parse, positional, run_main, save


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
    assert read(["--name", "null"]).name is None


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
        (["--ranks", "4"], "--ranks is not known; did you mean --rank?"),
        (["--no-rank"], "--no-rank is not known"),
        (["--exact=perhaps"], "--exact: expected bool, got 'perhaps'"),
        (["a", "b"], "unexpected argument 'b'"),
    ],
)
def test_a_bad_flag_is_one_line_that_names_it(argv, words, capsys):
    assert words in failure(argv, capsys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rank: .nan", "rank: expected int"),
        ("learning_rate: .nan", "learning_rate: nan is not a finite number"),
        ("learning_rate: lots", "learning_rate: expected float, got 'lots'"),
        ("rnak: 4", "rnak is not known; did you mean rank?"),
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


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# jsonargparse takes a lone question mark for no value at all.
paths = st.text(string.printable, min_size=1, max_size=20).filter(lambda t: t != "?").map(Path)


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
