"""Train the segmenter: a U-Net that labels the heart in a frame, also where it is broken."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from echodiff.anatomy import Label
from echodiff.files import write_json_atomic
from echodiff.metrics.segmenter import (
    CHANNELS,
    CONFIG,
    LABELS,
    WEIGHTS,
    SegmenterNetwork,
    describe_network,
)
from echodiff.pretrain.broken_hearts import (
    CHAMBERS,
    WALLS,
    Painted,
    break_heart,
    draw_smooth,
    find_sector,
    warp,
)
from echodiff.pretrain.corpus import SIZE, Corpus
from echodiff.pretrain.stage import (
    Stage,
    Stateful,
    autocast_bf16,
    cosine,
    follow,
    set_rate,
    step_generators,
    to_pm1,
)

BROKEN_SHARE = 0.6
"""Part of the frames whose heart is broken."""
AVERAGE = 0.995
"""Share of the averaged weights that a step keeps."""
OPEN, GONE = 128, 64
"""Added to the labels where a wall was painted over with blood, and blood with anything."""
OPEN_WEIGHT, GONE_WEIGHT = 5.0, 2.0
"""Of those pixels in the cross entropy. Sound walls drop out in places: without them, the network
draws a wall into every hole, and a chamber where one could be."""
_WEIGHTS = torch.tensor([0.8, 1, 1, 1, 1, 1, 1, 1, 2, 1])
"""Of each of `LABELS` in the cross entropy. Leaflets count more; walls do not, lest they be drawn
where there are none."""
_BOOST = np.array([1, GONE_WEIGHT, OPEN_WEIGHT], np.float32)


def train_segmenter(
    corpus: Corpus,
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
    start: SegmenterNetwork | None = None,
) -> tuple[SegmenterNetwork, dict[str, Any]]:
    """Train on all but the last tenth; return the network and its card with held-out figures.

    start: an earlier network whose weights are trained on, at half the rate. Default: random ones.
    """
    torch.manual_seed(seed)
    num_train = len(corpus.rows) * 9 // 10
    network = SegmenterNetwork(CHANNELS).to(device)
    if start is not None:
        network.load_state_dict(start.state_dict())
    most = 2e-3 if start is None else 1e-3
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    parts: dict[str, Stateful] = {"network": network, "average": average, "opt": optimizer}
    stage = Stage(folder / "segmenter.pt", steps, parts)
    weights = _WEIGHTS.to(device)
    batches = iter(
        DataLoader(
            _Batches(corpus, num_train, batch_size, seed), None,
            sampler=range(stage.first, steps), num_workers=2, collate_fn=_keep,
        )
    )  # fmt: skip
    for step, bar in stage.run("segmenter"):
        set_rate(optimizer, most * cosine(step, steps, 50))
        images_u8, marked = next(batches)
        images = to_pm1(images_u8, torch.device(device))
        target = _to_target(marked % GONE).to(device)
        boost = torch.from_numpy(_BOOST[marked // GONE]).to(device)
        with autocast_bf16(device):
            logits = network(images)
        logits = logits.float()
        per_pixel = functional.cross_entropy(logits, target, weights, reduction="none")
        loss = (per_pixel * boost).sum() / (weights[target] * boost).sum()
        loss = loss + _dice_loss(logits, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        follow(average, network, min(AVERAGE, (step + 1) / (step + 10)))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    average.eval().cpu()
    return average, describe_network(average, CHANNELS) | _measure(average, corpus, num_train, seed)


class _Batches(Dataset[Painted]):
    """Step to images and marked labels (B, 128, 128), drawn by other processes than the one that
    trains: frames take about as long as the network."""

    def __init__(self, corpus: Corpus, num: int, batch_size: int, seed: int) -> None:
        self.corpus, self.num, self.batch_size, self.seed = corpus, num, batch_size, seed

    def __getitem__(self, step: int) -> Painted:
        rng, _ = step_generators(self.seed, 7, step)
        chosen = rng.integers(self.num, size=self.batch_size)
        frames = [_vary(self.corpus, int(index), self.num, rng) for index in chosen]
        return Painted(*(np.stack(parts) for parts in zip(*frames, strict=True)))


def _keep(batch: Any) -> Any:
    return batch


def export_segmenter(folder: Path, network: SegmenterNetwork, card: dict[str, Any]) -> None:
    """Write `model.safetensors` (fp16) and `config.json` (labels and held-out figures)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    write_json_atomic(folder / CONFIG, card)


def _vary(corpus: Corpus, index: int, num: int, rng: np.random.Generator) -> Painted:
    """A training frame: bent, often broken, with another gain, blur, grain and shadows.

    `OPEN` is added to labels of blood that was a wall, `GONE` to labels of what was blood.
    """
    frame = _get_frame(corpus, index)
    if rng.random() < BROKEN_SHARE:
        was_wall, was_blood = np.isin(frame.labels, WALLS), np.isin(frame.labels, CHAMBERS)
        frame = break_heart(frame, _get_frame(corpus, int(rng.integers(num))), rng)
        is_blood = np.isin(frame.labels, CHAMBERS)
        mark = OPEN * (was_wall & is_blood) + GONE * (was_blood & ~is_blood)
        frame = frame._replace(labels=(frame.labels + mark).astype(np.uint8))
    if rng.random() < 0.5:
        frame = warp(frame, rng, float(rng.uniform(0.005, 0.025)))
    shift = tuple(int(step) for step in rng.integers(-6, 7, size=2))
    image, labels = (ndimage.shift(part, shift, order=0) for part in frame)
    return Painted(_degrade(image, rng), labels)


def _get_frame(corpus: Corpus, index: int) -> Painted:
    assert corpus.labels is not None
    return Painted(corpus.images_u8[index], corpus.labels[index])


def _degrade(image_u8: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Grey map, drop-out in patches and along beams, blur and grain; the anatomy is the same.

    Drop-out stays weak: where a wall is as dark as blood, nothing tells it from a tear.
    """
    sector = find_sector(image_u8)
    image = (image_u8 / 255.0) ** rng.uniform(0.75, 1.35) * rng.uniform(0.85, 1.15)
    if rng.random() < 0.5:
        y, x = np.mgrid[:SIZE, :SIZE]
        angle = np.arctan2(x - SIZE / 2, y + 4.0)
        beam = np.exp(-0.5 * ((angle - rng.uniform(-0.6, 0.6)) / rng.uniform(0.03, 0.1)) ** 2)
        image = image * (1 - rng.uniform(0.1, 0.4) * beam * (y > rng.uniform(0, 0.6) * SIZE))
    if rng.random() < 0.5:
        patches = draw_smooth(image.shape, 10 / SIZE, rng)
        image = image * (1 - rng.uniform(0.1, 0.3) * np.clip(patches, 0, 1))
    if rng.random() < 0.4:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.9))
    image = image + rng.uniform(0, 0.05) * rng.normal(size=image.shape)
    return np.asarray(np.rint(255 * np.clip(image, 0, 1) * sector), np.uint8)


def _to_target(labels: NDArray[np.uint8]) -> Tensor:
    """`Label` values to places in `LABELS`; those that are not told apart are background."""
    table = np.zeros(256, np.int64)
    for place, label in enumerate(LABELS):
        table[label] = place
    return torch.from_numpy(table[labels])


def _dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the mean overlap of the labels but background, over the batch."""
    probability = logits.softmax(1)
    truth = functional.one_hot(target, len(LABELS)).movedim(-1, 1).to(probability.dtype)
    both = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    return 1 - ((2 * both + 1) / (total + 1))[1:].mean()


def _measure(
    network: SegmenterNetwork, corpus: Corpus, num_train: int, seed: int
) -> dict[str, Any]:
    """Overlap (Dice) by label on held-out frames, as rendered and with broken hearts."""
    num = len(corpus.rows) - num_train
    sound = [_get_frame(corpus, index) for index in range(num_train, num_train + num)]
    rng = np.random.default_rng([seed, 7])
    broken = [break_heart(frame, sound[rng.integers(num)], rng) for frame in sound]
    figures = {}
    for name, frames in (("sound", sound), ("broken", broken)):
        images = to_pm1(np.stack([frame.image_u8 for frame in frames]), torch.device("cpu"))
        with torch.inference_mode():
            found = torch.cat([network(batch).argmax(1) for batch in images.split(32)])
        target = _to_target(np.stack([frame.labels for frame in frames]))
        figures[name] = {
            Label(label).name.lower(): _measure_dice(found == place, target == place)
            for place, label in enumerate(LABELS) if place
        }  # fmt: skip
    return {"held_out": {"n": num, "dice": figures}}


def _measure_dice(first: Tensor, second: Tensor) -> float:
    return round(float(2 * (first & second).sum() / max(1, int(first.sum() + second.sum()))), 4)
