"""Compare two sets of frames: scores, alarms and examples."""

from collections.abc import Mapping
from typing import Any

from echodiff.images import read_gray_u8
from echodiff.metrics.appearance_scores import score_appearance
from echodiff.metrics.copies import find_copies, measure_nearest, score_copies
from echodiff.metrics.coverage import find_collapse, rank_frames, score_coverage
from echodiff.metrics.diversity import find_alike, score_diversity
from echodiff.metrics.faithfulness import Faithfulness, score_faithfulness
from echodiff.metrics.features import FeatureNetwork
from echodiff.metrics.frame_features import Measured, Networks
from echodiff.metrics.intact import describe_broken, score_anatomy
from echodiff.metrics.paired import Pairing, score_pairs
from echodiff.metrics.sample_size import score_by_count
from echodiff.metrics.score import Score, write_scores
from echodiff.metrics.scores import score_sets
from echodiff.runs import versions

NUM_EXAMPLES = 8
LOSSY_APART = 0.1
"""Difference in the share of lossy files above which a note is given."""


def score_measured(
    generated: Measured,
    reference: Measured,
    networks: Networks,
    *,
    seed: int,
    train: Measured | None = None,
) -> dict[str, Any]:
    """All results of one reading of the two sets and of the training set."""
    scores: dict[str, Score] = {}
    left_out: dict[str, str] = {}
    alarm_frames = _find_repeated(generated, reference, train)
    alarms = [*alarm_frames, *_find_chosen(generated), *_find_formats(generated, reference)]

    def add(found: Mapping[str, Score], missing: Mapping[str, str]) -> None:
        scores.update(found)
        left_out.update(missing)

    notes = list(networks.notes)
    anatomy = {}
    if generated.anatomy and reference.anatomy:
        found, missing, broken_alarms = score_anatomy(
            generated.anatomy, reference.anatomy, first_draws=generated.first_draws
        )
        add(found, missing)
        alarms += broken_alarms
        names = [str(path.name) for path in generated.paths]
        anatomy = {"anatomy": describe_broken(generated.anatomy, reference.anatomy, names)}
    for network in networks.opened:
        x, y = (one.in_features(network.name) for one in (generated, reference))
        add(*score_sets(x, y, network, seed=seed))
        add(*score_coverage(x, y, network, seed=seed))
        if train is not None:
            add(*score_copies(x, y, train.in_features(network.name), network))
        if network.name == "tiny" and generated.faithfulness and reference.faithfulness:
            add(score_faithfulness(generated.faithfulness, reference.faithfulness, network), {})
            notes += _find_unknown(generated.faithfulness)
        told = find_collapse(scores, network), find_copies(scores, network, left_out)
        alarms += [alarm for alarm in told if alarm]
    of_look, without, look_alarms = score_appearance(
        generated.appearance, reference.appearance, generated.groups, reference.groups, seed=seed
    )
    add(of_look, without)
    return {
        "scores": write_scores(scores),
        "alarms": alarms + look_alarms,
        "alarm_frames": alarm_frames,
        "left_out": left_out,
        **anatomy,
        "notes": notes,
        "generated": generated.name,
        "reference": reference.name,
        "train": train.name if train else None,
        "seed": seed,
        "versions": versions(),
    }


def _find_repeated(
    generated: Measured, reference: Measured, train: Measured | None
) -> dict[str, list[int]]:
    """Return the alarms of images that are in a set where they should not be, each with the rows of
    the generated images that it is about."""
    digests = generated.digests

    def rows_in(other: Measured) -> list[int]:
        theirs = set(other.digests)
        return [row for row, digest in enumerate(digests) if digest in theirs]

    first = {digest: row for row, digest in reversed([*enumerate(digests)])}
    repeated = [row for row, digest in enumerate(digests) if first[digest] != row]
    alarms = {}
    if shared := rows_in(reference):
        num = len({digests[row] for row in shared})
        alarms[f"shared files: {num} images are in both sets, pixel by pixel"] = shared
    if repeated:
        text = f"copies: {len(repeated)} of {len(generated)} generated images repeat another"
        alarms[text] = repeated
    if train is not None and (copied := rows_in(train)):
        num = len({digests[row] for row in copied})
        alarms[f"copies: {num} generated images are training frames, pixel by pixel"] = copied
    if train is not None and (leaked := len(set(reference.digests) & set(train.digests))):
        alarms[f"shared files: {leaked} reference frames are training frames"] = []
    return alarms


def _find_chosen(generated: Measured) -> list[str]:
    """Return an alarm if images were chosen by the network that then judges their anatomy."""
    if generated.first_draws is None:
        return []
    return [
        "chosen images: hearts that were refused were drawn again (--retries), and "
        f"{100 * generated.first_draws:.0f} % of the first draws were kept: the score intact tells "
        "of the choice, not of the weights"
    ]


def _find_unknown(faithfulness: Faithfulness) -> list[str]:
    """Return a note if prompts state findings that the classifier does not know."""
    names = ", ".join(faithfulness.unknown)
    return [f"faithfulness leaves out {names}, which tiny does not judge"] if names else []


def _find_formats(generated: Measured, reference: Measured) -> list[str]:
    """Return a note if compression separates the sets: it removes speckle and leaves blocks."""
    shares = [float(one.is_lossy.mean()) for one in (generated, reference)]
    if abs(shares[0] - shares[1]) < LOSSY_APART:
        return []
    counts = " against ".join(
        f"{int(one.is_lossy.sum())} of {len(one)} {which} images"
        for one, which in ((generated, "generated"), (reference, "reference"))
    )
    return [f"file formats: {counts} are in lossy files, such as JPEG: the scores include that"]


def score_fully(
    generated: Measured,
    reference: Measured,
    networks: Networks,
    *,
    seed: int,
    train: Measured | None = None,
    pairing: Pairing | None = None,
) -> dict[str, Any]:
    """Return the scores of `score_measured`, those that read images again, and examples."""
    result = score_measured(generated, reference, networks, seed=seed, train=train)
    found, missing = score_diversity(
        lambda index: read_gray_u8(generated.paths[index], max_value=generated.white_level),
        lambda index: read_gray_u8(reference.paths[index], max_value=reference.white_level),
        generated.groups, reference.groups, seed=seed,
    )  # fmt: skip
    if pairing is not None:
        of_pairs = score_pairs(
            pairing.pairs, pairing.groups, masks=pairing.masks, seed=seed,
            white_level=reference.white_level,
        )  # fmt: skip
        found, missing = found | of_pairs[0], missing | of_pairs[1]
        if pairing.unpaired:
            result["notes"].append(f"{len(pairing.unpaired)} images have no partner")
    result["scores"] |= write_scores(found)
    result["left_out"] |= missing
    if alike := find_alike(found):
        result["alarms"].append(alike)
    result["by_count"] = [
        row
        for network in networks.opened
        for row in score_by_count(
            generated.in_features(network.name), reference.in_features(network.name),
            network, seed=seed,
        )
    ]  # fmt: skip
    result["examples"] = find_examples(generated, reference, train, networks.opened[0])
    return result


def find_examples(
    generated: Measured, reference: Measured, train: Measured | None, network: FeatureNetwork
) -> dict[str, Any]:
    """Images to look at: least and most typical, and nearest to the training (or real) frames."""
    x, y = (one.in_features(network.name) for one in (generated, reference))
    order = rank_frames(x, y).tolist()
    near = train or reference
    distances, rows = measure_nearest(x, near.in_features(network.name))
    return {
        "features": network.name,
        "nearest_of": "training" if train else "reference",
        "worst": [str(generated.paths[i]) for i in order[:NUM_EXAMPLES]],
        "best": [str(generated.paths[i]) for i in order[::-1][:NUM_EXAMPLES]],
        "nearest": [
            [str(generated.paths[i]), str(near.paths[rows[i]])]
            for i in distances.argsort()[:NUM_EXAMPLES].tolist()
        ],
    }
