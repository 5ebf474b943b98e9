"""Callback of a translation's training: sample grids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from echodiff.anatomy import PALETTE
from echodiff.contact_sheet import contact_sheet
from echodiff.gan.dataset import Domain, TranslationSet
from echodiff.gan.preprocessing import from_values
from echodiff.gan.updates import in_inference
from echodiff.images import write_image


class SampleGrids:
    """Writes `samples/step-<step>.png` in the manner of Jha and Iima (ICAART 2024), figure 5.

    One column per image: source, translated, reconstructed where there is a way back, and a
    reference of the target. The middle of each image is shown.
    """

    has_start = False

    def __init__(
        self, dataset: TranslationSet, samples_dir: Path, resolution: int, *, every: int
    ) -> None:
        self.samples_dir, self.every = samples_dir, every
        source, target = dataset.watched_source, dataset.watched_target
        count = min(len(source.frames), len(target.frames))
        self.source_images = _centre(source, count, resolution // dataset.scale)
        self.values = target.values
        is_held_out = [domain.frames[0].split == "val" for domain in (source, target)]
        self.titles = ["source" + " (held out)" * is_held_out[0],
                       ("target" if dataset.is_paired else "a target")
                       + " (held out)" * is_held_out[1]]  # fmt: skip
        self.sources = [_show(image, source.values) for image in self.source_images]
        self.targets = [_show(image, target.values) for image in _centre(target, count, resolution)]

    @torch.no_grad()
    def __call__(self, nets: Mapping[str, nn.Module], step: int) -> Mapping[str, float]:
        """Translate with the current networks, one image at a time; nothing is logged."""
        forward, back = nets.get("G_A", nets.get("G")), nets.get("G_B")
        assert forward is not None
        rows: dict[str, list[NDArray[np.uint8]]] = {self.titles[0]: self.sources}
        device = next(forward.parameters()).device
        with in_inference(*(net for net in (forward, back) if net is not None)):
            translated = [forward(image[None].to(device)) for image in self.source_images]
            rows[f"translated, step {step}"] = [
                from_values(one[0], self.values) for one in translated
            ]
            if back is not None:
                rows["reconstructed"] = [
                    from_values(back(one)[0], self.values) for one in translated
                ]
        rows[self.titles[1]] = self.targets
        sheet = contact_sheet(
            [image for images in rows.values() for image in images],
            columns=len(self.sources),
            labels=[title for title, images in rows.items() for _ in images],
            cell=max(128, min(256, self.sources[0].shape[0])),
        )
        write_image(self.samples_dir / f"step-{step:06d}.png", sheet)
        return {}


def _centre(domain: Domain, count: int, side: int) -> torch.Tensor:
    corner = (domain.images_u8.shape[-1] - side) // 2
    return domain.crop(torch.arange(count), torch.full((count, 2), corner), side)


def _show(image: torch.Tensor, values: str) -> NDArray[np.uint8]:
    """(C, H, W) as a person sees it: masks in the colours of their labels."""
    if values != "labels":
        return from_values(image, values)  # type: ignore[arg-type]
    colours: Sequence[tuple[int, int, int]] = [PALETTE[label] for label in sorted(PALETTE)]
    return np.array(colours, dtype=np.uint8)[image[0].long().cpu().numpy()]
