"""What a training with differential privacy spends, and how much noise that takes.

The mechanism is the subsampled Gaussian (Abadi et al. 2016): in every step each patient takes part
with the same probability, independently of all others; the gradients of those who do are clipped
to a norm and summed, and Gaussian noise of `noise_multiplier` times that norm is added.
"""

import functools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from echodiff.errors import InputError

Accountant = Literal["prv", "rdp"]

USEFUL, USELESS = 2.0, 10.0
"""Noise-to-signal ratios of a step: below the first an adapter learns, above the second what is
learnt drowns."""
SLACK = 0.01
"""Share of epsilon that may be left unspent, and to which epsilon is computed."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The guarantee of a whole run: (`epsilon`, `delta`) for adding or removing one patient."""

    epsilon_asked: float
    delta: float
    clip: float
    """Largest norm of a patient's gradient."""
    noise_multiplier: float
    """Standard deviation of the noise on the sum of gradients, in units of `clip`."""
    num_patients: int
    patients_per_step: int
    """Expected number of patients in a step."""
    num_steps: int
    num_parameters: int
    accountant: Accountant
    noise: Literal["secret", "seeded"]

    @property
    def sample_rate(self) -> float:
        """Probability with which a patient takes part in a step."""
        return self.patients_per_step / self.num_patients

    @property
    def noise_to_signal(self) -> float:
        """Expected norm of the noise on a step's mean gradient, over the most that one patient's
        clipped gradients can add up to: s sqrt(d) / B."""
        return self.noise_multiplier * math.sqrt(self.num_parameters) / self.patients_per_step

    def spent(self, num_steps: int) -> float:
        """Upper bound of epsilon after so many steps."""
        if num_steps == 0:
            return 0.0
        return compute_epsilon(
            self.noise_multiplier, self.sample_rate, num_steps, self.delta, self.accountant
        )

    def describe(self) -> str:
        """A few lines for the terminal."""
        ratio = self.noise_to_signal
        lines = [
            f"differential privacy: epsilon {self.spent(self.num_steps):.3g} at delta "
            f"{self.delta:g} for each of {self.num_patients} patients, "
            f"{self.patients_per_step} of them expected in each of {self.num_steps} steps",
            f"noise multiplier {self.noise_multiplier:.4g} ({self.accountant.upper()}), noise "
            f"{self.noise}; on the gradient of a step the noise is {format_ratio(ratio)} times the "
            f"clip, over {self.num_parameters:,} parameters",
        ]
        if ratio > USEFUL:
            word = "too few: the adapter will be noise" if ratio > USELESS else "few: expect little"
            factor = ratio / USEFUL
            lines.append(
                f"{self.num_patients} patients are {word}. About "
                f"{math.ceil(self.num_patients * factor):,}, with batches of "
                f"{math.ceil(self.patients_per_step * factor):,}, bring it to {USEFUL:g}; a "
                "smaller --rank, fewer steps and a larger --dp-epsilon lower it, too"
            )
        if self.noise == "seeded":
            lines.append(
                "--dp-noise seeded: who knows the seed can take the noise off; the guarantee does "
                "not hold against them"
            )
        return "\n".join(lines)

    def to_record(self) -> dict[str, Any]:
        """The entry of `run.json`; `epsilon` is that of all steps."""
        return asdict(self) | {
            "unit": "patient",
            "epsilon": self.spent(self.num_steps),
            "sample_rate": self.sample_rate,
            "noise_to_signal": self.noise_to_signal,
        }


def format_ratio(ratio: float) -> str:
    """Three digits, no exponent below a million."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def find_noise_multiplier(
    epsilon: float, delta: float, sample_rate: float, num_steps: int, accountant: Accountant
) -> float:
    """The least noise multiplier, to a percent of epsilon, that spends at most `epsilon`.

    InputError where no noise is enough, or the accountant fails.
    """
    from opacus.accountants.utils import get_noise_multiplier

    search = functools.partial(
        get_noise_multiplier, target_epsilon=epsilon, target_delta=delta, sample_rate=sample_rate,
        steps=num_steps, epsilon_tolerance=SLACK * epsilon,
    )  # fmt: skip
    with _quiet_accountant():
        try:
            high = search(accountant="rdp")
        except ValueError as error:
            if accountant == "rdp":
                raise InputError(
                    f"--dp-epsilon {epsilon:g}: too small for --dp-accountant rdp: take prv"
                ) from error
            # Renyi orders end where small budgets begin: the quick first guess is not to be had.
            high = search(accountant=accountant, eps_error=SLACK * epsilon)
    high = _round_up(high)

    def spend(multiplier: float) -> float:
        return compute_epsilon(multiplier, sample_rate, num_steps, delta, accountant)

    while spend(high) > epsilon:
        high = _round_up(1.01 * high)
    low = 0.8 * high  # PRV needs some percent less noise than RDP
    while epsilon - spend(high) > 2 * SLACK * epsilon and high - low > 0.001 * high:
        middle = _round_up((low + high) / 2)
        low, high = (low, middle) if spend(middle) <= epsilon else (middle, high)
    return high


@functools.lru_cache(maxsize=256)
def compute_epsilon(
    noise_multiplier: float,
    sample_rate: float,
    num_steps: int,
    delta: float,
    accountant: Accountant,
) -> float:
    """Upper bound of epsilon at `delta` after `num_steps` of the subsampled Gaussian mechanism."""
    from opacus.accountants import create_accountant

    counted = create_accountant(accountant)
    counted.history = [(noise_multiplier, sample_rate, num_steps)]
    with _quiet_accountant():
        rough = _compute_rdp_epsilon(noise_multiplier, sample_rate, num_steps, delta)
        if accountant == "rdp":
            return rough
        try:
            return float(counted.get_epsilon(delta, eps_error=max(SLACK * rough, 1e-4)))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise InputError(f"--dp-accountant prv: fails here ({error}): take rdp") from error


def _compute_rdp_epsilon(multiplier: float, rate: float, num_steps: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant

    counted = RDPAccountant()
    counted.history = [(multiplier, rate, num_steps)]
    return float(counted.get_epsilon(delta))


def _round_up(value: float) -> float:
    """To four digits: more noise, never less."""
    digits = 3 - math.floor(math.log10(value))
    return math.ceil(value * 10**digits) / 10**digits


@contextmanager
def _quiet_accountant() -> Iterator[None]:
    """Without the warnings of numbers that an accountant tries and leaves, such as log(0)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
