"""Conflicting settings: which of two wins, and which have no effect next to another.

Names are those of fields, the same in every command. A flag always wins over a settings file, so
that no flag is ignored without a word.
"""

import dataclasses
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any

from echodiff.settings.fields import flag_of, printable

WINS = {"max_steps": ("epochs",), "steps": ("epochs", "decay_epochs")}
"""Setting -> others that decide the same, and lose where both are given in one place."""

OF_METHOD = {
    "cycle_weight": ("cyclegan",),
    "identity_weight": ("cyclegan",),
    "pool_size": ("cyclegan", "patch_cgan"),
    "nce_weight": ("cut",),
    "identity_nce": ("cut",),
    "flip_equivariance": ("cut",),
    "num_patches": ("cut",),
    "temperature": ("cut",),
    "reconstruction_weight": ("patch_cgan", "srgan"),
    "adversarial": ("cyclegan", "cut", "patch_cgan", "srgan"),
    "learning_rate_d": ("cyclegan", "cut", "patch_cgan", "srgan"),
}
"""Settings of `echodiff train-gan` -> the values of --method that read them."""

OF_KIND = dict.fromkeys(("rank", "alpha"), ("control-lora", "concat"))
"""Settings of `echodiff train-controlnet` -> the values of --kind that read them."""

OF_PHANTOMS = ("phantom_frames", "phantom_style", "phantom_findings", "phantom_finding_rate")
OF_SCORES = ("evaluate_images", "evaluate_features")
OF_OBEDIENCE = ("obedience_every", "segmenter")
OF_PRIVACY = ("dp_delta", "dp_clip", "dp_draws", "dp_accountant", "dp_noise")
OF_MEMBERSHIP = ("membership_frames", "membership_pairs")
OF_SAMPLER = ("sample_steps", "sample_guidance")


def drop_losers(
    cls: type, values: Mapping[str, Any], given: Collection[str], source: str | None
) -> dict[str, Any]:
    """Remove what a flag takes the place of from the values of a settings file.

    values: settings of the file `source`.
    given: fields that were given as flags.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    left = dict(values)
    for winner, losers in WINS.items():
        if not {winner, *losers} <= fields:
            continue
        flags = ", ".join(flag_of(name) for name in losers if name in given)
        if winner in given and flags:
            tell(f"{flag_of(winner)} decides the length of the training, not {flags}")
        elif left.get(winner) is not None and "epochs" in losers and "epochs" in given:
            tell(f"{flags} decides the length of the training, not {winner} of {source}")
            del left[winner]
    return left


def tell_unused(config: Any, given: Collection[str]) -> None:
    """Print one line on each flag that has no effect next to the others."""
    for name in given:
        if (reason := find_reason(config, name)) is not None:
            tell(f"{flag_of(name)} has no effect {reason}")


def find_reason(config: Any, name: str) -> str | None:
    """Why a setting has no effect in `config`; None if it has one."""
    if name in OF_METHOD and (method := getattr(config, "method", None)) is not None:
        return None if method in OF_METHOD[name] else f"with --method {method}"
    if name in OF_KIND and (kind := getattr(config, "kind", None)) is not None:
        return None if kind in OF_KIND[name] else f"with --kind {kind}"
    if name in OF_PHANTOMS and getattr(config, "data", None) is not None:
        return "with --data: phantom frames are made without it only"
    if name in OF_PRIVACY and config.dp_epsilon is None:
        return "without --dp-epsilon"
    if name in OF_MEMBERSHIP and not config.membership_every:
        return "without --membership-every"
    if name == "max_grad_norm" and getattr(config, "dp_epsilon", None) is not None:
        return "with --dp-epsilon: --dp-clip bounds the gradient of each patient"
    if not hasattr(config, "evaluate_every"):
        return None
    if name in OF_SCORES and not config.evaluate_every:
        return "without --evaluate-every"
    if name == "num_samples" and not config.sample_every:
        return "without --sample-every"
    num_read = getattr(config, "obedience_images", None)  # images whose masks are read
    if name in OF_SAMPLER and not (config.sample_every or config.evaluate_every or num_read):
        return "without --sample-every or --evaluate-every"
    if name in OF_OBEDIENCE and num_read == 0:
        return "with --obedience-images 0"
    if name == "held_out_every" and config.held_out_every and not config.held_out_frames:
        return "with --held-out-frames 0"
    return None


def tell(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # one of several processes prints it
        sys.stderr.write(f"note: {printable(text)}\n")
