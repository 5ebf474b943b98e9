"""Align two image windows and compare their grain, to tell whether one is a copy of the other.

Speckle and noise differ from image to image. Two frames of one view share their sector and their
anatomy, never their grain; a copy keeps its grain through mirroring, cropping, JPEG and changes of
brightness.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

QUERY_PX = 96
MARGIN = 0.15
"""A partner extends beyond the window by this share of its sides, on each side."""
PARTNER_PX = round(QUERY_PX * (1 + 2 * MARGIN))
_LEVELS = ((32, 10), (64, 6))
"""Size (pixels) and number of steps of the alignment, coarse to fine."""
_FLAT = 4 / 255
"""Standard deviation of grey values (0..1) below which an area counts as flat."""
_LONGEST_STEP = 0.08
_GRAIN_RADIUS = 2
"""Structure smoother than this (pixels of 96) is removed."""
_BLOCKS = 8
"""Blocks along each side whose grain is compared."""
_TEXTURED = 0.15
"""Mean square of the normalised grain from which on a block counts as textured."""
_LEAST_BLOCKS = 10
_BEST_SHARE = 0.3
"""The score is what this share of the blocks reaches: the others may be covered."""


class Aligned(NamedTuple):
    """Affine maps from queries to their partners, and how similar they are when aligned."""

    maps: Tensor
    """(N, 2, 3)."""
    likeness: Tensor
    """(N,): correlation, -1 to 1."""


def align(queries: Tensor, partners: Tensor) -> Aligned:
    """Align coarsely: queries (N, 96, 96) in 0..1, partners with a margin (N, 125, 125)."""
    maps = torch.zeros(len(queries), 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / (1 + 2 * MARGIN)
    return _descend(queries, partners, maps, *_LEVELS[0])


def refine(queries: Tensor, partners: Tensor, maps: Tensor) -> Tensor:
    """Align to less than a pixel and compare the grain; return (N,) scores, 0 to 1.

    The score is the correlation that the best 30 % of the textured blocks reach, or 0 if there are
    too few textured blocks.
    """
    maps = _descend(queries, partners, maps, *_LEVELS[1]).maps
    query = _normalise(queries, _GRAIN_RADIUS)
    warped, inside = _warp(_normalise(partners, _GRAIN_RADIUS), maps, QUERY_PX)
    query, warped = query * inside, warped * inside
    side = QUERY_PX // _BLOCKS
    squares = _pool(query * query, side)
    both = _pool(query * warped, side)
    correlation = both / (squares * _pool(warped * warped, side)).sqrt().clamp_min(1e-3)
    is_textured = squares > _TEXTURED
    count = is_textured.sum(1)
    ordered = correlation.masked_fill(~is_textured, -1).sort(1, descending=True).values
    place = (count * _BEST_SHARE).long().clamp_max(ordered.shape[1] - 1)
    scores = ordered.gather(1, place[:, None])[:, 0].clamp_min(0)
    return scores * (count >= _LEAST_BLOCKS)


def _descend(queries: Tensor, partners: Tensor, maps: Tensor, size: int, steps: int) -> Aligned:
    """Gauss-Newton on the squared difference of the normalised images (Baker and Matthews, IJCV 56,
    2004, additive). Flat pixels of the query have no weight, pixels that differ a lot have little.
    """
    radius = max(2, size // 10)
    query = _normalise(_shrink(queries, size), radius)
    partner = _normalise(_shrink(partners, round(size * (1 + 2 * MARGIN))), radius)
    if size == _LEVELS[0][0]:
        query, partner = _blur(query, 1), _blur(partner, 1)
    slopes = torch.zeros(len(partner), 2, *partner.shape[1:])
    half = partner.shape[-1] / 4  # coordinates run from -1 to 1
    slopes[:, 0, :, 1:-1] = (partner[:, :, 2:] - partner[:, :, :-2]) * half
    slopes[:, 1, 1:-1] = (partner[:, 2:] - partner[:, :-2]) * half
    channels = torch.cat([partner[:, None], slopes], 1)
    along = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = (axis.reshape(-1) for axis in torch.meshgrid(along, along, indexing="ij"))
    flat = query.flatten(1)
    seen = (flat.abs() > 0.1).float()
    for _ in range(steps):
        grid = functional.affine_grid(maps, [len(maps), 1, size, size], align_corners=False)
        warped = functional.grid_sample(channels, grid, align_corners=False).flatten(2)
        values, by_x, by_y = warped.unbind(1)
        gain = ((flat * values).sum(1) / values.square().sum(1).clamp_min(1e-6)).clamp(0.2, 2)
        error = flat - gain[:, None] * values
        weight = seen / (1 + error.square())
        jacobian = torch.stack([by_x * x, by_x * y, by_x, by_y * x, by_y * y, by_y], 1)
        jacobian = jacobian * gain[:, None, None]
        weighted = jacobian * weight[:, None]
        hessian = weighted @ jacobian.transpose(1, 2)
        damping = 1e-3 * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2)) + 1e-3 * torch.eye(6)
        step = torch.linalg.solve(hessian + damping, weighted @ error[..., None])
        maps = maps + step.reshape(-1, 2, 3).clamp(-_LONGEST_STEP, _LONGEST_STEP)
    warped, inside = _warp(partner, maps, size)
    a, b = (image.mul(inside).flatten(1) for image in (query, warped))
    likeness = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-6)
    return Aligned(maps, likeness)


def _warp(images: Tensor, maps: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Warp images to their queries' coordinates; return them and a mask, (N, size, size) each."""
    grid = functional.affine_grid(maps, [len(maps), 1, size, size], align_corners=False)
    warped = functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
    return warped, (grid.abs().amax(-1) < 1 - 1 / images.shape[-1]).float()


def _normalise(images: Tensor, radius: int) -> Tensor:
    """Subtract the local mean and divide by the local standard deviation."""
    mean = _blur(images, radius)
    variance = (_blur(images * images, radius) - mean * mean).clamp_min(0)
    return (images - mean) / (variance + _FLAT**2).sqrt()


def _blur(images: Tensor, radius: int) -> Tensor:
    padded = functional.pad(images[:, None], (radius,) * 4, mode="replicate")
    rows = functional.avg_pool2d(padded, (2 * radius + 1, 1), 1)
    return functional.avg_pool2d(rows, (1, 2 * radius + 1), 1)[:, 0]


def _shrink(images: Tensor, size: int) -> Tensor:
    return functional.interpolate(images[:, None], (size, size), mode="area")[:, 0]


def _pool(images: Tensor, side: int) -> Tensor:
    return functional.avg_pool2d(images[:, None], side)[:, 0].flatten(1)
