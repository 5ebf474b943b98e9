"""Attack the weights of a denoising network: the base first, then with what was trained added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.choosing import choose_subjects
from echodiff.audit.copies import Reference
from echodiff.audit.extraction import Extraction, extract
from echodiff.audit.measures import Schedule, measure_frames
from echodiff.audit.membership import Attack, score_denoiser
from echodiff.audit.networks import DiffusionWeights
from echodiff.audit.recall import attack_by_recall
from echodiff.audit.subjects import Subjects
from echodiff.runs import Run


@dataclass(frozen=True)
class Target:
    """What was attacked, and with what result."""

    subjects: Subjects
    attacks: Sequence[Attack]
    extract: Callable[[Reference], Extraction | None]
    white_level: int | None
    epsilon: float | None = None
    """Of a training with differential privacy: what it claims."""
    delta: float = 0.0


def attack_diffusion(config: AuditConfig, run: Run, scratch: Path) -> Target:
    """Membership attacks on a LoRA or on weights that obey masks; extraction comes later."""
    subjects = choose_subjects(
        run, holdout=config.holdout, data=config.data, max_frames=config.max_frames,
        seed=config.seed,
    )  # fmt: skip
    weights = DiffusionWeights(run)
    white_level = run.record.get("white_level")
    sides = [
        weights.encode(side, scratch / name, white_level)
        for name, side in (("members", subjects.members), ("others", subjects.others))
    ]
    shape = sides[0].latent_mean.shape[1:]
    schedule = Schedule.draw(weights.schedule, config.pairs, shape, config.seed)
    measure = partial(
        measure_frames, schedule=schedule, sides=sides, device=weights.device,
        batch_size=config.batch_size,
    )  # fmt: skip
    base = measure(weights.predict_base(), told="base")
    model = measure(weights.add_trained(), told="trained")
    units = subjects.build_units()
    attacks = score_denoiser(base, model, units)
    if config.attempts:
        attacks.append(attack_by_recall(config, weights, subjects, units, white_level))
    if config.shadows:
        from echodiff.audit.shadows import attack_with_shadows

        attacks += attack_with_shadows(config, run, subjects, base["loss"], model["loss"], measure)
    settings = run.record.get("settings", {})
    epsilon = settings.get("dp_epsilon")
    return Target(
        subjects,
        attacks,
        lambda reference: extract(config, weights, subjects.members, reference),
        white_level,
        None if epsilon is None else float(epsilon),
        0.0 if epsilon is None else float(settings.get("dp_delta") or 0.0),
    )
