"""Settings of privacy in a training. No torch here: `--help` stays quick."""

import importlib.util
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from echodiff.extras import pip_command
from echodiff.settings.checks import Count, Positive, Steps, at_least, between


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """How much the weights may depend on any one patient."""

    dp_epsilon: Positive | None = None
    """Train with differential privacy: the epsilon that the weights may spend on any one patient
    (above 0; 1 is strong, 8 is usual). --max-grad-norm then has no effect. Needs `pip install
    echodiff[dp]`. Default: no guarantee."""
    dp_delta: Annotated[float, between(0, 1)] = 1e-5
    """The delta of that guarantee: the chance that it fails (below 1 / number of patients)."""
    dp_clip: Positive = 1e-4
    """A patient's gradient is scaled down to this norm before noise is added (above 0). Below the
    norm of most gradients, as the default is, it makes all of them equally long; Adam's steps then
    hardly depend on it (Bu et al. 2023)."""
    dp_draws: Count = 1
    """Frames, times and noises whose gradients are averaged into that of one patient (count). More
    steady the gradient at no cost in privacy, and take as much more time."""
    dp_accountant: Literal["prv", "rdp"] = "prv"
    """How epsilon is computed: prv is tighter, rdp quicker; both are upper bounds."""
    dp_noise: Literal["secret", "seeded"] = "secret"
    """secret: from a key of the operating system, which is deleted when the run is finished.
    seeded: from --seed, for tests; who knows the seed can take the noise off."""


@dataclass(frozen=True, kw_only=True)
class MembershipConfig:
    """When to look whether the adapter shows which frames it was trained on, and when to stop."""

    membership_every: Steps = 0
    """Steps between one-sided tests of whether training frames, as a set, cost less than held-out
    ones, each against its cost without the adapter (count); 0: none."""
    membership_stop: Annotated[float, between(0, 1)] | None = None
    """Stop at the first of these tests whose p is below (0 to 1, such as 0.05). Memorises less, and
    looks less like the training frames. Default: log only."""
    membership_frames: Annotated[int, at_least(8)] = 64
    """Frames of either side in that test (8 or more)."""
    membership_pairs: Count = 16
    """Pairs of time and noise at which every frame is measured, always the same (count)."""


def check_privacy(config: Any) -> None:
    """ValueError where a setting would break the guarantee, or cannot be had with it."""
    if config.membership_stop is not None and not config.membership_every:
        raise ValueError("--membership-stop: needs --membership-every, how often to test")
    if config.dp_epsilon is None:
        return
    if importlib.util.find_spec("opacus") is None:
        raise ValueError(f"--dp-epsilon: needs the package opacus: {pip_command('opacus')}")
    reasons = {
        "--gradient-checkpointing": config.gradient_checkpointing
        and "gradients of single frames cannot be had with it",
        "--compile": config.compile in ("regional", "full")
        and "gradients of single frames are taken from the layers as they are",
        "--mixed-precision fp16": config.mixed_precision == "fp16"
        and "its gradient scaler skips steps by what it sees of the patients; use bf16",
        "--continue": config.continue_ and "the noise was chosen for the steps of the run",
        "--init-from": config.init_from is not None
        and "what that adapter learnt of its patients would stay in the weights",
        "--membership-stop": config.membership_stop is not None
        and "the patients would decide without noise when to stop",
    }
    for flag, reason in reasons.items():
        if reason:
            raise ValueError(f"{flag}: not together with --dp-epsilon: {reason}")
