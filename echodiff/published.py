"""Fetch what `echodiff push` uploaded to a model hub, and verify its hashes.

It is named `hub:USER/NAME@REV`; HF_ENDPOINT sets the hub. Nothing here needs torch.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from echodiff.connection import endpoint, told_in_one_line
from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import check_inside
from echodiff.images import read_image_u8
from echodiff.runs import RECORD, sha256_file

PREFIX = "hub:"
MANIFEST = "push.json"
"""File in every pushed repository with its kind and the SHA-256 of every other file."""
SCORES, CONFIG, PRIVACY = "metrics.json", "config.yaml", "privacy.json"
CARD, SHEET = "README.md", "sheet.png"
TRAIN_CONTROLNET = "train-controlnet"
"""Command of a run whose weights obey masks, in `run.json`."""
_CONFIG, _WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
MASK_FILES = {
    "controlnet": (f"controlnet/{_CONFIG}", f"controlnet/{_WEIGHTS}"),
    "control-lora": (f"control_lora/{_CONFIG}", "control_lora/control_lora.safetensors"),
    "t2i-adapter": (f"t2i_adapter/{_CONFIG}", f"t2i_adapter/{_WEIGHTS}"),
    "concat": ("concat/concat.safetensors",),
}
"""Files of each kind of weights that obey masks, in their run folder; the weights come last."""
LORA_FOLDER = "lora"
"""Folder of the LoRA that such a run was trained on top of."""
LORA_FILES = (
    "pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_config.json",
)  # fmt: skip
"""Files that the folder may hold."""
MODEL_FILES = (
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights_kohya.safetensors",
    *(name for names in MASK_FILES.values() for name in names),
    *(f"{LORA_FOLDER}/{name}" for name in LORA_FILES),
    CARD, SHEET, SCORES, PRIVACY, CONFIG, RECORD, MANIFEST,
)  # fmt: skip
"""The only files in a pushed model."""
DATASET_FILES = ("metadata.jsonl", CARD, SHEET, SCORES, MANIFEST)
"""The only files in a pushed set of generated frames, apart from its images and masks."""
IMAGE_PATTERN, MASK_PATTERN = "images/*.png", "masks/*.png"


def hash_mask_files(run_dir: Path, kind: str) -> str:
    """SHA-256 over the names and contents of the files of a kind; InputError if one is missing."""
    digest = hashlib.sha256()
    for name in MASK_FILES[kind]:
        if not (run_dir / name).is_file():
            raise InputError(f"{run_dir}: holds no {name}: is the run finished?")
        digest.update(f"{name}\0{sha256_file(run_dir / name)}\n".encode())
    return digest.hexdigest()


def hash_images(folder: Path) -> str:
    """SHA-256 over the pixels of a set of generated frames, in the order of its rows."""
    digest = hashlib.sha256()
    for frame in load_frames(folder):
        image = read_image_u8(folder / frame.file_name)
        digest.update(f"{image.shape}".encode() + image.tobytes())
    return digest.hexdigest()


class HubName(NamedTuple):
    """Name of a repository, with an optional revision."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return PREFIX + self.repo + (f"@{self.revision}" if self.revision else "")


def parse_name(text: str, flag: str) -> HubName:
    """Parse `USER/NAME`, optionally with `hub:` before and `@REV` after it; else an InputError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    repo, at, revision = text.removeprefix(PREFIX).partition("@")
    if at and not revision:
        raise InputError(f"{flag} {text}: missing revision after the @")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        reason = str(error).split(":")[0].replace("Repo id", "a name")
        raise InputError(f"{flag} {text}: {reason}; expected USER/NAME") from error
    if repo.count("/") != 1:
        raise InputError(f"{flag} {text}: missing user name; expected USER/NAME")
    return HubName(repo, revision or None)


def fetch_published(name: HubName, *, is_dataset: bool = False) -> Path:
    """Return the cached folder of a pushed model or data set, downloading it if needed.

    Every file is compared with the hash in its manifest."""
    from huggingface_hub import snapshot_download

    patterns = [*DATASET_FILES, IMAGE_PATTERN, MASK_PATTERN] if is_dataset else list(MODEL_FILES)
    with told_in_one_line(str(name)):
        folder = snapshot_download(
            name.repo,
            revision=name.revision,
            repo_type="dataset" if is_dataset else "model",
            endpoint=endpoint(),
            allow_patterns=patterns,
        )
    check_hashes(Path(folder), str(name), kind="dataset" if is_dataset else "model")
    return Path(folder)


def check_hashes(folder: Path, name: str, *, kind: str) -> None:
    """Compare every file that the manifest of `folder` lists with its hash."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{name}: has no {MANIFEST}: it was not pushed by echodiff")
    try:
        manifest = read_record(path, {"kind": str, "files": dict[str, str]})
        hashes: dict[str, str] = manifest["files"]
    except (InputError, KeyError) as error:
        raise InputError(f"{name}: {MANIFEST} is damaged ({error})") from error
    if manifest.get("kind") != kind:
        raise InputError(f"{name}: is a {manifest.get('kind')}, not a {kind}")
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if strange := sorted(there - set(hashes) - {MANIFEST}):
        raise InputError(f"{name}: {strange[0]} is not listed in the manifest")
    for file, digest in hashes.items():
        check_inside(file, "file")
        if not (folder / file).is_file():
            raise InputError(f"{name}: {file} is missing")
        if sha256_file(folder / file) != digest:
            raise InputError(f"{name}: {file} differs from the file that was pushed (SHA-256)")
