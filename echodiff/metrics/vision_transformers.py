"""Vision transformers as feature networks: the class token of weights that transformers can open.

DINOv2 (Oquab et al., TMLR 2024) in the size that FD-DINOv2 is defined by (Stein et al., NeurIPS
2023), and RAD-DINO (Perez-Garcia et al., Nature Machine Intelligence 2025), DINOv2 trained on
chest radiographs. Weights are never fetched, and never unpickled: only safetensors are opened.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel

from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.metrics.extractor import best_device
from echodiff.runs import sha256_file
from echodiff.training.precision import ieee_float32

REPOSITORIES = {"dinov2": "facebook/dinov2-large", "rad-dino": "microsoft/rad-dino"}
BATCH_SIZE = 32
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class VisionTransformer:
    """An opened network: grey images in, class tokens out."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds config.json, preprocessor_config.json and safetensors."""
        self.sha256 = _sha256_weights(folder)
        try:
            self._processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self._network, loading = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or ["damaged"])[0]
            raise InputError(
                f"--features {folder}: transformers cannot open it: {reason}"
            ) from error
        # A weight that the file lacks is drawn at random: features of no network at all.
        missing = [key for key in sorted(loading["missing_keys"]) if not key.startswith("pooler.")]
        if missing:
            raise InputError(f"--features {folder}: the weights lack {missing[0]}")
        names = dict(self._network.named_parameters())
        if not any(name.endswith("cls_token") for name in names):
            raise InputError(f"--features {folder}: the network has no class token")
        self._network = self._network.to(best_device()).eval().requires_grad_(False)
        self.num_features: int = self._network.config.hidden_size
        self.resize = _describe(self._processor.to_dict())

    @torch.inference_mode()
    def embed(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Class tokens (N, D) of grey images (H, W), of any sizes, N >= 1."""
        tokens = []
        for start in range(0, len(images_u8), BATCH_SIZE):
            images = [
                np.repeat(image[..., None], 3, axis=2)
                for image in images_u8[start : start + BATCH_SIZE]
            ]
            batch = self._processor(
                images=images, input_data_format="channels_last", return_tensors="pt"
            )["pixel_values"]
            with ieee_float32():
                output = self._network(pixel_values=batch.to(best_device()))
            tokens.append(output.last_hidden_state[:, 0].double().cpu().numpy())
        return np.concatenate(tokens)


def find_weights(name: str) -> Path:
    """Folder of `dinov2` or `rad-dino` in the Hugging Face cache; InputError where it is not."""
    repository = REPOSITORIES[name]
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"--features {name}: {repository} is not in the Hugging Face cache; run `hf download "
            f"{repository}`, or give a folder that holds it as --features PATH"
        ) from error


def _sha256_weights(folder: Path) -> str:
    """SHA-256 of the safetensors that transformers would open; of their hashes where several."""
    if (folder / WEIGHTS).is_file():
        return sha256_file(folder / WEIGHTS)
    try:
        index = read_record(folder / INDEX, {"weight_map": dict[str, str]})
        shards = [sha256_file(folder / name) for name in sorted(set(index["weight_map"].values()))]
    except (OSError, InputError, KeyError) as error:
        raise InputError(
            f"--features {folder}: holds no {WEIGHTS}; other forms of weights are not opened"
        ) from error
    return hashlib.sha256("".join(shards).encode()).hexdigest()


def _describe(processor: dict[str, Any]) -> str:
    """Everything that the image processor does to a picture, in one line."""
    steps = {
        "do_resize": ("size", "resample"),
        "do_center_crop": ("crop_size",),
        "do_rescale": ("rescale_factor",),
        "do_normalize": ("image_mean", "image_std"),
        "do_pad": ("pad_size",),
    }
    done = {
        key: processor.get(key)
        for step, keys in steps.items()
        if processor.get(step)
        for key in keys
    }
    return f"{processor['image_processor_type']} {json.dumps(done)}"
