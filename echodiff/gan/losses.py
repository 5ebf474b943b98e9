"""Losses of the translation methods. Pure functions; all are means, so that weights are free of
sizes and counts.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from echodiff.gan.names import Adversarial


def compute_adversarial(
    logits: torch.Tensor, *, is_real: bool, kind: Adversarial = "squares"
) -> torch.Tensor:
    """How far logits are from saying real (or fake): squares (Mao et al. 2017), or log loss.

    The log form is that of Goodfellow et al. 2014 with the non-saturating loss for the generator.
    """
    goal = torch.full_like(logits, float(is_real))
    if kind == "squares":
        return F.mse_loss(logits, goal)
    return F.binary_cross_entropy_with_logits(logits, goal)


def compute_patch_nce(
    queries: Sequence[torch.Tensor], keys: Sequence[torch.Tensor], temperature: float
) -> torch.Tensor:
    """PatchNCE (Park et al., ECCV 2020, equation 4), mean over patches, then over layers.

    queries, keys: (N, P, D) of each layer, unit vectors; query i of an image belongs to its key i
    and to no other key of that image.
    """
    losses = []
    for query, key in zip(queries, keys, strict=True):
        # The published code sets the positive next to the row and -10 in its place in it: e^-140
        # of the sum. Leaving it where it is gives the same number with less.
        logits = query @ key.transpose(1, 2) / temperature
        goal = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
        losses.append(F.cross_entropy(logits.flatten(0, 1), goal.flatten()))
    return torch.stack(losses).mean()
