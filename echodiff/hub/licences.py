"""Decide what may be shared, by the licences of the data sets and of the base model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff.data.cards import CARD, read_head
from echodiff.errors import InputError
from echodiff.files import shipped
from echodiff.frames.maker import PHANTOM
from echodiff.hub.source import Generated

MAY_BE_SHARED = "echodiff_weights_may_be_shared"
NO_LICENCE = frozenset({"", "unknown", "none", "null", "tbd", "todo"})
_FREE = frozenset({
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-3.0",
    "cc-by-2.0", "odc-by", "pddl", "unlicense", "cdla-permissive-2.0",
})  # fmt: skip
"""Licences without conditions on weights beyond those of the base model's licence."""
_OWN = frozenset({"folder", "dicom", "mesh"})
"""Sources of frames that the user's own card describes."""
_HUB_ID = re.compile(r"\A[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class DataCard:
    """The data card of one data set."""

    slug: str
    """Name in lower case with hyphens, for `datasets` of the model card."""
    title: str
    licence: str
    """As the Hub spells it; empty if the card has none."""
    licence_name: str
    licence_link: str
    weights: str
    """Whether weights may be shared: yes, no or ask."""
    tags: tuple[str, ...]
    body: str
    """The card's text, without its YAML."""

    @property
    def licence_text(self) -> str:
        """The licence as shown to a reader."""
        if self.licence == "other":
            return self.licence_name or "other"
        return self.licence or "unknown"


def read_card(path: Path) -> DataCard:
    """Read a data card; InputError that names a field of the wrong kind."""
    head = read_head(path)

    def word(key: str) -> str:
        value = head.get(key)
        if value is None or isinstance(value, str):
            return (value or "").strip()
        raise InputError(f"{path}: {key}: expected text, got {value!r}")

    tags = head.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InputError(f"{path}: tags: expected a list of words, got {tags!r}")
    shared = head.get(MAY_BE_SHARED)
    shared = {True: "yes", False: "no", None: "ask"}.get(shared, shared)  # unquoted yes is true
    if shared not in {"yes", "no", "ask"}:
        raise InputError(f"{path}: {MAY_BE_SHARED}: expected yes, no or ask, got {shared!r}")
    title = word("pretty_name") or path.stem
    licence = word("license").lower()
    text = path.read_text(encoding="utf-8").split("---\n", 2)[2]
    return DataCard(
        slug="-".join(re.findall(r"[a-z0-9]+", title.lower())) or "frames",
        title=title,
        licence="" if licence in NO_LICENCE else licence,
        licence_name=word("license_name"),
        licence_link=word("license_link"),
        weights=shared,
        tags=tuple(tags),
        body=text.strip(),
    )


def find_cards(folder: Path, sources: Iterable[str], *, is_phantom: bool) -> list[DataCard]:
    """Find the card of a frames folder, and the shipped card of every data set in its rows.

    A folder merged from several data sets keeps the conditions of each, whatever its own card says.
    """
    cards = []
    if (folder / CARD).is_file():
        cards.append(read_card(folder / CARD))
    elif is_phantom:
        cards.append(read_card(shipped("data_cards/phantom.md")))
    names = {path.stem: path for path in shipped("data_cards").glob("*.md")}
    for source in sorted(set(sources) & names.keys() - _OWN):
        card = read_card(names[source])
        if card.title not in {known.title for known in cards}:
            cards.append(card)
    return cards


@dataclass(frozen=True)
class Base:
    """The base model and its licence, as others can find them."""

    model: str
    """Its id on the Hub; empty if unknown, or if it ships with echodiff."""
    is_embedded: bool
    licence: str
    """As the Hub spells it; empty if unknown."""
    licence_link: str = ""

    @property
    def is_openrail(self) -> bool:
        return self.licence == "creativeml-openrail-m"


_OPENRAIL_LINK = "https://huggingface.co/spaces/CompVis/stable-diffusion-license"
_LICENCES_LINK = "https://huggingface.co/docs/hub/repositories-licenses"
_OPENRAIL_MODELS = frozenset({
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5",
    "benjamin-paine/stable-diffusion-v1-5", "compvis/stable-diffusion-v1-4",
})  # fmt: skip


def find_base(base: str, given: str | None) -> Base:
    """Find the id and licence of a run's base model; `given`: its Hub id, from --base-model."""
    if base == "tiny" and given is None:
        return Base("", True, "apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")
    folder = Path(base)
    model = given or ("" if folder.exists() or not _HUB_ID.fullmatch(base) else base)
    if model and not _HUB_ID.fullmatch(model):
        raise InputError(f"--base-model {model}: is not an id of the Hub; expected USER/NAME")
    if model.lower() in _OPENRAIL_MODELS:
        return Base(model, False, "creativeml-openrail-m", _OPENRAIL_LINK)
    head = _read_model_head(folder, model)
    licence = str(head.get("license") or "").lower()
    link = str(head.get("license_link") or "")
    return Base(model, False, "" if licence in NO_LICENCE else licence, link or _link(licence))


def _link(licence: str) -> str:
    """Return the address of a licence's text; empty if unknown."""
    if licence == "creativeml-openrail-m":
        return _OPENRAIL_LINK
    if match := re.fullmatch(r"cc-(by[a-z-]*)-(\d\.\d)", licence):
        return f"https://creativecommons.org/licenses/{match[1]}/{match[2]}/"
    return ""


def _read_model_head(folder: Path, model: str) -> Mapping[str, Any]:
    """Read the YAML of the base model's card, next to its weights or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    path = folder / CARD
    if not path.is_file() and model:
        cached = try_to_load_from_cache(model, CARD)
        path = Path(cached) if isinstance(cached, str) else path
    try:
        return read_head(path)
    except InputError:
        return {}


def find_objections(cards: Sequence[DataCard], base: Base, *, has_data: bool) -> list[str]:
    """List the licence reasons against a push.

    has_data: whether anything was trained; otherwise only the base model's licence counts.
    """
    reasons = []
    if has_data and not cards:
        reasons.append("the training data have no data card: their licence is unknown")
    for card in cards:
        if not card.licence:
            reasons.append(f"{card.title}: its data card names no licence")
        elif card.licence == "other" and not (card.licence_name and card.licence_link):
            reasons.append(f"{card.title}: its licence is `other`, without a name and a link")
        if card.weights == "no":
            reasons.append(f"{card.title}: its data card forbids sharing weights"
                           f" ({card.licence_text})")  # fmt: skip
        elif card.weights == "ask":
            reasons.append(f"{card.title}: its data card leaves open whether weights may be shared"
                           f" ({card.licence_text})")  # fmt: skip
    if not base.licence:
        which = base.model or "the base model"
        reasons.append(f"{which}: its licence is unknown; --base-model names the model")
    return reasons


def find_mask_objections(generated: Generated, cards: Sequence[DataCard]) -> list[str]:
    """List the reasons against publishing the masks of a set, which are annotations of other
    frames, as are its captions without a prompt file.

    cards: of the training, the first of them of a user's own frames.
    """
    is_captioned = generated.job["config"].get("prompt_file") is None
    what = "masks and captions" if is_captioned else "masks"
    shipped_cards = {path.stem: path for path in shipped("data_cards").glob("*.md")}
    reasons = []
    for source, num in sorted(generated.mask_sources.items()):
        if source.startswith(PHANTOM):
            continue
        if source in _OWN:
            card = cards[0] if cards else None
        else:
            card = read_card(shipped_cards[source]) if source in shipped_cards else None
        if card is None:
            which = f"frames of {source}" if source else "frames that no row names"
            reasons.append(f"{num} {what} are of {which}: whether they may be shared is unknown")
        elif card.licence not in _FREE:
            reasons.append(
                f"{card.title}: {num} {what} are annotations of its frames ({card.licence_text})"
            )
    return reasons


@dataclass(frozen=True)
class Licence:
    """The licence fields of a card for the Hub."""

    licence: str | None
    name: str | None = None
    link: str | None = None


def join_licences(cards: Sequence[DataCard], base: Base) -> Licence:
    """Join the licence of the base model with the conditions of the data sets."""
    bound = [card for card in cards if card.licence and card.licence not in _FREE]
    if not bound:
        if base.licence == "other" or not base.licence:
            return Licence(None)
        return Licence(base.licence)
    names = [base.licence] if base.licence and base.licence not in _FREE else []
    names += [card.licence_text.lower() for card in bound]
    links = [base.licence_link, *(card.licence_link or _link(card.licence) for card in bound)]
    name = "-and-".join(dict.fromkeys(names))
    if name == bound[0].licence:
        return Licence(name)
    link = next((link for link in links if link.startswith("https://")), _LICENCES_LINK)
    return Licence("other", re.sub(r"[^a-z0-9.-]+", "-", name), link)
