"""Train a denoising network or parts of it: draws, steps, state and saved files."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint as recompute

from echodiff.diffusion.condition import KeptOfStep
from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.objective import Objective, compute_losses
from echodiff.diffusion.samples import (
    SampleOrder,
    Samples,
    count_steps,
    gather_samples,
    sample_step,
)
from echodiff.training.average import average_pull, averaged, copy_values, update_average
from echodiff.training.checkpoints import Checkpoint, optimizer_tensors, restore_optimizer
from echodiff.training.graphs import (
    CudaGraph,
    StepRunner,
    can_capture,
    choose_compile,
    compile_network,
    put,
    uncompiled,
)
from echodiff.training.loop import GRADIENT_NORM

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.diffusion.private_training import PrivateTraining

logger = logging.getLogger(__name__)

COUNTS_ON_CPU = "this optimizer counts its steps on the CPU"
OTHER_SIZES = "with differential privacy every step has another number of frames"

PredictWith = Callable[[torch.nn.Module, torch.Tensor, Samples], torch.Tensor]
"""Network, noisy latents (B, C, h, w) and their samples to a prediction of the same shape."""


def predict_from_text(
    network: torch.nn.Module, noisy: torch.Tensor, samples: Samples
) -> torch.Tensor:
    """Return the prediction of a UNet of Stable Diffusion for a time and a caption."""
    prediction: torch.Tensor = network(
        noisy, samples.times, encoder_hidden_states=samples.embeddings
    ).sample
    return prediction


class StepSamples:
    """What step n of a run trains on, a function of (seed, n); of it, what this process sees."""

    def __init__(
        self,
        config: DenoisingConfig,
        encoded: EncodedFrames,
        objective: Objective,
        accelerator: "Accelerator",
        draw_kept: KeptOfStep | None = None,
    ) -> None:
        is_captioned = [row > 0 for row in encoded.caption_index.tolist()]
        self.size = config.batch_size * config.gradient_accumulation
        self._order = SampleOrder(is_captioned, repeats=config.repeats, seed=config.seed)
        self.num_steps = count_steps(
            len(self._order), epochs=config.epochs, step_size=self.size, max_steps=config.max_steps
        )
        null_weight = config.regularization_weight
        self._frame_weights = torch.tensor(
            [1.0 if known else null_weight for known in is_captioned]
        )
        self._rows = rows_of_process(config, accelerator)
        self._num_processes = accelerator.num_processes
        self._config, self._encoded, self._objective = config, encoded, objective
        self._draw_kept = draw_kept

    def draw(self, step: int) -> tuple[Samples, torch.Tensor]:
        """Samples of step number `step` (0 is the first), all passes in a row, with their shares.

        The loss of the step is the sum of share times loss, averaged over all processes.
        """
        drawn = sample_step(
            self._order,
            step=step,
            count=self.size,
            latent_shape=self._encoded.latent_mean.shape[1:],
            draw_times=self._objective.draw_times,
            caption_dropout=self._config.caption_dropout,
            noise_offset=self._config.noise_offset,
        )
        if self._draw_kept is not None:
            drawn = replace(drawn, kept=self._draw_kept(step, self.size))
        weights = self._frame_weights[drawn.indices] * self._objective.weight
        # Gradients are averaged over processes: each counts its share so many times.
        shares = weights[self._rows] * self._num_processes / self.size
        return gather_samples(self._encoded, drawn, self._rows), shares

    def file_names(self, step: int) -> list[str]:
        """Frames of step number `step`, over all processes, each named once."""
        rows = self._order.take(step * self.size, self.size).tolist()
        return list(dict.fromkeys(self._encoded.file_names[row] for row in rows))


class DenoisingTrainer:
    """Trains `parameters` of `network` for an objective (`training.loop.Trainer`).

    network: a diffusers model. parameters: name to parameter of those that are trained; all others
    must be frozen. prefix: of their names in a checkpoint. predict: how `network` is
    called; with several processes it is given the network wrapped. draw_kept: drop-out of masks
    and labels, if the frames have masks. private: draws and noise of differential privacy.
    """

    names: tuple[str, ...] = ("loss", GRADIENT_NORM)

    def __init__(
        self,
        config: DenoisingConfig,
        accelerator: "Accelerator",
        network: Any,
        encoded: EncodedFrames,
        *,
        objective: Objective,
        parameters: Mapping[str, torch.nn.Parameter],
        prefix: str,
        predict: PredictWith = predict_from_text,
        draw_kept: KeptOfStep | None = None,
        private: "PrivateTraining | None" = None,
    ) -> None:
        self._config, self._accelerator, self.objective = config, accelerator, objective
        self.private = private
        self._samples = (
            StepSamples(config, encoded, objective, accelerator, draw_kept)
            if private is None
            else private.samples
        )
        self._prefix, self.predict = prefix, predict
        self.num_steps = self._samples.num_steps
        device = accelerator.device
        network.train()
        if config.gradient_checkpointing:
            # No layer draws at random: no generator's state to keep, which a capture forbids.
            network.enable_gradient_checkpointing(
                partial(recompute, use_reentrant=False, preserve_rng_state=False)
            )
        if device.type == "cuda":
            network.to(memory_format=torch.channels_last)  # what convolutions on tensor cores read
        self._compiled = choose_compile(
            config.compile if private is None else "none",
            device,
            num_steps=self.num_steps,
            batch_size=max(1, config.batch_size // accelerator.num_processes),
            latent_side=int(encoded.latent_mean.shape[-1]),
        )
        compile_network(network, self._compiled)
        self.parameters = dict(parameters)
        self.average = {
            name: parameter.detach().to(device, copy=True)
            for name, parameter in self.parameters.items()
            if config.ema_decay is not None
        }
        obstacle = None if config.optimizer == "adam" else COUNTS_ON_CPU
        obstacle = obstacle if private is None else OTHER_SIZES
        captures = can_capture(accelerator, obstacle=obstacle)
        optimizer = build_optimizer(
            config, list(self.parameters.values()), device, capturable=captures
        )
        self._network, self._optimizer = accelerator.prepare(network, optimizer)
        self._pull: float | torch.Tensor = torch.zeros((), device=device) if captures else 0.0
        graph = CudaGraph(device) if captures else None
        self._run = StepRunner(self._step, device, compiled=self._compiled, graph=graph)
        self._private_gradient = None
        if private is not None:
            self._private_gradient = private.build_gradient(
                network, self.parameters, self._optimizer.optimizer, objective, predict
            )

    def run(self, step: int) -> torch.Tensor:
        """Take step number `step` (0 is the first); its (loss, gradient norm), on the device."""
        samples, shares = self._samples.draw(step)
        for group in self._optimizer.param_groups:
            group["lr"] = put(self.learning_rate(step), group["lr"])
        if self._config.ema_decay is not None:
            self._pull = put(average_pull(self._config.ema_decay, step + 1), self._pull)
        if self._private_gradient is not None:
            values = self._private_gradient.take(step, samples, shares)
            update_average(self.average, self.parameters, self._pull)
            return values
        return self._run(*samples.tensors(), shares)

    def _step(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Passes, clipping, Adam, average: what a CUDA graph holds."""
        accelerator, parameters = self._accelerator, list(self.parameters.values())
        predict = partial(self.predict, self._network)
        self._optimizer.zero_grad()
        step_loss = torch.zeros((), device=accelerator.device)
        num_passes = self._config.gradient_accumulation
        passes = list(zip(*(rows.chunk(num_passes) for rows in inputs), strict=True))
        for number, (*samples, shares) in enumerate(passes, start=1):
            is_last = number == num_passes
            with nullcontext() if is_last else accelerator.no_sync(self._network):
                losses = compute_losses(predict, self.objective, Samples(*samples))
                loss = (losses * shares).sum()
                accelerator.backward(loss)
            step_loss += loss.detach()
        norm = accelerator.clip_grad_norm_(parameters, self._config.max_grad_norm)
        self._optimizer.step()
        update_average(self.average, self.parameters, self._pull)
        return torch.stack([step_loss, norm.detach().to(step_loss)])

    def learning_rate(self, step: int) -> float:
        """Rate of step number `step` (0 is the first): a function of the step, nothing to save."""
        return learning_rate_at(step, self.num_steps, self._config)

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """Yield the network, with the averaged weights if there are any, and uncompiled."""
        with averaged(self.parameters, self.average), uncompiled(self._compiled):
            yield self._accelerator.unwrap_model(self._network)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, by name."""
        named: dict[str, torch.Tensor] = {
            f"{self._prefix}.{name}": parameter for name, parameter in self.parameters.items()
        }
        named |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        named |= optimizer_tensors(self._optimizer.optimizer, self.parameters)
        named |= {} if self.private is None else self.private.tensors()
        return named | {f"scaler.{k}": torch.tensor(float(v)) for k, v in self._scaler().items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `tensors` returned."""
        tensors, prefix = checkpoint.tensors, self._prefix
        if self.private is not None:
            self.private.refuse_other(tensors)
        copy_values({n: tensors[f"{prefix}.{n}"] for n in self.parameters}, self.parameters)
        copy_values({n: tensors[f"average.{n}"] for n in self.average}, self.average)
        restore_optimizer(self._optimizer.optimizer, self.parameters, tensors)
        if scaler := self._scaler():
            # Each value in its own type: the scaler's counts are whole numbers.
            saved = {k: type(v)(tensors[f"scaler.{k}"].item()) for k, v in scaler.items()}
            self._accelerator.scaler.load_state_dict(saved)

    def _scaler(self) -> dict[str, float]:
        """State of the gradient scaler of fp16; empty where there is none."""
        scaler = self._accelerator.scaler
        return {} if scaler is None else scaler.state_dict()

    def frames_of(self, step: int) -> str:
        """The frames that step number `step` is trained on."""
        return f"frames {', '.join(self._samples.file_names(step))}"


def build_optimizer(
    config: DenoisingConfig,
    parameters: Sequence[torch.nn.Parameter],
    device: torch.device,
    *,
    capturable: bool,
) -> torch.optim.Optimizer:
    """Build Adam as set in `config`; on CUDA one launch per step, which a graph can hold."""
    is_cuda = device.type == "cuda"
    if config.optimizer == "adam8bit":
        if is_cuda:
            from bitsandbytes.optim import Adam8bit

            return Adam8bit(parameters, weight_decay=config.weight_decay)
        logger.warning("--optimizer adam8bit needs an NVIDIA GPU: Adam's state stays float32")
    if not is_cuda:
        return torch.optim.Adam(parameters, weight_decay=config.weight_decay)
    rate = torch.tensor(config.learning_rate, device=device)  # a graph reads this tensor
    return torch.optim.Adam(
        parameters, lr=rate, weight_decay=config.weight_decay, fused=True, capturable=capturable
    )


def rows_of_process(config: DenoisingConfig, accelerator: "Accelerator") -> torch.Tensor:
    """Rows of a step's draw that this process sees, pass by pass, of each pass as many."""
    rank, num_processes = accelerator.process_index, accelerator.num_processes
    batch_size = config.batch_size
    return torch.cat(
        [
            torch.arange(start + rank, start + batch_size, num_processes)
            for start in range(0, batch_size * config.gradient_accumulation, batch_size)
        ]
    )


def learning_rate_at(step: int, num_steps: int, config: DenoisingConfig) -> float:
    """Rate of step number `step` (0 is the first) of `num_steps`."""
    if step < config.lr_warmup:
        return config.learning_rate * (step + 1) / config.lr_warmup
    share = (step - config.lr_warmup) / max(1, num_steps - config.lr_warmup)
    match config.lr_scheduler:
        case "constant":
            factor = 1.0
        case "linear":
            factor = 1.0 - share
        case "cosine":
            factor = 0.5 * (1.0 + math.cos(math.pi * share))
    return config.learning_rate * factor
