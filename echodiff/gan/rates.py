"""How many steps a translation takes, and at which share of its learning rate each is taken."""

import math

from echodiff.gan.gan_config import TrainGanConfig


def count_steps(config: TrainGanConfig, epoch: int) -> int:
    """Steps of the whole training for epochs of `epoch` images."""
    if config.steps is not None:
        return config.steps
    return math.ceil((config.epochs + config.decay_epochs) * epoch / config.batch_size)


def rate_epoch(step: int, num_steps: int, epoch: int, config: TrainGanConfig) -> int:
    """Number of the epoch, of `epoch` images, whose rate step number `step` has (0 is the first).

    Where `steps` are asked for, they are shared out over the epochs as if these ended with them.
    """
    if config.steps is None:
        return step * config.batch_size // epoch
    return step * (config.epochs + config.decay_epochs) // num_steps


def rate_factor(epoch: int, config: TrainGanConfig) -> float:
    """Share of the learning rate in epoch number `epoch` (0 is the first).

    The last epoch of the decay still learns, with 1 / (decay_epochs + 1): in the published code
    of 2020 the rate reached 0 before it.
    """
    done = max(0, epoch + 1 - config.epochs)
    return 1.0 - min(done, config.decay_epochs) / (config.decay_epochs + 1)
