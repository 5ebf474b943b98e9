"""Draw a set of images for a prompt file, write it as a frames folder, and score it.

    python generate.py --prompt-file prompts/asd.txt               # newest run, else the bare base
    python generate.py --masks frames/ours                         # one image for each mask
    accelerate launch generate.py --prompt-file prompts/asd.txt --weights runs/lora-1
    python generate.py --help

Image i depends on (seed, i) alone. The same command on an unfinished folder goes on where it was.
"""

import logging
import sys
import warnings

from echodiff.diffusion.sampling.asked_masks import read_asked
from echodiff.diffusion.sampling.settings import GenerateConfig
from echodiff.settings.command_line import parse, run_main

PROG = "generate.py"


def main(argv: list[str], *, prog: str = PROG) -> None:
    config, prompts, asked = read_asked(parse(GenerateConfig, argv, prog=prog))

    # Torch and its friends take seconds to import: only once the settings are sound.
    from echodiff.diffusion.sampling.drawing import draw_frames, measure_drift, record_job
    from echodiff.diffusion.sampling.job import build_sampler, is_drawn, list_inputs, open_job
    from echodiff.diffusion.sampling.pipeline import load_model
    from echodiff.diffusion.sampling.reference import find_reference
    from echodiff.diffusion.sampling.sheet import write_sheet
    from echodiff.frames.white_level import find_white_level
    from echodiff.metrics.frame_features import load_networks
    from echodiff.metrics.segmenter import load_segmenter
    from echodiff.training.precision import start_processes

    # --- Model, sampler, folder: everything that can be refused is refused before a byte is written
    state = start_processes(None)
    networks, segmenter = None, load_segmenter(config.segmenter)
    if state.is_main_process:
        networks = load_networks(config.features, trust=config.trust, modules=config.features_path)
    model = load_model(config, state.device)
    sampler = build_sampler(config, prompts, model, asked)
    reference = find_reference(
        config, model, sampler.resolution, is_quiet=not state.is_main_process
    )
    white_level = model.run.record.get("white_level") if model.run else None
    if reference.source is not None:
        find_white_level(reference.source, known=white_level)
    with open_job(config, sampler, model, state, asked) as (job, lock):
        # --- Draw; each process takes every n-th batch of what is missing
        if not is_drawn(job, config.overwrite):
            inputs = list_inputs(config, model, reference)
            draw_frames(
                job, sampler, segmenter, state, overwrite=config.overwrite, lock=lock, inputs=inputs
            )
        if networks is None:
            return

        # --- Look at them, and measure; what scores is not imported before
        from echodiff.evaluate import score_frames
        from echodiff.report.page import ImageSet, write_report
        from echodiff.report.tables import summary_lines

        write_sheet(job.out, has_masks=asked is not None, side=sampler.resolution)
        if drift := measure_drift(job, model, sampler):
            print(drift)
        print(f"scoring against {reference.text}")
        with reference.opened() as real:
            result = score_frames(job.out, real, features=networks, seed=config.seed,
                                  out=job.out, white_level=white_level,
                                  segmenter=config.segmenter)  # fmt: skip
            write_report(
                job.out / "report.html",
                title=f"Images for {config.stem}",
                summary=f"{config.count} images by {model.name}, scored against {reference.text}.",
                sets=[ImageSet(title="Generated", folder=job.out)],
                reference=real,
                reference_text=reference.text,
                run=model.run,
                white_level=white_level,
            )
        record_job(job, white_level=white_level, reference=reference.text, finished=True)

        # --- Say what came out
        print(f"{config.count} images by {model.name}: {job.out}")
        print(*summary_lines(result, job.out), sep="\n")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # diffusers and peft tell their own developers things that a user can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(run_main(lambda: main(sys.argv[1:]), PROG))
