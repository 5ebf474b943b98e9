"""Open a training with differential privacy: budget, key, draws, and what resuming it checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from echodiff.data.splits import known_patient
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.objective import Objective
from echodiff.diffusion.privacy_budget import Budget, find_noise_multiplier
from echodiff.diffusion.private_samples import PatientSamples
from echodiff.diffusion.samples import Samples, count_steps
from echodiff.errors import InputError
from echodiff.training.keyed_stream import fingerprint, key_from_seed, open_key

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.diffusion.dataset import TrainingSet
    from echodiff.diffusion.private_gradient import PrivateGradient

_STATE = "privacy"
"""Prefix of the names in a checkpoint."""


@dataclass(frozen=True)
class PrivateTraining:
    """Budget, key and draws of one run."""

    config: TrainLoraConfig
    budget: Budget
    key: bytes
    samples: PatientSamples

    def build_gradient(
        self,
        network: torch.nn.Module,
        parameters: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        predict: Callable[[torch.nn.Module, torch.Tensor, Samples], torch.Tensor],
    ) -> "PrivateGradient":
        """What takes the steps of `optimizer` over `parameters` of `network`."""
        from echodiff.diffusion.private_gradient import PrivateGradient  # imports opacus

        return PrivateGradient(
            network,
            parameters,
            optimizer,
            objective=objective,
            predict=lambda noisy, samples: predict(network, noisy, samples),
            budget=self.budget,
            key=self.key,
            patients_at_once=self.config.batch_size,
            draws=self.config.dp_draws,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a resumed run must have in common with the run so far, by name.

        How much is spent is a function of these and of the number of steps.
        """
        budget = self.budget
        values = {
            "noise_multiplier": budget.noise_multiplier,
            "sample_rate": budget.sample_rate,
            "clip": budget.clip,
            "key": int(fingerprint(self.key), 16) / 16**16,
        }
        return {
            f"{_STATE}.{name}": torch.tensor(value, dtype=torch.float64)
            for name, value in values.items()
        }

    def refuse_other(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """InputError where a checkpoint is of another noise, rate, clip or key."""
        for name, value in self.tensors().items():
            if name not in tensors or not torch.equal(tensors[name], value):
                raise InputError(
                    f"--dp-epsilon: the run was begun with another {name.removeprefix('privacy.')} "
                    "of its noise: its guarantee would not hold; --overwrite starts again"
                )


def check_private(
    config: TrainLoraConfig, accelerator: "Accelerator", dataset: "TrainingSet | None"
) -> None:
    """InputError, before anything is written, where the guarantee cannot be had."""
    if accelerator.num_processes > 1:
        raise InputError(f"--dp-epsilon: runs in one process, here are {accelerator.num_processes}")
    if accelerator.scaler is not None:
        raise InputError("--dp-epsilon: not with fp16, whose gradient scaler skips steps: use bf16")
    if dataset is not None and not config.memory:
        plan_budget(config, [known_patient(frame) or "" for frame in dataset.train], 1)


def plan_budget(config: TrainLoraConfig, patients: Sequence[str], num_parameters: int) -> Budget:
    """The budget of a run over frames of these patients (empty: not known).

    InputError where a patient is not known, and where there are too few for the settings.
    """
    assert config.dp_epsilon is not None
    if unknown := sum(not patient for patient in patients):
        raise InputError(
            f"--dp-epsilon: {unknown} of {len(patients)} training frames have no patient_id, and "
            "the guarantee is for patients; `echodiff prepare folder --patient-regex` reads them "
            "from file names"
        )
    num_patients = len(set(patients))
    expected = config.batch_size * config.gradient_accumulation
    if expected > num_patients:
        raise InputError(
            f"--batch-size {config.batch_size}: with --dp-epsilon a step takes {expected} patients "
            f"on average, there are {num_patients}"
        )
    if config.dp_delta >= 1 / num_patients:
        raise InputError(
            f"--dp-delta {config.dp_delta:g}: must be below 1 / {num_patients}, one over the "
            "number of patients: publishing one of them at random would keep it"
        )
    num_steps = count_steps(
        num_patients, epochs=config.epochs, step_size=expected, max_steps=config.max_steps
    )
    return Budget(
        epsilon_asked=config.dp_epsilon,
        delta=config.dp_delta,
        clip=config.dp_clip,
        noise_multiplier=find_noise_multiplier(
            config.dp_epsilon,
            config.dp_delta,
            expected / num_patients,
            num_steps,
            config.dp_accountant,
        ),
        num_patients=num_patients,
        patients_per_step=expected,
        num_steps=num_steps,
        num_parameters=num_parameters,
        accountant=config.dp_accountant,
        noise=config.dp_noise,
    )


def open_private(
    config: TrainLoraConfig,
    encoded: EncodedFrames,
    objective: Objective,
    num_parameters: int,
    store: Path | None,
) -> PrivateTraining:
    """Plan the budget of a run over `encoded`, and open its key.

    store: folder that keeps the key until the run is finished. None: nothing is kept, and the first
    frame stands for as many patients as a step takes, for a measurement of memory.
    """
    if store is None:
        encoded = _repeat_frame(encoded, config.batch_size * config.gradient_accumulation)
    budget = plan_budget(config, encoded.patients, num_parameters)
    is_secret = config.dp_noise == "secret" and store is not None
    key = open_key(store) if is_secret and store else key_from_seed(config.seed)
    samples = PatientSamples(config, encoded, objective, budget, key)
    return PrivateTraining(config, budget, key, samples)


def _repeat_frame(encoded: EncodedFrames, count: int) -> EncodedFrames:
    rows = torch.zeros(count, dtype=torch.long)
    return replace(
        encoded,
        file_names=encoded.file_names[:1] * count,
        latent_mean=encoded.latent_mean[rows],
        latent_std=encoded.latent_std[rows],
        caption_index=encoded.caption_index[rows],
        patients=tuple(map(str, range(count))),
    )
