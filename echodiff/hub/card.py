"""Render the model card of a pushed repository, and validate it with huggingface_hub's classes.

Metadata: https://huggingface.co/docs/hub/model-cards and .../datasets-cards.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from echodiff.anatomy import Label
from echodiff.documents import parse_json
from echodiff.errors import InputError
from echodiff.files import shipped
from echodiff.frames.maker import attempt_of
from echodiff.frames.rows import Frame
from echodiff.hub.folder import base_name, choose_samples, public_config, reference_text
from echodiff.hub.key_scores import list_key_scores
from echodiff.hub.licences import Base, DataCard, join_licences
from echodiff.hub.source import KOHYA, WEIGHTS, Generated, Trained
from echodiff.published import IMAGE_PATTERN, MASK_PATTERN
from echodiff.report.tables import (
    build_look_rows,
    build_score_rows,
    list_networks,
    score_name,
)
from echodiff.settings.fields import printable

KIND_WEIGHTS = "all files of the weights"
_TAGS = ("lora", "stable-diffusion", "medical", "echocardiography", "synthetic", "echodiff")
_METRIC_ARGS = (
    "low", "high", "n", "n_reference", "features", "features_sha256", "scale", "p", "floor",
    "floor_low", "floor_high", "floor_n", "value_at_floor_n", "real", "real_low", "real_high",
)  # fmt: skip
_FACTS = (
    "kind", "labels", "mask_dropout", "label_dropout", "resolution", "rank", "alpha", "max_steps",
    "epochs", "batch_size", "gradient_accumulation", "learning_rate", "lr_scheduler", "lr_warmup",
    "optimizer", "caption_dropout", "min_snr_gamma", "noise_offset", "ema_decay",
    "regularization_weight", "mixed_precision", "seed",
)  # fmt: skip
_SHARES = ("precision_", "recall_", "density_", "coverage_", "copies_")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that a card is rendered from."""

    repo: str
    base: Base
    trained: Trained | None
    """None for images of the base model alone."""
    generated: Generated | None
    of_base: Generated | None
    """Images of the base alone, whose scores are shown beside."""
    cards: Sequence[DataCard]
    privacy: Mapping[str, Any] | None
    objections: Sequence[str]
    """Licence reasons against the push."""
    privacy_objections: Sequence[str]
    """Reasons of the privacy audit against the push, or its absence."""
    accepted: str | None
    """The reason given with --accept."""

    @property
    def name(self) -> str:
        return self.repo.split("/")[1]


def build_model_card(contents: Contents) -> str:
    """Build the README.md of a model; InputError if the Hub's classes refuse a field."""
    from huggingface_hub import ModelCard, ModelCardData

    assert contents.trained is not None
    licence = join_licences(contents.cards, contents.base)
    results = _list_results(contents)
    data = ModelCardData(
        base_model=contents.base.model or None,
        base_model_relation="adapter" if contents.base.model else None,
        datasets=[card.slug for card in contents.cards] or None,
        eval_results=results or None,
        model_name=contents.name if results else None,
        language="en",
        library_name="diffusers",
        pipeline_tag="text-to-image",
        license=licence.licence,
        license_name=licence.name,
        license_link=licence.link,
        tags=_list_tags(contents),
    )
    return _checked(ModelCard, _render("model_card.md.jinja", data.to_yaml(), contents))


def build_dataset_card(contents: Contents) -> str:
    """Build the README.md of a generated set; InputError if the Hub's classes refuse a field."""
    from huggingface_hub import DatasetCard, DatasetCardData

    assert contents.generated is not None
    count = len(contents.generated.frames)
    licence = join_licences(contents.cards, contents.base)
    has_masks = bool(contents.generated.mask_sources)
    patterns = [IMAGE_PATTERN, MASK_PATTERN] if has_masks else [IMAGE_PATTERN]
    data = DatasetCardData(
        pretty_name=contents.name,
        language="en",
        license=licence.licence,
        license_name=licence.name,
        license_link=licence.link,
        annotations_creators="machine-generated",
        task_categories=[
            "text-to-image", "unconditional-image-generation",
            *(["image-segmentation"] if has_masks else []),
        ],
        size_categories=next((size for most, size in _SIZES if count < most), "n>1M"),
        tags=_list_tags(contents),
        # Without this, the sample sheet would count as one of the images.
        configs=[{
            "config_name": "default",
            "data_files": [{"split": "train", "path": ["metadata.jsonl", *patterns]}],
        }],
    )  # fmt: skip
    return _checked(DatasetCard, _render("dataset_card.md.jinja", data.to_yaml(), contents))


def list_missing(contents: Contents) -> list[str]:
    """List what the card lacks, and how to add it."""
    missing = []
    if contents.generated is None:
        missing.append("scores and images: give a folder of generate.py with --generated")
    elif contents.trained is not None and contents.of_base is None:
        missing.append("scores of the base alone: give a set of generate.py with --generated-base")
    if contents.trained is not None and contents.privacy is None:
        missing.append("a privacy audit (echodiff audit); the card says `not audited`")
    if not contents.base.model and not contents.base.is_embedded:
        missing.append("the base model's name on the Hub: give it with --base-model")
    if contents.trained is not None and not contents.cards:
        missing.append("a data card for the training frames")
    return missing


def _checked(cls: Any, text: str) -> str:
    try:
        card = cls(text)
    except (ValueError, TypeError) as error:
        raise InputError(f"the card's metadata are invalid: {error}") from error
    for key in ("license", "pretty_name", "base_model"):
        value = card.data.get(key)
        if value is not None and not isinstance(value, str):
            raise InputError(f"the card's {key}: expected text, got {value!r}")
    return text


def _list_tags(contents: Contents) -> list[str]:
    of_data = [tag for card in contents.cards for tag in card.tags]
    tags, kind = list(_TAGS), contents.trained and contents.trained.kind
    if kind:
        tags[0] = {"t2i-adapter": "t2i-adapter", "concat": "lora"}.get(kind, "controlnet")
    return list(dict.fromkeys([*tags, *of_data]))


def _list_results(contents: Contents) -> list[Any]:
    from huggingface_hub import EvalResult

    if contents.generated is None:
        return []
    first = contents.cards[0] if contents.cards else None
    return [
        EvalResult(
            task_type="text-to-image",
            task_name="Text-to-image of echocardiograms",
            dataset_type=first.slug if first else "frames",
            dataset_name=f"{first.title if first else 'frames'}: "
            f"{reference_text(contents.generated)}",
            metric_type=name,
            metric_name=score_name(name),
            metric_value=score["value"],
            metric_args={k: score[k] for k in _METRIC_ARGS if score.get(k) is not None},
        )
        for name, score in contents.generated.metrics["scores"].items()
    ]


def _render(template: str, head: str, contents: Contents) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("templates")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown: cells and prose are escaped one by one
    )
    values = {
        "repo": contents.repo,
        "name": contents.name,
        "base": contents.base,
        "base_text": _base_text(contents.base),
        "cards": [_shown(card) for card in contents.cards],
        "data_names": ", ".join(_cell(card.title) for card in contents.cards) or "unnamed frames",
        "privacy": contents.privacy and {"verdict": _cell(str(contents.privacy["verdict"]))},
        "accepted": contents.accepted
        and {
            "reasons": [_cell(one) for one in (*contents.objections, *contents.privacy_objections)],
            "reason": _cell(contents.accepted),
        },
        "num_frames": len(contents.trained.frames) if contents.trained else 0,
        **_of_training(contents),
        **_of_generated(contents),
    }
    body = environment.get_template(template).render(values)
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    return f"---\n{head.strip()}\n---\n\n{body}\n"


def _of_training(contents: Contents) -> dict[str, Any]:
    trained, base = contents.trained, contents.base
    if trained is None:
        return {}
    record = trained.run.record
    config = public_config(trained, base)
    merged = config | {key: record[key] for key in ("resolution", "mixed_precision")}
    if trained.kind:
        merged["labels"] = ", ".join(record.get("labels", []))
    if trained.kind in ("controlnet", "t2i-adapter"):
        merged = {key: value for key, value in merged.items() if key not in ("rank", "alpha")}
    shown = base_name(base) or f"SHA-256 {record['base_sha256'][:12]}"
    num_held_out = len(record.get("held_out", []))
    facts: list[tuple[str, Any]] = [("base", shown), ("frames held out", num_held_out)]
    facts += [(key.replace("_", " "), merged[key]) for key in _FACTS if merged.get(key) is not None]
    if sources := trained.sources:
        facts.append(("frames by source", ", ".join(f"{k}: {n}" for k, n in sources.items())))
    code = 'str(shipped("assets/tiny"))' if base.is_embedded else f'"{base.model or "BASE"}"'
    prompts = [frame.text for frame in contents.generated.frames] if contents.generated else []
    if trained.is_phantom:  # captions of patients' frames are not published
        prompts += [trained.frames[name].text for name in record["train"]]
    example = min((prompt for prompt in prompts if prompt), key=len, default="")
    return {
        "config": config,
        "record": record,
        "num_patients": trained.num_patients,
        "facts": [(key, _cell(str(value))) for key, value in facts],
        "is_embedded": base.is_embedded,
        "base_code": code,
        "base_code_is_known": bool(base.model),
        "kind": trained.kind,
        "labels": record.get("labels", []),
        "lora": trained.lora,
        "weights_name": KIND_WEIGHTS if trained.kind else WEIGHTS,
        "kohya_name": KOHYA,
        "example": _code(example or "apical four-chamber view"),
        "guarantee": record.get("differential_privacy"),
        "versions": _list_versions(record["versions"]),
    }


def _of_generated(contents: Contents) -> dict[str, Any]:
    generated = contents.generated
    if generated is None:
        return {"samples": [], "scores": [], "steps": 25, "guidance": 5.0, "lora_scale": 1.0,
                "retries": 0}  # fmt: skip
    scores = [generated.metrics["scores"]]
    rows = build_score_rows(["this"], scores)
    rows += [
        {**row, "n_reference": scores[0][row["key"]]["n_reference"]}
        for row in build_look_rows(["this"], scores)
        if row["key"].startswith(_SHARES)
    ]
    settings = generated.job["settings"]
    drawn = (
        f"{settings['scheduler']}, {settings['steps']} steps, guidance {settings['guidance']:g}, "
        f"{settings['resolution']} pixels, {settings['dtype']}, "
        f"seed {generated.job['config'].get('seed')}"
    )
    lora_scale = settings.get("lora_scale")
    lora_scale = 1.0 if lora_scale is None else lora_scale  # of the bare base, or of an older set
    if lora_scale != 1:
        drawn += f", LoRA scale {lora_scale:g}"
    if (interval := settings.get("guidance_interval", [0, 1])) != [0, 1]:
        drawn += f", guidance from {interval[0]:g} to {interval[1]:g} of the steps"
    if retries := settings.get("retries"):
        drawn += f", drawn again up to {retries} times where a heart was found broken or unclear"
    found: dict[str, Any] = {
        "samples": [_sample(frame) for frame in choose_samples(generated.frames)],
        "scores": rows,
        "key_scores": [
            dataclasses.replace(one, name=_cell(one.name))
            for one in list_key_scores(generated, contents.of_base)
        ],
        "has_base_scores": contents.of_base is not None,
        "lora_scale": lora_scale,
        "retries": settings.get("retries", 0),
        "networks": list_networks([{row["key"]: scores[0][row["key"]] for row in rows}]),
        "alarms": [_cell(str(alarm)) for alarm in generated.metrics.get("alarms", [])],
        "num_images": len(generated.frames),
        "num_prompts": len({frame.text for frame in generated.frames}),
        "num_masks": sum(generated.mask_sources.values()),
        "mask_sources": _cell(", ".join(name or "unnamed" for name in generated.mask_sources)),
        "mask_labels": ", ".join(f"{int(one)} {one.name}" for one in Label),
        "drawn": drawn,
        "reference": reference_text(generated),
        "is_held_out": "held-out" in reference_text(generated),
        "weights_sha256": generated.job["weights_sha256"],
        "steps": settings["steps"],
        "guidance": settings["guidance"],
    }
    if contents.trained is None:
        found["versions"] = _list_versions(generated.job["versions"])
    return found


def _list_versions(versions: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_cell(str(key)), _cell(str(value))) for key, value in versions.items()]


def _sample(frame: Frame) -> dict[str, Any]:
    settings = {}
    with suppress(InputError):
        settings = parse_json(frame.settings or "{}")
    index = settings.get("index", "–") if isinstance(settings, dict) else "–"
    if attempt := attempt_of(frame):
        index = f"{index}, draw {attempt + 1}"
    return {"text": _cell(frame.text) or "(none)", "seed": frame.seed, "index": index}


def _base_text(base: Base) -> str:
    if base.is_embedded:
        return "echodiff's embedded `tiny` (Stable Diffusion's classes, 128 pixels)"
    return f"[{base.model}](https://huggingface.co/{base.model})" if base.model else "a local base"


def _shown(card: DataCard) -> DataCard:
    """Make the texts of a data card safe for the page.

    Headings are moved below those of the page, HTML is escaped, and code blocks are closed.
    """
    lower = re.compile(r"^(#+) ", re.MULTILINE)
    body = lower.sub(lambda match: "#" * min(6, len(match[1]) + 3) + " ", card.body)
    body = body.replace("<", "&lt;")
    for fence in ("```", "~~~"):
        if len(re.findall(rf"^\s*{fence}", body, re.MULTILINE)) % 2:
            body += f"\n{fence}"
    texts: dict[str, Any] = {
        f.name: _cell(value)
        for f in dataclasses.fields(card)
        if f.name not in {"body", "slug"} and isinstance(value := getattr(card, f.name), str)
    }
    if texts.get("licence_link") and not _LINK.fullmatch(card.licence_link or ""):
        texts["licence_link"] = ""
    return dataclasses.replace(card, **texts, body=body)


_LINK = re.compile(r"https?://[\w./?&=%~+-]+")
_MARKDOWN = re.compile(r"([\\`*_<>\[\]!|~$])")


def _cell(text: str) -> str:
    """Escape a text to one line that is not read as Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", " ".join(printable(text).split()))


def _code(text: str) -> str:
    """Clean a text for a quoted string inside a code block."""
    return " ".join(re.sub(r"[\\`\"]", "'", printable(text)).split())
