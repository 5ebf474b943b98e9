"""Settings of `generate.py`. No torch here: `--help` stays quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from echodiff.anatomy import Label
from echodiff.data.labels import parse_table
from echodiff.settings.command_line import flag_only, network_names

NO_WEIGHTS = "none"
"""Value of --weights that asks for the bare base."""
Scheduler = Literal["ddim", "dpmpp", "dpmpp-karras", "euler", "unipc", "pndm"]


MAX_RETRIES = 100


class Solver(NamedTuple):
    """A way from noise to image."""

    scheduler: Scheduler
    steps: int


USUAL = Solver("dpmpp", 25)
FAST = Solver("dpmpp-karras", 12)
"""What --fast stands for; docs/generation.md holds it against 50 steps."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Generate images for the prompts of a file, write them as a frames folder, and score them.

    Image i takes prompt i modulo the number of prompts, and depends on (seed, i) alone. With
    --masks it takes mask i in the same way, and the folder is a labelled data set.
    """

    prompt_file: Path | None = None
    """Text file with one prompt per line. `#` starts a comment; `| guidance=4 weight=2` sets
    options of a line. Default with --masks: the captions of the masks' frames."""
    masks: Path | None = None
    """Masks that the images shall show: a frames folder, its folder `masks`, another folder of
    index masks, or one file. Needs --weights of echodiff train-controlnet. Default: no masks."""
    num_images: int | None = None
    """Number of images to generate (1 or more). Default: 64; with --masks one for each."""
    steps: int | None = None
    """Number of sampler steps (1 to 1000). Default: 25, or 12 with --fast."""
    guidance: float = math.inf
    """Scale of classifier-free guidance: how closely images follow the prompt (1 or more; 1 is
    off). Default: 5; with --masks 2, because masks need less of it and it adds contrast."""
    guidance_interval: tuple[float, ...] = (0.0, 1.0)
    """Part of the steps in which guidance acts, as START,END (0 to 1; the first step is 0). In the
    other steps the prompt alone is followed (guidance 1), which takes half the time."""
    scheduler: Scheduler | None = None
    """Sampler; all of them are deterministic given the initial noise. Default: dpmpp, or
    dpmpp-karras with --fast."""
    fast: bool = False
    """Sample in half the steps: the same as `--scheduler dpmpp-karras --steps 12`, and not
    together with these flags."""
    batch_size: int = 8
    """Number of images per forward pass (1 or more)."""
    seed: int = 0
    """Random seed; it and the index of an image decide the noise of that image (0 or more)."""
    retries: int = 0
    """Draw an image again, with other noise, if the segmenter finds its anatomy broken or unclear,
    up to this many times (0 to 100). The score `intact` then tells of this choice, not of the
    weights."""
    resolution: int | None = None
    """Side of the images in pixels. Default: that of the training run, or of the base model."""

    mask_labels: str | None = None
    """Meaning of the masks' numbers or colours: camus, acdc, mnms, hvsmr, a list like 1=LV,2=RV, or
    a YAML file of such lines. Default: the numbers are those of docs/frames.md."""
    labels: tuple[str, ...] = ()
    """Labels of the masks to ask for, separated by commas, such as LV,LA; all others become
    background, which asks for nothing. Default: all."""
    mask_split: str | None = None
    """Splits of --masks to draw from, separated by commas, such as train: images for masks of other
    patients may then be tested on. Default: all."""
    conditioning_scale: float = 1.0
    """How strongly the masks act (0 to 2): at 0 the images follow the prompt alone."""

    base: str | None = None
    """Base model: `tiny` (embedded), a hub id, a local folder, or one .safetensors file.
    Default: the base of the run, or `tiny`."""
    weights: str | None = None
    """Run folder, LoRA file, hub:USER/NAME@REV (see `echodiff push`), or `none` for the base
    model alone. Default: the run that finished last, with --masks of echodiff train-controlnet."""
    lora: str | None = None
    """With --masks: run folder of train_lora.py or LoRA file to use besides, or `none`. Default:
    the LoRA that the weights were trained on top of, if any."""
    lora_scale: float = 1.0
    """Strength of the adapter (0 to 2): 0 gives the images of the base model, 1 those of the
    adapter as it was trained."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Number format of the networks. auto: 16 bits for a full-size base if the hardware supports
    it."""
    compile: Literal["auto", "none", "regional", "full"] = "auto"
    """What of the denoising network is compiled; takes about 20 s (regional) or 100 s (full)
    once. auto: on a GPU, what shortens this job."""
    exact: bool = False
    """Generate in fixed, padded batches, so that the bits of an image depend on nothing else;
    slower."""

    reference: Path | None = None
    """Frames folder or run folder to score against. Default: the held-out frames of the run, or
    phantom frames."""
    data: Path | None = None
    """Frames folder of the run's training, if it was moved or does not match the record of the
    run."""
    split: str | None = None
    """Splits of the reference to read, separated by commas. Default: all but train of a frames
    folder; test of a run, and val if it has fewer than four test frames."""
    features: tuple[str, ...] = network_names(("inception", "tiny", "texture"))
    """Feature networks of the scores, separated by commas; see `echodiff evaluate --help`."""
    segmenter: Path | None = None
    """Folder of a segmenter of your own (model.safetensors, config.json) for the score `intact` and
    for --retries. Default: the shipped one, trained on phantom frames."""
    features_path: Path | None = flag_only(default=None)
    """Folder that is searched for the module of module:function besides the installed packages,
    such as `.`. Default: installed packages only."""
    trust: bool = flag_only(default=False)
    """Run the TorchScript files of --features. They are programs, and can read and write files."""
    out: Path | None = None
    """Frames folder to write. Default: generated/PROMPTS-K; an unfinished one of the same
    settings is resumed."""
    overwrite: bool = False
    """Replace a finished or different set of images in --out."""

    @property
    def solver(self) -> Solver:
        """Scheduler and steps as they were given, or else those of --fast, or the usual ones."""
        if self.fast:
            return FAST
        return Solver(self.scheduler or USUAL.scheduler, self.steps or USUAL.steps)

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        if math.isinf(self.guidance):  # not given: the parser refuses infinity
            object.__setattr__(self, "guidance", 5.0 if self.masks is None else 2.0)
        for name, given in (("steps", self.steps), ("scheduler", self.scheduler)):
            if self.fast and given is not None:
                raise ValueError(f"--fast: chooses --{name} itself, leave one of the two out")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"--steps {self.steps}: must be 1 to 1000, the noise schedule's")
        if self.exact and self.compile not in ("auto", "none"):
            raise ValueError(f"--compile {self.compile}: its bits differ, leave it or --exact out")
        for name, lowest in (("num_images", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) is not None and getattr(self, name) < lowest:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} {getattr(self, name)}: must be {lowest} or more")
        if self.seed >= 2**64:
            raise ValueError(f"--seed {self.seed}: must be below 2^64")
        if not math.isfinite(self.guidance) or self.guidance < 1:
            raise ValueError(f"--guidance {self.guidance}: must be 1 or more")
        if not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(f"--retries {self.retries}: must be 0 to {MAX_RETRIES}")
        if not 0 <= self.lora_scale <= 2:
            raise ValueError(f"--lora-scale {self.lora_scale}: must be 0 to 2")
        self._check_masks()
        if self.lora_scale != 1 and self.weights == NO_WEIGHTS:
            raise ValueError(f"--lora-scale {self.lora_scale}: --weights none has no adapter")
        interval = self.guidance_interval
        if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
            ends = ",".join(f"{end:g}" for end in interval)
            raise ValueError(f"--guidance-interval {ends}: must be START,END, 0 to 1, in order")
        if not self.features:
            raise ValueError("--features: name at least one network")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"--resolution {self.resolution}: must be 1 or more")
        out, real = self.out, self.reference
        if self.overwrite and out and real and real.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"--reference {real}: lies inside --out, which --overwrite clears")

    def _check_masks(self) -> None:
        if self.prompt_file is None and self.masks is None:
            raise ValueError("missing: --prompt-file")
        if not 0 <= self.conditioning_scale <= 2:
            raise ValueError(f"--conditioning-scale {self.conditioning_scale}: must be 0 to 2")
        parse_table(self.mask_labels)
        if unknown := [name for name in self.labels if name.upper() not in Label.__members__]:
            known = ", ".join(Label.__members__)
            raise ValueError(f"--labels {unknown[0]}: not one of {known}")
        if self.masks is not None:
            if self.weights == NO_WEIGHTS:
                raise ValueError("--masks: --weights none obeys no mask")
            if (
                self.out
                and self.overwrite
                and self.masks.resolve().is_relative_to(self.out.resolve())
            ):
                raise ValueError(
                    f"--masks {self.masks}: lies inside --out, which --overwrite clears"
                )
            return
        for name, is_given in (
            ("mask_labels", self.mask_labels is not None),
            ("labels", bool(self.labels)),
            ("mask_split", self.mask_split is not None),
            ("conditioning_scale", self.conditioning_scale != 1),
            ("lora", self.lora is not None),
        ):
            if is_given:
                hint = "; --weights takes a LoRA" if name == "lora" else ""
                raise ValueError(f"--{name.replace('_', '-')}: needs --masks{hint}")

    @property
    def asked_labels(self) -> frozenset[Label]:
        """Labels of --labels; empty: all."""
        return frozenset(Label[name.upper()] for name in self.labels)

    @property
    def count(self) -> int:
        """Number of images; with masks and without --num-images it is set once they are counted."""
        return 64 if self.num_images is None else self.num_images

    @property
    def stem(self) -> str:
        """What the default of --out is named after."""
        if self.prompt_file is not None:
            return self.prompt_file.stem
        return "masks" if self.masks is None else self.masks.resolve().stem
