"""Settings of `echodiff study init`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echodiff.settings.checks import Count, NotNegative, Positive, Seed, at_least, at_most
from echodiff.settings.command_line import positional, repeated

Languages = Literal["en", "ru", "kk", "uz"]
RUN = "run:"
"""What a source begins with whose images are drawn on the spot."""
_SOURCE = re.compile(r"([a-z0-9][a-z0-9_-]{0,30})=(.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class StudyInitConfig:
    """Draw the images of a blinded reader study, make them technically equal, and lay out what
    every reader sees in which order. The same settings and seed give the same study."""

    study: Path = positional()
    """Study folder to write."""
    source: tuple[str, ...] = repeated()
    """One of the sources, the real one first, as NAME=DIR (a frames folder) or NAME=run:RUN (a run
    folder, whose images are drawn now). Give the flag once for each."""
    design: Literal["rating", "paired"] = "rating"
    """rating: how likely is each image real? paired: diagnosis with and without the generated image
    of the same heart next to the real one; two sources."""
    title: str = "Evaluation of echocardiogram images"
    """Title that readers see; it must not name a source."""
    overwrite: bool = False
    """Replace the study at STUDY; refused once it holds a database."""
    seed: Seed = 0
    """Random seed of pools, sequences and identifiers."""

    pool: Count = 400
    """Images to draw from each source (1 or more); fewer are taken if there are no more."""
    split: str | None = None
    """Splits of the real frames to draw from, separated by commas. Default: all rows; what a
    generator was trained on is never drawn."""
    images: Count = 10
    """Images of each source that a reader rates (1 or more); in a paired design the cases."""
    shared: Annotated[int, at_least(0)] = 4
    """How many of them are the same for all readers, for their agreement (0 or more)."""
    repeats: Annotated[int, at_least(0)] = 2
    """Images of each source that are shown a second time, unannounced, for the agreement of a
    reader with himself (0 or more)."""
    practice: Annotated[int, at_least(0)] = 1
    """Practice images of each source, not from the pools (0 or more); readers get no feedback."""
    readers: Count = 24
    """Readers that you expect (1 or more). Sequences are laid out for half as many again, since
    readers drop out, and rounded up to whole balanced sets."""

    size: Annotated[int, at_least(48), at_most(1024)] | None = None
    """Side of every image in pixels (48 to 1024). Default: 15/16 of the smallest, up to 512, so
    that every image is reduced and none enlarged."""
    grey: Literal["tone", "range"] = "tone"
    """What is made equal between images: `tone`, all levels of the tissue by one smooth curve per
    image; `range`, black and white alone."""
    quality: Annotated[int, at_least(50), at_most(95)] = 90
    """JPEG quality of the round trip that every image goes through (50 to 95)."""

    gan_input: tuple[str, ...] = repeated(default=())
    """Frames folder that GAN runs translate, and whose masks a run of train-controlnet draws; as
    NAME=DIR for the source of that name alone. Give the flag once for each."""
    prompt_file: Path | None = None
    """Prompts of LoRA runs, one per line. Default: the captions of the first source."""
    steps: Count | None = None
    """Sampler steps of a run (1 to 1000). Default: that of generate.py."""
    guidance: Annotated[float, at_least(1)] = 5.0
    """Guidance scale of a run (1 or more)."""
    lora_scale: Annotated[Positive, at_most(2)] = 1.0
    """Strength of the adapter of a run (above 0, up to 2)."""
    retries: Annotated[int, at_least(0), at_most(100)] = 0
    """Most times that a heart of a run is drawn again because the segmenter finds it broken or
    unclear (0 to 100): readers then see chosen images, which the report of a study should say."""
    batch_size: Count = 8
    """Images per forward pass of a run (1 or more)."""

    truth: str = "findings"
    """Column of the real frames that holds the true diagnosis, in a paired design."""
    sittings: Literal["crossover", "two"] = "crossover"
    """Of a paired design: crossover shows half of the cases with and half without in each of two
    sittings; two has one sitting with and one without, in either order."""
    washout_days: NotNegative = 28
    """Days between the two sittings of a paired design (0 or more)."""

    images_per_page: Annotated[int, at_least(1), at_most(12)] = 1
    """Images on one rating page (1 to 12); the published study showed several."""
    structured_reading: bool = False
    """Also ask for septa, valves, wall thickness and chambers."""
    display_controls: Literal["logged", "locked"] = "logged"
    """Zoom and brightness: free and logged, or locked."""
    languages: tuple[Languages, ...] = ("en", "ru", "kk", "uz")
    """Languages that a reader may choose, separated by commas."""
    ask_names: bool = False
    """Ask readers for their names, which are kept apart and never exported."""
    ask_birth_date: bool = False
    """Ask for the date of birth instead of an age band."""
    consent_version: str = "1"
    """Version of the consent text."""
    contact: str = ""
    """Whom a reader may write to; shown in the consent."""

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        from echodiff.settings.checks import check_ranges
        from echodiff.study.sequences import repeat_gap

        check_ranges(self)
        if self.steps is not None and self.steps > 1000:
            raise ValueError(f"--steps {self.steps}: must be 1 to 1000")
        places = self.sources
        if len(places) < 2:
            raise ValueError("--source: a study needs two sources or more, one flag for each")
        if self.shared > self.images:
            raise ValueError(f"--shared {self.shared}: is above --images {self.images}")
        if self.repeats > self.images:
            raise ValueError(f"--repeats {self.repeats}: is above --images {self.images}")
        gap = repeat_gap(len(places) * (self.images + self.repeats))
        if self.design == "rating" and self.repeats and self.images_per_page > gap:
            raise ValueError(
                f"--images-per-page {self.images_per_page}: an image could be repeated on its own "
                f"page in a sequence so short; give at most {gap}, or --repeats 0"
            )
        if places[self.names[0]].startswith(RUN):
            raise ValueError(f"--source {self.source[0]}: the first source is the real one, a DIR")
        if self.design == "paired" and len(places) != 2:
            raise ValueError("--design paired: takes two sources, real and generated")
        told = [
            name for name in self.names if re.search(rf"\b{re.escape(name)}\b", self.title, re.I)
        ]
        if told and told != ["real"]:
            raise ValueError(f"--title: names the source {told[0]}, and readers see it")

    @property
    def sources(self) -> dict[str, str]:
        """Place of every source by its name, in the order given."""
        places: dict[str, str] = {}
        for text in self.source:
            found = _SOURCE.fullmatch(text)
            if found is None:
                raise ValueError(
                    f"--source {text}: must be NAME=DIR or NAME=run:RUN, NAME of small letters, "
                    "digits, - and _"
                )
            if found[1] in places:
                raise ValueError(f"--source {found[1]}: is given twice")
            places[found[1]] = found[2]
        return places

    @property
    def names(self) -> list[str]:
        """Names of the sources, the real one first."""
        return list(self.sources)

    def input_of(self, name: str) -> Path | None:
        """Folder of --gan-input for a source; None if it is not given."""
        general = None
        for text in self.gan_input:
            head, equals, rest = text.partition("=")
            if equals and head == name:
                return Path(rest)
            if not (equals and head in self.names):
                general = Path(text)
        return general
