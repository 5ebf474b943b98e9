"""`echodiff push RUN --repo USER/NAME`: write the upload folder, scan it, upload it with --yes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff import __version__
from echodiff.data.screens.burned_text import find_text
from echodiff.data.screens.ocr import check_ocr, find_text_by_ocr
from echodiff.errors import InputError
from echodiff.files import write_text_atomic
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.frames.layout import MASKS
from echodiff.hub.audit_gate import object_to_images, object_to_weights
from echodiff.hub.card import Contents, build_dataset_card, build_model_card, list_missing
from echodiff.hub.client import Target, find_token, push_folder
from echodiff.hub.folder import (
    choose_samples,
    folder_written_beside,
    write_dataset,
    write_manifest,
    write_model,
)
from echodiff.hub.licences import (
    find_base,
    find_cards,
    find_mask_objections,
    find_objections,
)
from echodiff.hub.private_words import PrivateWords
from echodiff.hub.scan import Finding, Known, scan_folder
from echodiff.hub.source import (
    Generated,
    Trained,
    check_comparable,
    load_generated,
    load_privacy,
    load_trained,
)
from echodiff.images import read_image_u8
from echodiff.published import (
    CARD,
    DATASET_FILES,
    IMAGE_PATTERN,
    MASK_PATTERN,
    MODEL_FILES,
    parse_name,
)
from echodiff.runs import RECORD
from echodiff.settings.command_line import parse, positional
from echodiff.settings.fields import printable

PROG = "echodiff push"
LORA_INSIDE = (
    "the weights come with the LoRA that they were trained on top of, and nothing here says which "
    "frames it was trained on and whether it may be shared"
)


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """Write the folder that would be uploaded to a model hub, scan it, and report what is missing.

    Nothing is sent without --yes. The hub is huggingface.co, or the one that HF_ENDPOINT names.
    """

    run: Path | None = positional(default=None)
    """Run folder of train_lora.py or of echodiff train-controlnet. Default, with --dataset: the
    run that generated the set."""
    repo: str
    """Name of the repository: USER/NAME."""
    out: Path | None = None
    """Folder to write the upload to; an earlier upload folder is replaced. Default: push/NAME."""
    generated: Path | None = None
    """Folder of images that generate.py made with this run; its scores and first images go into
    the model card."""
    generated_base: Path | None = None
    """Folder of images that generate.py made with the base alone (--weights none), with the
    prompts and the reference of --generated; its scores are shown beside."""
    dataset: Path | None = None
    """Push this folder of generated images as a data set, not the weights."""
    data: Path | None = None
    """Frames folder of the training, if it was moved since."""
    base_model: str | None = None
    """Hub id of the base model (USER/NAME), if the run knows it only as a local folder."""
    accept: str | None = None
    """Reason for pushing although a licence is missing or forbids it, or without a privacy audit
    (`echodiff audit`) or with a failed one; written into the card."""
    public: bool = False
    """Make the repository public. Default: private."""
    ocr: bool = False
    """Also search every uploaded image for text by OCR; echodiff's own text finder always runs.
    Text blocks the push. Needs `pip install echodiff[ocr]`."""
    yes: bool = False
    """Upload, in one commit. Without it nothing is sent."""

    def __post_init__(self) -> None:
        parse_name(self.repo, "--repo")
        if "@" in self.repo or self.repo.startswith("hub:"):
            raise ValueError(f"--repo {self.repo}: expected USER/NAME")
        if self.run is None and self.dataset is None:
            raise ValueError("missing: RUN, the run folder to push")
        if self.dataset is not None and self.generated is not None:
            raise ValueError(
                "--generated and --dataset exclude each other: a data set has its own scores"
            )
        if self.generated_base is not None and self.generated is None:
            raise ValueError("--generated-base: needs --generated, which it is compared with")
        if self.accept is not None and not self.accept.strip():
            raise ValueError("--accept: needs a reason")

    @property
    def kind(self) -> str:
        return "model" if self.dataset is None else "dataset"

    @property
    def folder(self) -> Path:
        return self.out or Path("push") / self.repo.split("/")[1]


class StoppedError(Exception):
    """The scan found something; the upload folder is not written."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings


def main(argv: Sequence[str] | None = None) -> int:
    """Write, scan and perhaps push the folder; return 1 if licences, audit or scan block it."""
    config = parse(PushConfig, argv, prog=PROG)
    token = find_token()
    if config.yes and token is None:
        raise InputError("--yes: no token found: run `hf auth login`, or set HF_TOKEN")

    # --- Open what is pushed, check the licences
    if config.ocr:
        check_ocr()
    contents = gather(config)
    if contents.objections and not config.accept:
        for objection in contents.objections:
            print(printable(f"refused: {objection}"))
        print("nothing written; --accept REASON continues, and puts the reason into the card")
        return 1
    if config.yes and contents.privacy_objections and not config.accept:
        for objection in contents.privacy_objections:
            print(printable(f"refused: {objection}"))
        print("nothing written; --accept REASON pushes, and puts the reason into the card")
        return 1

    refuse_inputs(config.folder, list_inputs(config, contents))
    with FolderLock(config.folder, beside=True):
        return write_and_push(config, contents, token)


def list_inputs(config: PushConfig, contents: Contents) -> list[Path | None]:
    """List the paths that are read: pushed, or compared with what is pushed."""
    trained = contents.trained
    data = None if trained is None else trained.data
    given = [config.generated, config.generated_base, config.dataset, config.data]
    return [config.run, *given, data]


def write_and_push(config: PushConfig, contents: Contents, token: str | None) -> int:
    """Write the folder, print what is in it, and push it with --yes."""
    # --- Write to a hidden folder and scan every byte
    try:
        with folder_written_beside(config.folder) as folder:
            hashes = write_folder(folder, config, contents)
            if findings := find_everything(folder, config, contents, token):
                raise StoppedError(findings)
    except StoppedError as stop:
        for finding in stop.findings:
            print(printable(f"stopped: {finding.file}: {finding.message}"))
        print("nothing written, nothing pushed")
        return 1

    # --- Print what it holds, and push
    for line in list_lines(config, contents, list_known(config, contents, token)):
        print(printable(line))
    if not config.yes:
        if not config.accept:
            for objection in contents.privacy_objections:
                print(printable(f"--yes will be refused: {objection}"))
        print(f"dry run, nothing pushed: see {config.folder}; --yes pushes it")
        return 0
    assert token is not None
    target = Target(repo=config.repo, kind=config.kind, is_public=config.public, token=token)
    message = f"echodiff {__version__}: {config.kind}"
    print(push_folder(config.folder, target, message, hashes))
    return 0


def gather(config: PushConfig) -> Contents:
    """Open and check everything that the command line names."""
    generated, of_base = None, None
    if config.dataset is not None:
        generated = load_generated(config.dataset, "--dataset", None)
    run_dir = config.run or _run_behind(generated)
    trained = load_trained(run_dir, config.data) if run_dir is not None else None
    if trained is not None:
        if config.dataset is not None:
            generated = load_generated(config.dataset, "--dataset", trained.weights_sha256)
        elif config.generated is not None:
            generated = load_generated(config.generated, "--generated", trained.weights_sha256)
        if config.generated_base is not None and generated is not None:
            base_sha256 = str(trained.run.record["base_sha256"])
            of_base = load_generated(config.generated_base, "--generated-base", base_sha256)
            check_comparable(of_base, generated, "--generated-base")
    known_base = trained.run.record if trained is not None else generated.job if generated else {}
    base = find_base(str(known_base["base"]), config.base_model)
    cards = []
    if trained is not None:
        cards = find_cards(trained.data, trained.sources, is_phantom=trained.is_phantom)
    privacy = load_privacy(trained.run.run_dir, trained.weights_sha256) if trained else None
    return Contents(
        repo=config.repo,
        base=base,
        trained=trained,
        generated=generated,
        of_base=of_base,
        cards=cards,
        privacy=privacy,
        privacy_objections=list_privacy_objections(config, trained, privacy),
        objections=[
            *find_objections(cards, base, has_data=trained is not None),
            *([LORA_INSIDE] if trained is not None and trained.lora else []),
            *(find_mask_objections(generated, cards) if config.dataset and generated else []),
        ],
        accepted=config.accept,
    )


def list_privacy_objections(
    config: PushConfig, trained: Trained | None, privacy: Mapping[str, Any] | None
) -> list[str]:
    """Reasons of the audit against what is pushed; images of the bare base show no patient."""
    if trained is None:
        return []
    if config.dataset is not None:
        return object_to_images(privacy, config.dataset)
    return object_to_weights(privacy)


def _run_behind(generated: Generated | None) -> Path | None:
    """Return the run folder whose weights generated a set; None for the base model alone."""
    assert generated is not None
    weights = str(generated.job["weights"])
    if weights == "none":
        return None
    if not (Path(weights) / RECORD).is_file():
        raise InputError(
            f"--dataset {generated.folder}: was generated with {weights}, which is not a run "
            "folder on this machine: give the run that trained these weights as RUN"
        )
    return Path(weights)


def write_folder(folder: Path, config: PushConfig, contents: Contents) -> dict[str, str]:
    """Write everything that is pushed to `folder`; return the SHA-256 of each file."""
    if config.dataset is None:
        assert contents.trained is not None
        privacy = dict(contents.privacy) if contents.privacy else None
        write_model(folder, contents.trained, contents.base, contents.generated, privacy)
        card = build_model_card(contents)
    else:
        assert contents.generated is not None
        write_dataset(folder, contents.generated)
        card = build_dataset_card(contents)
    write_text_atomic(folder / CARD, card)
    return write_manifest(folder, config.kind)


def find_everything(
    folder: Path, config: PushConfig, contents: Contents, token: str | None
) -> list[Finding]:
    """Find what blocks the push, in the files and in the images."""
    of_set = [*DATASET_FILES, IMAGE_PATTERN, MASK_PATTERN]
    allowed = MODEL_FILES if config.dataset is None else of_set
    findings = scan_folder(folder, allowed, list_known(config, contents, token))
    generated, trained = contents.generated, contents.trained
    if generated is None:
        return findings
    shown = generated.frames if config.dataset else choose_samples(generated.frames)
    images = [generated.folder / frame.file_name for frame in shown]
    if trained is not None:
        from echodiff.hub.likeness import find_training_images  # imports torch

        findings += find_training_images(images, trained.images, generated.folder)
    return [*findings, *find_texts(images, generated.folder, by_ocr=config.ocr)]


def find_texts(images: Sequence[Path], folder: Path, *, by_ocr: bool) -> Iterator[Finding]:
    """Find images that show text, by echodiff's finder and, with `by_ocr`, by OCR.

    A contact sheet has labels, so its images are searched one by one.
    """
    for path in images:
        image = read_image_u8(path)
        finder = ""
        boxes = find_text(image)
        if not boxes and by_ocr:
            finder, boxes = " (--ocr)", find_text_by_ocr(image)
        if boxes:
            box = boxes[0]
            yield Finding(
                path.relative_to(folder).as_posix(),
                f"shows text at x {box.left}-{box.right}, y {box.top}-{box.bottom}{finder}",
            )


def list_known(config: PushConfig, contents: Contents, token: str | None) -> Known:
    """List what the scan looks for by name: the token, folders, patients and files."""
    folders = {Path.home(): "the home folder of this machine"}
    words: set[str] = set()
    seeds: set[str] = set()
    if (trained := contents.trained) is not None:
        folders |= {trained.run.run_dir.resolve(): "the path of the run",
                    trained.data.resolve(): "the path of the training frames"}  # fmt: skip
        rows = trained.frames.values() if not trained.is_phantom else []
        words = {
            word for row in rows for word in (row.patient_id, Path(row.file_name).stem) if word
        }
        seeds.add(str(trained.config.get("seed")))
    if (generated := contents.generated) is not None:
        folders[generated.folder.resolve()] = "the path of the generated set"
        seeds.add(str(generated.job["config"].get("seed")))
    secrets = {str(folder): what for folder, what in folders.items() if len(folder.parts) > 2}
    if token:
        secrets[token] = "the token of this machine"
    return Known(secrets, PrivateWords(words), frozenset(seeds))


def list_lines(config: PushConfig, contents: Contents, known: Known) -> Iterator[str]:
    """Describe what is pushed, what it lacks, and which objections were accepted."""
    visibility = "public" if config.public else "private"
    yield f"{config.repo} ({config.kind}, {visibility}):"
    paths = sorted(path for path in config.folder.rglob("*") if path.is_file())
    shown = [path for path in paths if path.parent == config.folder]
    for path in shown:
        yield f"  {path.name:42} {path.stat().st_size / 1000:10,.1f} kB"
    if len(paths) > len(shown):
        size = sum(path.stat().st_size for path in paths if path not in shown)
        what = "images and masks" if any(path.parent.name == MASKS for path in paths) else "images"
        yield f"  {len(paths) - len(shown)} {what:38} {size / 1000:10,.1f} kB"
    for missing in list_missing(contents):
        yield f"missing: {missing}"
    if names := sorted(known.private_words.unsearchable):
        yield (
            f"not searched for: {len(names)} names that are short or ordinary words, "
            f"such as {names[0]!r}"
        )
    if config.accept:
        for objection in (*contents.objections, *contents.privacy_objections):
            yield f"accepted: {objection}"
