"""Score sets of images: distances, copies and obedience, kept in one file a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.data.reference import RealFrames
from echodiff.documents import read_record
from echodiff.files import write_json_atomic
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import from_pm1, read_gray_u8
from echodiff.metrics.comparison import compare_sets
from echodiff.metrics.evaluation import score_measured
from echodiff.metrics.faithfulness import compute_share
from echodiff.metrics.features import load_features
from echodiff.metrics.frame_features import Measured, Networks, measure_frames
from echodiff.metrics.score import write_scores
from echodiff.metrics.scores import score_sets
from echodiff.segmentation.agreement import Agreement, measure_agreement
from echodiff.segmentation.mask_scores import score_masks
from echodiff.segmentation.reader import MaskReader
from echodiff.survey.frames import TEST, TRAIN, load_part, read_images_pm1, vendor_of
from echodiff.survey.latents import LatentSpace
from echodiff.survey.scanner_style import StyleClassifier
from echodiff.survey.survey_config import SurveyConfig
from echodiff.training.streams import Stream, build_stream

Array = NDArray[np.float64]
TEXTURE = "texture"
NOISE = "noise"


@dataclass(frozen=True)
class Judge:
    """What all sets are held against, read when it is first needed."""

    config: SurveyConfig
    networks: Networks
    """Feature networks of --features."""
    folder: Path
    """Frames at the size of the comparison, `data/none`."""
    reader: MaskReader
    """Trained on real training frames."""
    vendors: tuple[str, ...]

    @cached_property
    def test(self) -> RealFrames:
        """Real frames of other patients, of the vendors of the training."""
        rows = load_part(self.folder, TEST)
        return RealFrames(self.folder, self.folder, rows, f"{len(rows)} held-out frames")

    @cached_property
    def of_test(self) -> Measured:
        """Their features."""
        return self._measure(self.test.paths, "held-out frames")

    @cached_property
    def of_train(self) -> Measured:
        """Features of the training frames."""
        paths = [self.folder / row.file_name for row in load_part(self.folder, TRAIN)]
        return self._measure(paths, "training frames")

    @cached_property
    def baselines(self) -> tuple[Agreement | None, Agreement | None]:
        """Agreement of real frames with their own masks, and with those of other patients."""
        read = partial(measure_agreement, self.folder, self.test.frames, self.reader)
        floor = read(of_others=True)
        return (read() if floor else None), floor

    @cached_property
    def classifier(self) -> tuple[StyleClassifier, dict[str, Any]]:
        """Tells the training vendors apart; with its accuracy on held-out real frames."""
        rows = load_part(self.folder, TRAIN)
        classifier = StyleClassifier.fit(
            self._texture(self.folder, rows), self._places(rows), len(self.vendors)
        )
        found = classifier(self._texture(self.folder, self.test.frames))
        is_right = found == self._places(self.test.frames)
        share = compute_share(int(is_right.sum()), len(is_right))
        return classifier, {"value": share.value, "low": share.low, "high": share.high,
                            "n": len(is_right)}  # fmt: skip

    def measure(self, folder: Path) -> Measured:
        """Features of a generated set."""
        return self._measure(folder, str(folder))

    def score_fully(self, folder: Path) -> dict[str, Any]:
        """Distances to held-out frames, copies of training frames, obedience to the masks."""
        result = score_measured(
            self.measure(folder), self.of_test, self.networks, seed=self.config.seed,
            train=self.of_train,
        )  # fmt: skip
        generated = measure_agreement(folder, load_frames(folder), self.reader)
        ceiling, floor = self.baselines
        if generated is not None:
            found, left_out, alarms = score_masks(
                generated, self.reader, ceiling=ceiling, floor=floor, seed=self.config.seed
            )
            result["scores"] |= write_scores(found)
            result["left_out"] |= left_out
            result["alarms"] += alarms
        kept = ("scores", "alarms", "left_out", "notes")
        return {name: result[name] for name in kept}

    def score_distances(self, folder: Path) -> dict[str, Any]:
        """Distances to held-out frames alone."""
        measured, scores = self.measure(folder), dict[str, Any]()
        for network in self.networks.opened:
            ours, real = (one.in_features(network.name) for one in (measured, self.of_test))
            found, _ = score_sets(ours, real, network, seed=self.config.seed)
            scores |= write_scores(found)
        return {"scores": scores}

    def score_style(self, folder: Path, vendor: str) -> dict[str, Any]:
        """Share of images that look like the asked-for vendor, and mean Dice of their masks."""
        rows = load_frames(folder)
        classifier, _ = self.classifier
        is_right = classifier(self._texture(folder, rows)) == self.vendors.index(vendor)
        share = compute_share(int(is_right.sum()), len(is_right))
        agreement = measure_agreement(folder, rows, self.reader)
        dice = None if agreement is None else float(np.nanmean(agreement.values[:, :, 0]))
        return {"agrees": {"value": share.value, "low": share.low, "high": share.high,
                           "n": len(is_right)}, "dice": dice}  # fmt: skip

    def score_round_trip(self, latents: LatentSpace) -> dict[str, Any]:
        """Share of held-out real frames of each vendor that still look like it once the
        autoencoder has encoded and decoded them; vendors without such frames are left out."""
        network, places = load_features(TEXTURE), self._places(self.test.frames)
        images = np.stack([read_gray_u8(path) for path in self.test.paths])
        means, _ = latents.encode(read_images_pm1(images))
        with torch.no_grad():
            decoded = latents.decode(means.to(latents.device)).clamp(-1, 1).cpu()
        found = self.classifier[0](network([from_pm1(image) for image in decoded[:, 0].numpy()]))
        shares = {}
        for number, vendor in enumerate(self.vendors):
            own = places == number
            if not own.any():
                continue
            share = compute_share(int((found[own] == number).sum()), int(own.sum()))
            shares[vendor] = {"value": share.value, "low": share.low, "high": share.high,
                              "n": int(own.sum())}  # fmt: skip
        return shares

    def compare(self, first: Path, second: Path) -> dict[str, Any]:
        """MMD² of `second` over that of `first`, with Fieller's interval, of every network."""
        sets, scores = (self.measure(first), self.measure(second)), dict[str, Any]()
        for network in self.networks.opened:
            one, two, real = (x.in_features(network.name) for x in (*sets, self.of_test))
            try:
                ratio = compare_sets(one, two, real, network)
            except (ValueError, ZeroDivisionError):
                continue
            scores |= write_scores({str(ratio.name): ratio})
        return {"scores": scores}

    def write_noise(self, out: Path) -> Path:
        """A set of uniform noise: what a generator that learnt nothing could not be worse than."""
        side, frames = self.config.resolution, out / NOISE
        if not (frames / "metadata.jsonl").is_file():
            with FramesWriter(frames, fingerprint={"settings": {"title": NOISE}}) as writer:
                for row in range(self.config.num_images):
                    if (name := f"{row:06d}.png") not in writer:
                        stream = build_stream(self.config.seed, Stream.NOISE, row)
                        image = stream.integers(0, 256, (side, side)).astype(np.uint8)
                        writer.add(Frame(file_name=name, text="", source=NOISE), image)
        return frames

    def _measure(self, source: Any, name: str) -> Measured:
        return measure_frames(source, self.networks.opened, name=name)

    def _texture(self, folder: Path, rows: Sequence[Frame]) -> Array:
        """Texture features (N, D)."""
        network = load_features(TEXTURE)
        return network([read_gray_u8(folder / row.file_name) for row in rows])

    def _places(self, rows: Sequence[Frame]) -> NDArray[np.int64]:
        return np.array([self.vendors.index(vendor_of(row)) for row in rows])


def keep(path: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Read a result, or compute and write it."""
    if not path.is_file():
        write_json_atomic(path, dict(compute()))
    return read_record(path)
