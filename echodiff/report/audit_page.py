"""The page of `echodiff audit`: verdict, attacks, the closest pairs, and a place to sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.images import pad_square, resize_u8
from echodiff.metrics.limits import AUC_LIMIT, SET_LEVEL
from echodiff.report.cards import Card
from echodiff.report.pictures import SHOWN_SIDE, embed_png
from echodiff.report.tables import format_interval, format_number, score_name
from echodiff.report.template import write_page

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8], float]
"""A generated image and the training frame that it is most like (H, W), and their likeness."""
FOUND = ("Nothing found", "Found")
RECALL = "recall"
NAMES = {
    "loss": "Loss",
    "calibrated_loss": "Calibrated loss",
    "pia": "PIA",
    "secmi": "SecMI",
    "sima": "SimA",
    RECALL: "Recall",
    "lira": "LiRA",
    "rmia": "RMIA",
    "discriminator": "Discriminator",
    "reconstruction": "Reconstruction",
}


def write_audit_page(
    out: Path, record: Mapping[str, Any], shown: Mapping[str, Sequence[Pair]], name: str
) -> None:
    """Write the page of a privacy.json. shown: pairs under `closest` and `extracted`."""
    counts = record["n"]
    write_page(
        out,
        "audit.html.jinja",
        title=f"Privacy audit of {name}",
        summary=(
            f"{counts['training_frames']} training frames; attacked: {counts['members']} of them, "
            f"of {counts['member_patients']} patients, next to {counts['non_members']} unseen "
            f"frames of {counts['non_member_patients']} patients of the same source and vendor, "
            "as far as the rows name these."
        ),
        verdict=record["verdict"],
        cards=build_cards(record),
        attack_rows=build_attack_rows(record["attacks"]),
        whole=build_set_row(record["attacks"].get("set")),
        ceiling=record["ceiling"],
        extraction=record["attacks"].get("extraction"),
        copy_rows=build_copy_rows(record["sets"]),
        filtered_rows=build_filtered_rows(record["sets"]),
        closest=[draw_pair(*pair) for pair in shown["closest"]],
        extracted=[draw_pair(*pair) for pair in shown["extracted"]],
        not_tested=record["not_tested"],
        means_not=record["means_not"],
        facts=list_facts(record),
    )  # fmt: skip


def build_cards(record: Mapping[str, Any]) -> list[Card]:
    """The four numbers at the top: single patients, the set, extraction, copies.

    Each is marked by the limits of the verdict.
    """
    attacks, cards = record["attacks"], []
    tests = {name: one for name, one in attacks.items() if "auc" in one}
    is_recalled = RECALL in tests and tests[RECALL]["p_holm"] < SET_LEVEL
    if tests:
        name = max(tests, key=lambda name: tests[name]["auc"])
        one = tests[name]
        cards.append(Card(
            label="Single patients: strongest attack",
            value=f"AUC {one['auc']:.2f}",
            interval=f"95 % interval {one['low']:.2f} to {one['high']:.2f}",
            note=f"{NAMES.get(name, name)}; 0.5 is a coin.",
            is_good=one["auc"] < AUC_LIMIT or one["p_holm"] >= SET_LEVEL,
            marks=(f"Below the limit of {AUC_LIMIT:g}", "Told from others"),
        ))  # fmt: skip
    if (whole := attacks.get("set")) is not None:
        lowest, best = min(
            ((one["p_holm"], name) for name, one in tests.items()), default=(1.0, "")
        )
        alone = (
            f" By {NAMES.get(best, best)} alone: p {write_p(lowest)}."
            if lowest < SET_LEVEL <= whole["p"] else ""
        )  # fmt: skip
        cards.append(Card(
            label="The training patients as a set", value=f"p {write_p(whole['p'])}",
            interval=f"{whole['num_members']} against {whole['num_others']} patients",
            note=f"The share of sets of unseen patients that would look as well known.{alone}",
            is_good=min(whole["p"], lowest) >= SET_LEVEL,
            marks=("Not recognised", "Recognised"),
        ))  # fmt: skip
    if (one := attacks.get("extraction")) is not None:
        cards.append(Card(
            label="Training frames that came back", value=str(one["num_frames_extracted"]),
            interval=f"in {one['n']} images of {one['num_captions']} training captions",
            note=f"By the grain of pixels: likeness {one['highest']:.2f}; a copy from "
                 f"{one['limit']:.2f}." + (" Their layout comes back." if is_recalled else ""),
            is_good=not one["num_frames_extracted"] and not is_recalled,
            marks=FOUND if one["num_frames_extracted"] or not is_recalled
            else (FOUND[0], "Layouts found"),
        ))  # fmt: skip
    for one in record["sets"][:1]:
        pixels = one["copies"]["pixels"]
        cards.append(Card(
            label="Copies in the generated set", value=f"{100 * pixels['share']:.1f} %",
            interval=f"95 % interval {100 * pixels['low']:.1f} to {100 * pixels['high']:.1f} %, "
                     f"n {pixels['n']}",
            note=f"{pixels['num_copies']} images; highest likeness {pixels['highest']:.2f}.",
            # Without a copy a set may still be near to the training, or come from what recalls it.
            is_good=False if pixels["num_copies"] else True if one["passed"] else None,
            marks=FOUND,
        ))  # fmt: skip
    return cards


def build_attack_rows(attacks: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of the attacks on single patients."""
    rows = []
    for name, one in attacks.items():
        if "auc" not in one:
            continue
        rate = one["tpr_at_1_percent_fpr"]
        rows.append({
            "name": NAMES.get(name, name), "what": one["what"], "reference": one["reference"],
            "auc": f"{one['auc']:.3f}", "interval": f"{one['low']:.3f} to {one['high']:.3f}",
            "p": write_p(one["p"]), "p_holm": write_p(one["p_holm"]), "p_by": one["p_by"],
            "rate": "–" if isinstance(rate, str) else
                    f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to "
                    f"{100 * rate['high']:.1f})",
        })  # fmt: skip
    return rows


def build_set_row(whole: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The test of the set, in words."""
    if whole is None:
        return None
    return {
        "p": write_p(whole["p"]), "difference": f"{whole['difference']:.2f}",
        "joins": ", ".join(NAMES.get(name, name) for name in whole["joins"]),
        "num_permutations": whole["num_permutations"],
    }  # fmt: skip


def build_copy_rows(sets: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows of every search for copies, of the set and of what was kept of it."""
    rows = []
    for one, place in zip(sets, ("as given", "without copies"), strict=False):
        for name, found in one["copies"].items():
            share = found.get("share", found.get("value"))
            authentic = found.get("authentic")
            rows.append({
                "set": f"{place}, n {one['n']}", "name": name,
                "share": "–" if share is None else f"{100 * share:.1f} %",
                "interval": "–" if found.get("low") is None
                            else f"{100 * found['low']:.1f} to {100 * found['high']:.1f} %",
                "expected": "0 %" if name == "pixels" else "5 %",
                "authentic": "–" if authentic is None else
                             f"{100 * authentic['value']:.0f} % ({100 * authentic['low']:.0f} to "
                             f"{100 * authentic['high']:.0f}; unseen real "
                             f"{100 * authentic['real']:.0f})",
                "note": found.get("left_out", ""),
            })  # fmt: skip
    return rows


def build_filtered_rows(sets: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Rows of scores of a set before and after its copies were dropped."""
    rows = []
    for one in sets:
        for name, score in one.get("scores", {}).items():
            cells = []
            for side in ("before", "after"):
                found = score[side]
                interval = format_interval(found["low"], found["high"], False)
                cells.append(f"{format_number(found['value'], False)} ({interval})")
            rows.append((score_name(name), cells))
    return rows


def draw_pair(
    generated: NDArray[np.uint8], training: NDArray[np.uint8], likeness: float
) -> dict[str, Any]:
    """Both images at one size, and their difference on grey."""
    side = min(SHOWN_SIDE, max(generated.shape))
    pair = [resize_u8(pad_square(image), (side, side)) for image in (generated, training)]
    difference = np.abs(pair[0].astype(np.int16) - pair[1]).astype(np.uint8)
    images = [embed_png(image) for image in (*pair, difference)]
    return {"images": images, "likeness": f"{likeness:.2f}"}


def list_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Hashes and settings."""
    settings = record["settings"]
    facts = [
        ("Weights (SHA-256)", record["weights_sha256"]),
        ("Base (SHA-256)", record["base_sha256"] or "none"),
        ("Frames (SHA-256)", record["data_sha256"]),
        *((f"Images {number} (SHA-256)", one["sha256"])
          for number, one in enumerate(record["sets"], 1)),
        *((f"Features {name} (SHA-256)", digest)
          for name, digest in settings["features"].items()),
        *((name.replace("_", " ").capitalize(), str(value))
          for name, value in settings.items() if name != "features"),
        ("Seed", str(record["seed"])),
    ]  # fmt: skip
    return facts


def write_p(p: float) -> str:
    """A p value to two digits; below 0.001 only that."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"
