"""Known faults in phantom frames: each is caught by the score that should, sound frames pass."""

import io
from contextlib import redirect_stdout

import pytest


@pytest.fixture(scope="module")
def table(load_benchmark):
    with redirect_stdout(io.StringIO()) as printed:
        load_benchmark("faults").main(["--num", "48"])
    rows = [line.strip("| ").split(" | ") for line in printed.getvalue().splitlines()[2:]]
    return {
        name: (float(tiny), float(texture), alarms, {one.strip("` ") for one in caught.split(",")})
        for name, tiny, texture, alarms, caught in rows
    }


def test_sound_frames_raise_nothing(table):
    tiny, texture, alarms, caught = table["real"]
    assert alarms == "–"
    assert not {one for one in caught if one.startswith(("mmd", "kid", "fd"))}
    assert max(tiny, texture) < 0.03


@pytest.mark.parametrize(
    ("fault", "score"),
    [
        ("blurred", "mmd_texture"),
        ("wrong style", "mmd_texture"),
        ("wrong style", "mmd_tiny"),
        ("collapsed", "recall_tiny"),
        ("mirrored", "mmd_tiny"),
        ("noise", "mmd_texture"),
    ],
)
def test_a_fault_is_caught_by_its_score(table, fault, score):
    assert score in table[fault][3]


@pytest.mark.parametrize(
    ("fault", "alarm"), [("copies of training", "copies"), ("orange in one frame", "colour drift")]
)
def test_a_fault_raises_its_alarm(table, fault, alarm):
    assert alarm in table[fault][2].split(", ")


def test_noise_is_further_than_another_scanner_and_that_than_real_frames(table):
    for column in (0, 1):
        real, style, noise = (table[name][column] for name in ("real", "wrong style", "noise"))
        assert real < style < noise
