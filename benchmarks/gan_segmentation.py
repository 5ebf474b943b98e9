"""A small U-Net that finds LV, its wall and LA in an echo: a ruler for generated frames."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, read_mask_u8, resize_mask, resize_u8, to_gray_u8
from echodiff.metrics.resampling import Z_95, build_groups, sample_halves

LABELS = (1, 2, 3)
"""LV, its wall, LA; everything else is background."""


class SmallUNet(nn.Module):
    """Four halvings with skips; (N, 1, S, S) in 0..1 -> (N, 4, S, S) logits."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        counts = [1, *(width * 2**level for level in range(4))]
        self.down = nn.ModuleList(map(_block, counts[:-1], counts[1:]))
        self.up = nn.ModuleList(
            _block(low + high, high)
            for low, high in zip(counts[:1:-1], counts[-2:0:-1], strict=True)
        )
        self.head = nn.Conv2d(width, len(LABELS) + 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        kept = []
        for level, block in enumerate(self.down):
            image = block(F.max_pool2d(image, 2) if level else image)
            kept.append(image)
        image = kept.pop()
        for block, skip in zip(self.up, reversed(kept), strict=True):
            image = block(torch.cat([F.interpolate(image, scale_factor=2.0), skip], dim=1))
        return self.head(image)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
    )  # fmt: skip


def train_segmentation(
    frames: Path, file: Path, *, side: int, steps: int = 200, batch_size: int = 8
) -> SmallUNet:
    """Train on the train split of `frames`, or read what was trained."""
    torch.manual_seed(0)
    net = SmallUNet()
    if file.exists():
        net.load_state_dict(load_file(file))
        return net.eval()
    images = read_images(frames, "train", side)
    masks = torch.from_numpy(read_masks(frames, "train", side)).long()
    masks = torch.where(masks <= max(LABELS), masks, 0)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in tqdm(range(steps), desc="segmentation"):
        rows = torch.randint(len(images), (batch_size,), generator=generator)
        # Generated frames are smoother or noisier than real ones: the ruler should not mind.
        given = images[rows] * (0.7 + 0.6 * torch.rand(batch_size, 1, 1, 1, generator=generator))
        logits = net(given)
        loss = F.cross_entropy(logits, masks[rows]) + _soft_dice(logits, masks[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    save_file(net.state_dict(), file)
    return net.eval()


def _soft_dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    shares = logits.softmax(1)[:, 1:]
    truth = F.one_hot(masks, len(LABELS) + 1).permute(0, 3, 1, 2)[:, 1:]
    both = (shares * truth).sum((2, 3))
    return 1 - ((2 * both + 1) / (shares.sum((2, 3)) + truth.sum((2, 3)) + 1)).mean()


def read_images(frames: Path, split: str | None, side: int) -> torch.Tensor:
    """(N, 1, S, S) in 0..1 of a split, in the order of the rows."""
    chosen = [frame for frame in load_frames(frames) if split in (None, frame.split)]
    images = [resize_u8(to_gray_u8(read_image_u8(frames / f.file_name)), (side, side))
              for f in chosen]  # fmt: skip
    return torch.from_numpy(np.stack(images)).float()[:, None] / 255


def read_masks(frames: Path, split: str | None, side: int) -> np.ndarray:
    """(N, S, S) label numbers."""
    chosen = [frame for frame in load_frames(frames) if split in (None, frame.split)]
    return np.stack([resize_mask(read_mask_u8(frames / str(f.mask_file_name)), (side, side))
                     for f in chosen])  # fmt: skip


@torch.no_grad()
def dice_of_masks(net: SmallUNet, generated: Path, asked: np.ndarray) -> dict[int, dict]:
    """Mean Dice of each label over frames, with 95 % intervals by half-samples of patients.

    Row i of `generated` was drawn for mask i.
    """
    images = read_images(generated, None, asked.shape[-1])
    frames = load_frames(generated)
    assert len(images) == len(asked)
    found = torch.cat([net(rows).argmax(1) for rows in images.split(16)]).numpy()
    groups = build_groups([("patient", frame.patient_id) for frame in frames])
    halves = sample_halves(groups, 400, np.random.default_rng(0))
    scores = {}
    for label in LABELS:
        ours, theirs = found == label, asked == label
        sizes = ours.sum((1, 2)) + theirs.sum((1, 2))
        dice = 2 * (ours & theirs).sum((1, 2)) / np.maximum(sizes, 1)
        spread = Z_95 * np.std(halves @ dice / halves.sum(axis=1), ddof=1)
        mean = float(dice.mean())
        scores[label] = {"value": mean, "low": mean - spread, "high": mean + spread}
    return scores
