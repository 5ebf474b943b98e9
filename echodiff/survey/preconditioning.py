"""What a denoising network is scaled by, so that its input and its target have variance near 1.

Without it, a network that predicts the noise must copy its noisy input to within a hundredth before
it can tell anything of the image, and a short training draws grey noise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from echodiff.diffusion.objective import Objective


class Scales(NamedTuple):
    """Factors (B, 1, 1, 1): the prediction is skip x + out network(inside x) for a noisy x."""

    inside: Tensor
    skip: Tensor
    out: Tensor


def compute_scales(objective: Objective, times: Tensor, deviation: float) -> Scales:
    """Scales at times (B,) for images of root mean square `deviation`.

    Karras et al. 2022, eq. 7 and appendix B.6, for any target that is linear in image and noise:
    skip is the best linear estimate of the target from x, and out what is left to be predicted.
    """
    one = torch.ones(len(times), 1, 1, 1, device=times.device)
    image, noise = (objective.mix(a, b, times) for a, b in ((one, 0 * one), (0 * one, one)))
    of_image, of_noise = (
        objective.target(a, b, times) for a, b in ((one, 0 * one), (0 * one, one))
    )
    variance = noise**2 + (image * deviation) ** 2
    return Scales(
        inside=variance.rsqrt(),
        skip=(of_noise * noise + of_image * image * deviation**2) / variance,
        out=(of_noise * image - of_image * noise).abs() * deviation * variance.rsqrt(),
    )
