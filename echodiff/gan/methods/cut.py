"""One training step of CUT and FastCUT (Park et al., ECCV 2020)."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from echodiff.gan.losses import compute_adversarial, compute_patch_nce
from echodiff.gan.names import Adversarial
from echodiff.gan.networks.generators import PatchProjection, ResNet
from echodiff.gan.pool import ImagePool
from echodiff.gan.updates import Autocast, detached, frozen, run_together, update

LAYERS = (0, 4, 8, 12, 16)
"""Of the anti-aliased generator: padded pixels, both halvings before their norm, blocks 1 and 5."""


class CutDraw(NamedTuple):
    """What a step draws at random beside its images."""

    source_places: tuple[torch.Tensor, ...]
    """(P,) of each layer: where patches of source and fake are compared, row by row."""
    target_places: tuple[torch.Tensor, ...]
    """The same for target and its identity."""
    is_flipped: bool
    """Whether the generator sees mirrored images (flip equivariance)."""


class Cut:
    """Discriminator first, then generator and projection; no pool, all norms per instance.

    nets: G (anti-aliased), D, F. optimizers: G, D, F. `feature_sizes` are (channels, positions) of
    `layers`, from `measure_features`. With `identity_nce` (CUT) targets go through G too, and
    PatchNCE is the mean over both. `flip_equivariance` (FastCUT) mirrors half of the steps: of a
    heart, that is another diagnosis.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        feature_sizes: Sequence[tuple[int, int]],
        layers: Sequence[int] = LAYERS,
        nce_weight: float = 1.0,
        identity_nce: bool = True,
        flip_equivariance: bool = False,
        num_patches: int = 256,
        temperature: float = 0.07,
        adversarial: Adversarial = "squares",
        autocast: Autocast = nullcontext,
    ) -> None:
        self.nets, self.optimizers = nets, optimizers
        self.pools: Mapping[str, ImagePool] = {}
        self.feature_sizes, self.layers = feature_sizes, layers
        self.nce_weight, self.identity_nce = nce_weight, identity_nce
        self.names: tuple[str, ...] = (
            "D",
            "G",
            "NCE",
            *(("NCE_identity",) if identity_nce else ()),
        )
        self.flip_equivariance = flip_equivariance
        self.num_patches, self.temperature = num_patches, temperature
        self.adversarial, self.autocast = adversarial, autocast

    def sample(self, stream: np.random.Generator, step: int, count: int) -> CutDraw:
        """Draw for a step; the same places for all its images."""
        is_flipped = stream.random() < 0.5 and self.flip_equivariance
        source, target = (
            tuple(
                torch.from_numpy(
                    stream.choice(positions, min(self.num_patches, positions), replace=False)
                )
                for _, positions in self.feature_sizes
            )
            for _ in range(2)
        )
        return CutDraw(source, target, is_flipped)

    def step(
        self, source: torch.Tensor, target: torch.Tensor, draw: CutDraw
    ) -> dict[str, torch.Tensor]:
        """Train on source and target (N, C, H, W) each in -1..1; return every term, unweighted."""
        generator, discriminator = self.nets["G"], self.nets["D"]
        assert isinstance(generator, ResNet)
        parts = [source, target] if self.identity_nce else [source]
        images = torch.cat(parts)

        # --- Discriminator
        with self.autocast():
            given = images.flip(3) if draw.is_flipped else images
            outputs, features = generator.with_features(given, self.layers)
        fake = outputs[: len(source)]
        with self.autocast():
            judged = run_together(discriminator, [fake.detach(), target], together=True)
        losses = {
            "D": 0.5
            * (
                compute_adversarial(judged[0], is_real=False, kind=self.adversarial)
                + compute_adversarial(judged[1], is_real=True, kind=self.adversarial)
            )
        }
        update(self.optimizers["D"], losses["D"])

        # --- Generator and projection
        with frozen(discriminator), self.autocast():
            fooled = discriminator(fake)
        losses["G"] = compute_adversarial(fooled, is_real=True, kind=self.adversarial)
        with self.autocast():
            queries = generator.encode(outputs, self.layers)
            if draw.is_flipped:
                queries = [query.flip(3) for query in queries]
                with torch.no_grad():
                    features = generator.encode(images, self.layers)
            places = [draw.source_places, draw.target_places]
            pairs = [
                self._project(queries, features, slice(i * len(source), (i + 1) * len(source)), at)
                for i, at in zip(range(len(parts)), places, strict=False)
            ]
        terms = [compute_patch_nce(query, key, self.temperature) for query, key in pairs]
        losses |= dict(zip(("NCE", "NCE_identity"), terms, strict=False))
        total = losses["G"] + self.nce_weight * torch.stack(terms).mean()
        self.optimizers["F"].zero_grad()
        update(self.optimizers["G"], total)
        self.optimizers["F"].step()
        return detached(losses)

    def _project(
        self,
        queries: Sequence[torch.Tensor],
        features: Sequence[torch.Tensor],
        rows: slice,
        places: Sequence[torch.Tensor],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Queries and keys of these rows on the unit sphere; keys are facts, not to be moved.

        The features of the generator's own pass over its input are the keys, without another pass.
        """
        projection = self.nets["F"]
        with torch.no_grad():
            keys = projection([feature[rows].detach() for feature in features], places)
        return projection([query[rows] for query in queries], places), keys


def measure_features(
    generator: ResNet, channels: int, side: int, layers: Sequence[int] = LAYERS
) -> list[tuple[int, int]]:
    """(channels, positions) of each of `layers` for images of `side` pixels; nothing is run."""
    outline = copy.deepcopy(generator).float().to("meta")
    features = outline.encode(torch.empty(1, channels, side, side, device="meta"), layers)
    return [(feature.shape[1], feature.shape[2] * feature.shape[3]) for feature in features]


def build_projection(feature_sizes: Sequence[tuple[int, int]], seed: int) -> PatchProjection:
    """The network F for features of these sizes."""
    return PatchProjection([channels for channels, _ in feature_sizes], seed=seed)
