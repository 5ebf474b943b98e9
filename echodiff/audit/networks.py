"""Load the weights of a run twice over: the base alone, then the same with what was trained.

The base is the free reference of every attack. One network is in memory: the adapter is merged into
the base after the base was measured.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from echodiff.audit.subjects import Side
from echodiff.data.labels import parse_table
from echodiff.diffusion.base import base_sha256, load_base
from echodiff.diffusion.condition import Channels, FrameMasks
from echodiff.diffusion.encoding import EncodedFrames, encode_frames
from echodiff.diffusion.lora import WEIGHTS_NAME, load_lora
from echodiff.diffusion.mask_files import load_masked
from echodiff.diffusion.mask_networks import KINDS, MaskedUNet, predict_from_mask
from echodiff.diffusion.objective import Predict, build_noise_schedule
from echodiff.diffusion.trainer import predict_from_text
from echodiff.documents import read_yaml_record
from echodiff.errors import InputError
from echodiff.metrics.extractor import best_device
from echodiff.published import CONFIG, hash_mask_files
from echodiff.runs import Run, sha256_file


class DiffusionWeights:
    """Base and trained weights of a run of train_lora.py or of `echodiff train-controlnet`."""

    def __init__(self, run: Run) -> None:
        record = run.record
        self.run, self.kind = run, record.get("kind")
        self.base = str(record.get("base") or "tiny")
        self.base_sha256 = base_sha256(self.base)
        if self.base_sha256 != record.get("base_sha256"):
            raise InputError(
                f"{run.run_dir}: was trained on another base than {self.base} is now (its SHA-256 "
                "differs)"
            )
        self.weights_sha256 = self._check_weights()
        self.pipeline: Any = load_base(self.base, torch.float32)
        self.device = best_device()
        self.pipeline.to(self.device)
        self.schedule = build_noise_schedule(self.pipeline.scheduler.config)
        self.resolution = int(record["resolution"])
        self.masked: MaskedUNet | None = None
        self.channels: Channels | None = None
        if self.kind is not None:
            if self.kind not in KINDS:
                raise InputError(f"{run.run_dir}: its kind is {self.kind!r}, which is not known")
            self.channels = Channels.of_names(record.get("labels", []), str(run.run_dir))

    def predict_base(self) -> Predict:
        """How the bare base predicts; to be called before `add_trained`."""
        assert self.masked is None
        return partial(predict_from_text, self.pipeline.unet.eval())

    def add_trained(self) -> Predict:
        """Merge what was trained into the base; how that predicts."""
        run = self.run
        if self.kind is None:
            load_lora(self.pipeline, run.run_dir)
            return partial(predict_from_text, self.pipeline.unet.eval())
        assert self.channels is not None
        self.masked = load_masked(
            run.run_dir,
            self.kind,
            self.pipeline.unet.cpu(),
            num_channels=len(self.channels),
            factor=int(self.pipeline.vae_scale_factor),
        ).to(self.device)
        if lora := run.record.get("lora"):
            place, scale = run.run_dir / lora, float(run.record.get("lora_scale", 1.0))
            if load_lora(self.pipeline, place, scale) != run.record.get("init_sha256"):
                raise InputError(f"{place}: is not the LoRA of the training (its SHA-256 differs)")
        return partial(predict_from_mask, self.masked.eval())

    def encode(self, side: Side, store: Path, max_value: int | None) -> EncodedFrames:
        """Frames, captions and masks of a side, in files of the folder `store`."""
        encoded = encode_frames(
            self.pipeline, side.folder, side.frames, resolution=self.resolution, store=store,
            max_value=max_value,
        )  # fmt: skip
        if self.channels is None:
            return encoded
        return replace(encoded, condition=self.masks(side).condition(side.frames))

    def masks(self, side: Side) -> FrameMasks:
        """Reads the masks of a side as the network takes them."""
        assert self.channels is not None
        config = read_yaml_record(self.run.run_dir / CONFIG)
        table = parse_table(config.get("mask_labels"))
        return FrameMasks(side.folder, self.channels, self.resolution, table)

    def _check_weights(self) -> str:
        run = self.run
        if self.kind in KINDS:
            digest = hash_mask_files(run.run_dir, str(self.kind))
        else:
            path = run.run_dir / WEIGHTS_NAME
            if not path.is_file():
                raise InputError(f"{run.run_dir}: holds no {WEIGHTS_NAME}")
            digest = sha256_file(path)
        if digest != run.record.get("weights_sha256"):
            raise InputError(f"{run.run_dir}: its weights are not what the training wrote")
        return digest
