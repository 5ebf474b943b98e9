"""What a step of a training with differential privacy draws: patients first, then their frames."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from echodiff.diffusion.samples import Draw, Samples, gather_samples
from echodiff.training.keyed_stream import keyed_generator, keyed_uniform
from echodiff.training.streams import sample_normal

if TYPE_CHECKING:
    from echodiff.diffusion.encoding import EncodedFrames
    from echodiff.diffusion.lora_config import TrainLoraConfig
    from echodiff.diffusion.objective import Objective
    from echodiff.diffusion.privacy_budget import Budget


class PatientSamples:
    """Poisson draws of patients: step n is a function of (key, n).

    Every patient takes part in a step with probability `budget.sample_rate`, independently of all
    others, so a step may have no patient at all. Each that does shows `dp_draws` of its frames,
    drawn with replacement, each at a time and a noise of its own. Nothing that one patient shows
    depends on another one: times are stratified over the draws of a patient, not over a step.
    """

    def __init__(
        self,
        config: "TrainLoraConfig",
        encoded: "EncodedFrames",
        objective: "Objective",
        budget: "Budget",
        key: bytes,
    ) -> None:
        self.num_steps = budget.num_steps
        self._config, self._encoded, self._objective = config, encoded, objective
        self._budget, self._key = budget, key
        is_captioned = [row > 0 for row in encoded.caption_index.tolist()]
        self._weights = torch.tensor(
            [1.0 if known else config.regularization_weight for known in is_captioned]
        )
        # As often as without privacy: a captioned frame `repeats` times for one without a caption.
        chances = [config.repeats if known else 1 for known in is_captioned]
        self._rows = group_rows(encoded.patients, chances)

    def draw(self, step: int) -> tuple[Samples, torch.Tensor]:
        """Samples (B) of step number `step` (0 is the first) with their weights (B,).

        Rows of one patient follow each other, `dp_draws` of them each.
        """
        draw = self._draw(step)
        samples = gather_samples(self._encoded, draw, torch.arange(len(draw.indices)))
        return samples, self._weights[draw.indices] * self._objective.weight

    def file_names(self, step: int) -> list[str]:
        """Frames of step number `step`, each named once."""
        rows = self._draw(step).indices.tolist()
        return list(dict.fromkeys(self._encoded.file_names[row] for row in rows))

    def _draw(self, step: int) -> Draw:
        config, latents = self._config, self._encoded.latent_mean
        chosen = keyed_uniform(self._key, "patients", step, len(self._rows))
        patients = np.flatnonzero(chosen < self._budget.sample_rate)
        stream = keyed_generator(self._key, "samples", step)
        indices, places = list[int](), list[float]()
        for patient in patients.tolist():
            indices += stream.choice(self._rows[patient], size=config.dp_draws).tolist()
            evenly = stream.permutation(config.dp_draws) + stream.random(config.dp_draws)
            places += (evenly / config.dp_draws).tolist()
        shape = (len(indices), *latents.shape[1:])
        posterior, noise = sample_normal(stream, shape), sample_normal(stream, shape)
        offset = sample_normal(stream, (*shape[:2], 1, 1))
        return Draw(
            indices=torch.tensor(indices, dtype=torch.long),
            posterior=posterior,
            noise=noise + config.noise_offset * offset,
            times=self._objective.draw_times(torch.tensor(places, dtype=torch.float64)),
            is_caption_dropped=torch.from_numpy(
                stream.random(len(indices)) < config.caption_dropout
            ),
        )


def group_rows(patients: Sequence[str], chances: Sequence[int]) -> list[list[int]]:
    """Rows of each patient, a row as many times as its chance of being drawn is larger."""
    rows: dict[str, list[int]] = {}
    for row, (patient, times) in enumerate(zip(patients, chances, strict=True)):
        rows.setdefault(patient, []).extend([row] * times)
    return list(rows.values())
