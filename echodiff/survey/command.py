"""`echodiff compare-generators [--data DIR] --out DIR`: which generator, for which scanner."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.fingerprints import Job, describe_difference
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.frames.reader import hash_frames
from echodiff.settings.command_line import parse, run_main
from echodiff.settings.fields import as_dict
from echodiff.survey.survey_config import (
    DECODER,
    SurveyConfig,
    draws_latents,
    find_deviation,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.survey.decoder import FittedDecoder
    from echodiff.survey.frames import SurveyFrames
    from echodiff.survey.scoring import Judge

PROG = "echodiff compare-generators"
SURVEY_FILE, REPORT_FILE, JOB_FILE = "survey.json", "report.html", "job.json"
_INDIFFERENT = ("out", "data", "threads", "checkpoint_every", "dry_run", "arms", "seeds")
"""Settings that a comparison may be resumed with other values of: arms and seeds can be added."""
DRY_FRAMES = 48
"""Simulated frames of a dry run."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_main(lambda: _run(parse(SurveyConfig, argv, prog=PROG)), PROG)


def _run(config: SurveyConfig) -> int:
    refuse_inputs(config.out, [config.data])
    if {"gan", "vae"} & {*config.arms} or not config.dry_run:
        import monai  # noqa: F401  # missing, it is named before anything is read
    from echodiff.training.precision import start_accelerator

    accelerator, _ = start_accelerator(
        "no", num_parameters=0, tracker="none", threads=config.threads
    )
    if accelerator.num_processes > 1:
        raise InputError(f"{accelerator.num_processes} processes: {PROG} runs in one")
    if config.dry_run:
        return _rehearse(config, accelerator)
    with FolderLock(config.out):
        return _compare(config, accelerator)


def _rehearse(config: SurveyConfig, accelerator: Accelerator) -> int:
    """Print what the comparison will cost; nothing is left in --out."""
    from echodiff.survey.costs import list_costs
    from echodiff.survey.frames import open_frames
    from echodiff.survey.trainings import open_workshop, plan_trainings

    with tempfile.TemporaryDirectory() as folder:
        short = replace(config, out=Path(folder))
        if config.data is None:
            short = replace(short, phantom_frames=min(config.phantom_frames, DRY_FRAMES))
        frames = open_frames(short)
        shop = open_workshop(short, frames, Path(folder), accelerator)
        plan = plan_trainings(shop)
        for line in list_costs(config, frames, plan, accelerator.device):
            print(line)
    print("dry run: nothing was written")
    return 0


def _compare(config: SurveyConfig, accelerator: Accelerator) -> int:
    from echodiff.metrics.frame_features import load_networks
    from echodiff.report.survey_page import write_survey_page
    from echodiff.survey.costs import list_costs
    from echodiff.survey.frames import open_frames, write_survey_frames
    from echodiff.survey.pictures import draw_pictures
    from echodiff.survey.scoring import Judge, keep
    from echodiff.survey.segmentations import Bench, list_segmentations, summarise
    from echodiff.survey.stages import compare_speed, plan_drawing, score_sets_of
    from echodiff.survey.table import build_table
    from echodiff.survey.timings import Timings
    from echodiff.survey.trainings import open_workshop, plan_trainings

    # --- Frames, and how long every arm is trained
    networks = load_networks(config.features)
    frames = open_frames(config)
    _claim(config, frames)
    folders = write_survey_frames(config, frames)
    timings = Timings(config.out)
    shop = open_workshop(config, frames, folders["none"], accelerator)
    plan = plan_trainings(shop)
    for line in list_costs(config, frames, plan, accelerator.device):
        print(line)

    # --- Train every arm with every seed, and draw its images
    drawing = plan_drawing(config, folders["none"], frames.vendors)
    _train_and_draw(shop, plan, drawing, timings)

    # --- Score them; the network that reads masks is the first segmentation of real frames
    bench = Bench(config, frames, folders, accelerator)
    kinds = list_segmentations(config, has_styles=len(frames.vendors) > 1)
    judge = Judge(config, networks, folders["none"], bench.train(kinds[0], 0), frames.vendors)
    scores: dict[str, list[dict[str, Any]]] = {
        arm: [score_sets_of(config, arm, number, drawing, judge) for number in range(config.seeds)]
        for arm in config.arms
    }
    noise = keep(config.out / "scores" / "noise.json",
                 lambda: judge.score_distances(judge.write_noise(config.out / "sets")))  # fmt: skip
    result = build_table(
        config, frames, networks, plan, scores,
        noise=noise,
        classifier=_judge_classifier(config, judge),
        autoencoder=_judge_autoencoder(shop, plan, judge),
        segmentations=summarise({one.name: bench.measure(one) for one in kinds}),
        speed=compare_speed(config, judge),
        audits=_audit(config),
    )  # fmt: skip

    # --- Write table and page
    pictures = draw_pictures(config, drawing)
    write_survey_page(
        config.out / REPORT_FILE, result, pictures=pictures,
        seconds={arm: {name: timings.mean(arm, name)
                       for name in ("seconds_an_image", "training_seconds")}
                 for arm in config.arms},
        curves={arm: config.out / "arms" / arm / "seed-0" for arm in config.arms},
    )  # fmt: skip
    write_json_atomic(config.out / SURVEY_FILE, result)
    for axis, sentence in result["verdict"].items():
        print(f"{axis}: {sentence}")
    print(f"Report: {config.out / REPORT_FILE}; all numbers in {config.out / SURVEY_FILE}")
    return 0


def _train_and_draw(shop: Any, plan: Mapping[str, Any], drawing: Any, timings: Any) -> None:
    from echodiff.segmentation.training import is_trained
    from echodiff.survey.stages import draw_sets
    from echodiff.survey.trainings import fit_decoder, train_arm

    config = shop.config
    if DECODER in plan and not is_trained(config.out / "arms" / DECODER / "seed-0"):
        print(f"decoder of --base {config.base}: {plan[DECODER].num_steps} steps")
        start = time.perf_counter()
        fit_decoder(shop, plan)
        timings.add(DECODER, 0, training_seconds=time.perf_counter() - start)
    for arm in config.arms:
        for number in range(config.seeds):
            if (config.out / "scores" / arm / f"seed-{number}" / "own.json").is_file():
                continue  # trained, drawn and scored
            print(f"{arm}, training {number + 1} of {config.seeds}: {plan[arm].num_steps} steps")
            is_new = not is_trained(config.out / "arms" / arm / f"seed-{number}")
            start = time.perf_counter()
            source = train_arm(shop, arm, plan, number)
            if is_new:
                timings.add(arm, number, training_seconds=time.perf_counter() - start)
            draw_sets(config, arm, number, source, drawing, timings)


def _judge_classifier(config: SurveyConfig, judge: Judge) -> dict[str, Any] | None:
    """Accuracy of the style classifier on held-out real frames; None with one vendor."""
    from echodiff.survey.scoring import keep

    if len(judge.vendors) < 2:
        return None
    return keep(config.out / "scores" / "classifier.json", lambda: judge.classifier[1])


def _judge_autoencoder(
    shop: Any, plan: Mapping[str, Any], judge: Judge
) -> dict[str, dict[str, Any]] | None:
    """What the autoencoder of --base leaves of the vendors of real frames, as it is and fitted.

    None where no arm draws with it, or with one vendor.
    """
    from echodiff.survey.latents import LatentSpace
    from echodiff.survey.scoring import keep
    from echodiff.survey.trainings import fit_decoder

    config = shop.config
    drawing = [arm for arm in config.arms if draws_latents(arm, config.space)]
    if not drawing or len(judge.vendors) < 2:
        return None

    def score(decoder: FittedDecoder | None) -> dict[str, Any]:
        latents = LatentSpace(config.base, shop.accelerator.device)
        if decoder is not None:
            decoder.load_into(latents.decoder)
        return judge.score_round_trip(latents)

    folder = config.out / "scores"
    found = {"as it is": keep(folder / "autoencoder.json", lambda: score(None))}
    if DECODER in plan:
        found["fitted"] = keep(
            folder / "autoencoder-fitted.json", lambda: score(fit_decoder(shop, plan))
        )
    return found


def _audit(config: SurveyConfig) -> dict[str, dict[str, Any]]:
    from echodiff.survey.privacy import audit_arm
    from echodiff.survey.segmentations import find_set
    from echodiff.survey.sets import OWN

    return {
        arm: audit_arm(
            arm, config.out / "arms" / arm / "seed-0", find_set(config, arm, 0, OWN),
            config.out / "audits" / arm, config.threads,
        )
        for arm in config.arms
    }  # fmt: skip


def _claim(config: SurveyConfig, frames: SurveyFrames) -> None:
    """Begin the comparison in --out, or refuse a folder that holds another one."""
    from echodiff.diffusion.base import base_sha256

    parts = [one for one in (frames.train, frames.test, frames.unseen) if one is not None]
    rows = [row for one in parts for row in one.frames]
    settings = {k: v for k, v in as_dict(config).items() if k not in _INDIFFERENT}
    # Other scaling makes other networks of the same weights.
    settings["deviation"] = find_deviation("diffusion", config.space)
    settings["base_sha256"] = base_sha256(config.base)
    job = Job("compare-generators", settings, hash_frames(frames.source, rows, has_masks=True))
    path = config.out / JOB_FILE
    if not path.is_file():
        write_json_atomic(path, job.to_record() | {"fingerprint": job.fingerprint})
        return
    record = read_record(path, {"fingerprint": str})
    if record["fingerprint"] != job.fingerprint:
        told = describe_difference(record, job.to_record())
        raise InputError(f"--out {config.out}: holds another comparison{told}")
