"""Settings of `echodiff audit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from echodiff.settings.checks import Count, Seed, Steps, at_least, at_most, check_ranges
from echodiff.settings.command_line import flag_only, network_names, positional


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Measure what the weights of a run, and images that they generated, tell of the frames that
    they were trained on: copies, membership of single patients and of the set, extraction.

    Weights of train_lora.py, echodiff train-controlnet and echodiff train-gan. The verdict is
    also put into the run folder, where `echodiff push` looks for it. Exit status 1: it failed.
    """

    run: Path = positional()
    """Finished run folder whose weights are audited."""
    generated: Path | None = None
    """Frames folder of images that these weights generated or translated: searched for copies."""
    holdout: Path | None = None
    """Frames folder of real frames that no training has seen, of the source and vendor of the
    training frames and of other patients. Default: the frames that the run held out."""
    data: Path | None = None
    """Frames folder of the training, if it was moved since; of a GAN, its target."""
    out: Path
    """Folder for privacy.json, report.html and copies.jsonl, which shows training frames and stays
    in the house."""
    pairs: Annotated[int, at_least(4), at_most(1000)] = 48
    """Pairs of time step and noise at which losses are taken (4 to 1000)."""
    max_frames: Annotated[int, at_least(20)] = 1000
    """Most frames on each side, training and held-out, drawn by patient (20 or more)."""
    attempts: Steps = 8
    """Images that are generated for each training caption to extract its frame (count); 0: neither
    these nor the attack `recall`."""
    captions: Count = 40
    """Most training captions that are tried (count)."""
    sample_steps: Annotated[int, at_least(1), at_most(1000)] = 20
    """Sampler steps of these images (1 to 1000)."""
    sample_guidance: Annotated[float, at_least(1)] = 2.0
    """Classifier-free guidance of these images (1: off)."""
    shadows: Annotated[int, at_most(256)] = 0
    """Shadow models that are trained on random halves of the patients (count, even; 0: none; 16 as
    published). Slow: each takes as long as the run. The same command resumes them."""
    features: tuple[str, ...] = network_names(("tiny", "texture"))
    """Feature networks in which copies are looked for, separated by commas, as in `echodiff
    evaluate --features`."""
    features_path: Path | None = flag_only(default=None)
    """Folder that is searched for the module of module:function besides the installed packages,
    such as `.`. Default: installed packages only."""
    sscd: Path | None = flag_only(default=None)
    """TorchScript file of SSCD, the copy detector of Pizzi et al. 2022 (a program: needs
    --trust)."""
    trust: bool = flag_only(default=False)
    """Run the TorchScript files of --features and --sscd. They are programs, and can read and
    write files."""
    drop_copies: Path | None = None
    """Folder to which the set of --generated is written without the images that are nearer to a
    training frame than the limit, with its scores before and after."""
    batch_size: Count = 32
    """Frames in one forward pass (count)."""
    threads: Count | None = None
    """CPU threads of the process (count). Default: torch's choice."""
    seed: Seed = 0
    """Seed of noise, generated images and permutations (0 or more)."""
    overwrite: bool = False
    """Replace the audit in --out. Shadow models that are there are kept."""

    def __post_init__(self) -> None:
        """Check ranges and what goes together; every message names its flag."""
        check_ranges(self)
        if not self.features:
            raise ValueError("--features is empty")
        if self.shadows % 2 or self.shadows in (2,) or self.shadows < 0:
            raise ValueError(f"--shadows {self.shadows}: must be 0, or an even number from 4 on")
        if self.drop_copies is not None and self.generated is None:
            raise ValueError("--drop-copies: needs --generated, the set that is filtered")
        if self.sscd is not None and not self.trust:
            raise ValueError(f"--sscd {self.sscd}: is a program: needs --trust")
