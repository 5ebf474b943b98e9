"""`echodiff pretrain`: train the embedded base model and feature network."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.metrics import tiny_features
from echodiff.metrics.segmenter import load_segmenter
from echodiff.pretrain.autoencoder import encode_frames, spectrum_ratio, train_autoencoder
from echodiff.pretrain.classifier import train_classifier
from echodiff.pretrain.corpus import POPULATIONS, Corpus, build_corpus
from echodiff.pretrain.decoder import train_decoder
from echodiff.pretrain.denoiser import Material, train_denoiser
from echodiff.pretrain.export import (
    base_card,
    build_tokenizer,
    check_base,
    export_base,
    export_features,
    hash_base,
    load_base,
    num_parameters,
)
from echodiff.pretrain.language import (
    build_captions,
    build_foreign_captions,
    tokenize,
    train_text_encoder,
)
from echodiff.pretrain.segmenter import export_segmenter, train_segmenter
from echodiff.settings.command_line import parse
from echodiff.system import num_cores

logger = logging.getLogger(__name__)

NETWORKS = ("segmenter", "features", "base")
PARTS = (*NETWORKS, "unet")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Train the embedded base (`tiny`) and feature network on phantom frames."""

    out: Path = Path("pretrain")
    """Folder for the state of the stages and the results (`tiny/`, `tiny_features/`,
    `segmenter/`)."""
    parts: tuple[str, ...] = NETWORKS
    """Networks to train, separated by commas: segmenter, features, base; or unet, to train that of
    the base of --init-from on with its VAE and text encoder as they are."""
    init_from: Path | None = None
    """Folder of an earlier base (`tiny/`, made by this command) that VAE and UNet start from;
    --denoiser-steps is then not used. Default: random weights."""
    segmenter_from: Path | None = None
    """Folder of an earlier segmenter (`model.safetensors`, `config.json`) that is trained on, at
    half the rate. Default: random weights."""
    num_frames: int = 20000
    """Number of phantom frames that the base model is trained on."""
    num_scanner_frames: int = 8000
    """Number of further phantom frames for VAE and UNet, each patient with another random
    scanner."""
    num_feature_frames: int = 10000
    """Number of phantom frames that the feature network is trained on; the last tenth is held
    out."""
    num_segmenter_frames: int = 3000
    """Number of phantom frames that the segmenter is trained on; the last tenth is held out."""
    segmenter_steps: int = 4800
    """Steps of the segmenter (8 frames each, three in five of them with broken hearts)."""
    autoencoder_steps: int = 1200
    """Steps of the autoencoder (16 frames each)."""
    decoder_steps: int = 1400
    """Steps of the decoder with the encoder frozen (8 frames each)."""
    text_encoder_steps: int = 1500
    """Steps of the text encoder (64 captions each, no images)."""
    denoiser_steps: int = 5400
    """Steps of the UNet with attention at 8x8 and 4x4 (32 frames each)."""
    detail_steps: int = 2000
    """Further steps of the UNet, with attention at 16x16 as well (32 frames each)."""
    classifier_steps: int = 3000
    """Steps of the feature network (48 frames each)."""
    seed: int = 2026
    """Random seed (0 or more)."""
    workers: int = 0
    """Number of processes that render phantoms; 0 means one per core."""
    device: str = "auto"
    """Device: cpu, cuda, or auto for cuda if there is one."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.parts) - set(PARTS))
        if unknown or not self.parts:
            raise ValueError(f"--parts: unknown {unknown or 'none'}; known: {', '.join(PARTS)}")
        if "unet" in self.parts and ("base" in self.parts or self.init_from is None):
            raise ValueError("--parts: unet needs --init-from, and does not go with base")
        for name in vars(self):
            if name.startswith("num_") and getattr(self, name) < 100:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 100")
        for name in vars(self):
            if name.endswith("_steps") and getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
        if self.init_from is not None:
            check_base(self.init_from)
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"--device must be cpu, cuda or auto, got {self.device}")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that affect the weights."""
        apart = {"out", "parts", "workers", "device", "init_from", "segmenter_from"}
        start: dict[str, Any] = {}
        if self.init_from is not None:
            apart |= {"denoiser_steps"}
            start = {"init_from": hash_base(self.init_from)}
        if self.segmenter_from is not None:
            start |= {"segmenter_from": load_segmenter(self.segmenter_from).sha256}
        return {k: v for k, v in asdict(self).items() if k not in apart} | start


def main(argv: Sequence[str] | None = None) -> None:
    """Run all stages that are not finished; an interrupted run resumes when it is run again."""
    config = parse(PretrainConfig, argv, prog="echodiff pretrain")
    _claim(config)
    has_cuda = torch.cuda.is_available()
    device = config.device if config.device != "auto" else "cuda" if has_cuda else "cpu"
    workers = config.workers or num_cores()
    shards = config.out / "corpus"
    report: dict[str, object] = {}

    if "segmenter" in config.parts:
        num = config.num_segmenter_frames
        corpus = build_corpus(shards, "segmenter", num, config.seed + 4, workers)
        start = load_segmenter(config.segmenter_from).network if config.segmenter_from else None
        segmenter, card = train_segmenter(
            corpus, config.out, config.segmenter_steps, 8, config.seed, device, start
        )
        export_segmenter(config.out / "segmenter", segmenter, card)
        report["segmenter"] = card

    if "features" in config.parts:
        num = config.num_feature_frames
        corpus = build_corpus(shards, "features", num, config.seed + 1, workers)
        network, card = train_classifier(
            corpus, config.out, config.classifier_steps, 48, config.seed, device
        )
        export_features(config.out / "tiny_features", network, card)
        report["tiny_features"] = card

    if {"base", "unet"} & set(config.parts):
        corpus = build_corpus(shards, "base", config.num_frames, config.seed, workers)
        num = config.num_scanner_frames
        scanners = build_corpus(shards, "scanners", num, config.seed + 2, workers)
        report["tiny"] = _train_base(config, corpus, scanners, device)

    path = config.out / "report.json"
    before = read_record(path) if path.is_file() else {}
    write_json_atomic(path, before | report)
    made = ", ".join(f"{name}/" for name in report)
    logger.info("done: %s; copy %s to %s", config.out, made, tiny_features.ASSET.parent)


def _train_base(
    config: PretrainConfig, corpus: Corpus, scanners: Corpus, device: str
) -> dict[str, object]:
    num_train = len(corpus.images_u8) * 31 // 32
    images = corpus.images_u8
    seen = np.concatenate([images[:num_train], scanners.images_u8])
    rows = [*corpus.rows[:num_train], *scanners.rows]
    start = load_base(config.init_from) if config.init_from else None
    if start is not None and "unet" in config.parts:
        vae, unet = start.vae.to(device), start.unet
        tokenizer, text_encoder = start.tokenizer, start.text_encoder
        mean, std = encode_frames(vae, seen)
    else:
        vae, unet = (start.vae, start.unet) if start is not None else (None, None)
        vae = train_autoencoder(
            seen, config.out, config.autoencoder_steps, 16, config.seed, device, vae
        )
        mean, std = encode_frames(vae, seen)
        vae = train_decoder(vae, seen, config.out, config.decoder_steps, 8, config.seed, device)
        tokenizer = build_tokenizer(config.seed)
        texts = [row["text"] for row in rows[:num_train]]
        words = ["", *texts, *build_captions(config.seed + 3, num_train)]
        text_encoder = train_text_encoder(
            tokenizer, words, config.out, config.text_encoder_steps, 64, config.seed, device
        )
    ratio = spectrum_ratio(vae, images[num_train:][:256])
    scale = float(vae.config.scaling_factor)
    material = Material(
        latents=(mean * scale, std * scale),
        ids=tokenize(tokenizer, [row["text"] for row in rows]),
        foreign=tokenize(tokenizer, build_foreign_captions(config.seed + 5, rows)),
        null=tokenize(tokenizer, [""]),
        text_encoder=text_encoder,
        # Random scanners twice as often: nearly half of what the UNet sees.
        drawn=np.r_[0 : len(rows), num_train : len(rows)],
    )
    steps = (config.denoiser_steps, config.detail_steps)
    unet = train_denoiser(material, config.out, steps, 32, config.seed, device, unet)
    facts = {
        "settings": config.settings,
        "finding_percent": 100 * POPULATIONS["base"].finding_rate,
        "parameters": {
            "unet": num_parameters(unet),
            "text_encoder": num_parameters(text_encoder),
            "vae": num_parameters(vae),
        },
        "latent_scaling_factor": round(scale, 5),
        "posterior_std_share": round(float(std.mean() * scale), 4),
        "spectrum_ratio": {
            "n": min(256, len(images) - num_train),
            "bands": "1 to 48 of 64 (3/4 of Nyquist), decoded over input",
            "lowest": round(float(np.min(ratio)), 4),
            "highest": round(float(np.max(ratio)), 4),
        },
    }
    export_base(config.out / "tiny", unet, text_encoder, vae.cpu(), tokenizer, base_card(facts))
    return facts


def _claim(config: PretrainConfig) -> None:
    """Write the settings to the output folder; InputError if it holds others."""
    path = config.out / "settings.json"
    if path.exists() and json.loads(path.read_text("utf-8")) != config.settings:
        raise InputError(
            f"--out: {config.out}: holds a pretraining with other settings; choose another folder"
        )
    write_json_atomic(path, config.settings)
