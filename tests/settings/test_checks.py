"""Ranges that stand at a field are checked, in a union too, and name the flag."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

import pytest

from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.settings.checks import (
    Count,
    Positive,
    Seed,
    Share,
    Steps,
    at_least,
    at_most,
    between,
    check_ranges,
)


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """One field of each kind."""

    count: Count = 1
    every: Steps = 0
    rate: Positive | None = None
    share: Share = 0.0
    seed: Seed = 0
    steps: Annotated[int, at_least(1), at_most(9)] = 1
    ema_decay: Annotated[float, between(0, 1)] | None = None
    keep: Count | Literal["all"] = "all"
    continue_: Count = 1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("count", 0, "--count 0: must be 1 or more"),
        ("every", -1, "--every -1: must be 0 or more"),
        ("rate", 0.0, "--rate 0.0: must be above 0"),
        ("rate", float("nan"), "--rate nan: must be above 0"),
        ("rate", float("inf"), "--rate inf: must be above 0"),
        ("share", 1.01, "--share 1.01: must be 0 to 1"),
        ("seed", -1, "--seed -1: must be 0 or more"),
        ("seed", 2**64, f"--seed {2**64}: must be below 2^64"),
        ("steps", 10, "--steps 10: must be 9 or less"),
        ("ema_decay", 1.0, "--ema-decay 1.0: must be between 0 and 1"),
        ("keep", 0, "--keep 0: must be 1 or more"),
        ("continue_", 0, "--continue 0: must be 1 or more"),
    ],
)
def test_a_number_out_of_range_is_one_line_that_names_the_flag(
    field: str, value: float, said: str
) -> None:
    check_ranges(Ranges())
    with pytest.raises(ValueError, match="^" + said.replace("^", r"\^")):
        check_ranges(Ranges(**{field: value}))


def test_what_every_training_has_stands_once() -> None:
    """The same flags, from the same classes."""
    ours, theirs = ({f.name for f in fields(c)} for c in (TrainLoraConfig, TrainGanConfig))
    shared = {
        "out", "overwrite", "continue_", "init_from", "seed", "epochs", "batch_size",
        "learning_rate", "mixed_precision", "compile", "threads", "checkpoint_every", "keep",
        "log_every", "tracker", "sample_every", "num_samples",
    }  # fmt: skip
    assert ours & theirs == {*shared, "resolution"}
    groups = [c for c in TrainLoraConfig.__mro__ if c in TrainGanConfig.__mro__ and c is not object]
    assert {f.name for group in groups for f in fields(group)} == shared
