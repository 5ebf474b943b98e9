"""The options that every `echodiff prepare` shares."""

from dataclasses import dataclass
from pathlib import Path

from echodiff.data.splits import parse_fractions
from echodiff.settings.command_line import positional

OFFICIAL = "official"
"""`--split`: the data set's own."""
SECTOR, NO_CROP = CROPS = ("sector", "none")
"""`--crop`."""
MASK, MASK_INSIDE, REFUSE, KEEP = TEXT_CHOICES = ("mask", "mask-inside", "refuse", "keep")
"""`--text`."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """The options that every source shares; those of a source come on top."""

    src: Path = positional()
    """The data set as it was downloaded."""
    out: Path
    """Frames folder to write."""
    size: int | None = None
    """Side of the frames in pixels, 16 to 4096; other shapes are padded with black to a square.
    Null: as they are."""
    max_frames: int | None = None
    """Stop at this many frames; patients are then taken in an order drawn by seed."""
    views: str | None = None
    """Only these views, separated by commas, such as A4C,A2C."""
    phases: str | None = None
    """Only these phases, separated by commas, such as ED,ES."""
    captions: str = "plain"
    """`none`, `plain` (what the data set knows), a template with words in braces, a .txt that holds
    one, or a .csv with the columns file_name and text, whose words win over the template."""
    annotated: int | None = None
    """Keep the captions of this many train frames, drawn by seed; the others get null text.
    Patients with a caption stay in train where they are needed, and others are held out; train gets
    ten null-text frames to a captioned one, or --regularization, where there are as many."""
    regularization: int | None = None
    """With --annotated: keep this many of the others, and leave the rest of train out."""
    crop: str = NO_CROP
    """`sector` cuts pictures to the scan and blackens what lies around it; `none`."""
    text: str | None = KEEP
    """Text in the pixels: `mask` blackens it outside the scan and leaves out pictures that have it
    inside; `mask-inside` fills it in there; `refuse` takes no picture that has any; `keep`
    does not look. Null: it is looked for, kept, and reported."""
    keep_doppler: bool = False
    """Keep pictures with colour Doppler, spectra, M-mode or several panels."""
    split: str = "70/15/15"
    """Shares of train/val/test, counted in patients and even over makers and diagnoses; or
    `official`, the data set's own."""
    seed: int = 0
    """Seed of all that is drawn, 0 or more."""
    workers: int = 0
    """Processes that read; 0 is one a core."""
    card: Path | None = None
    """Data card to put into the folder. Null: the one that comes with this command."""
    allow_bad: bool = False
    """Go on when more than 5 % of the files are bad."""
    overwrite: bool = False
    """Replace the frames folder at --out."""

    def __post_init__(self) -> None:
        if self.size is not None and not 16 <= self.size <= 4096:
            raise ValueError(f"--size must lie in 16..4096, got {self.size}")
        for name in ("max_frames", "annotated", "regularization"):
            number, least = getattr(self, name), int(name == "max_frames")
            if number is not None and number < least:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least {least}, got {number}")
        for name in ("seed", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative, got {getattr(self, name)}")
        if self.regularization is not None and self.annotated is None:
            raise ValueError("--regularization goes with --annotated")
        if self.crop not in CROPS:
            raise ValueError(f"--crop: expected one of {', '.join(CROPS)}, got {self.crop}")
        if self.text is not None and self.text not in TEXT_CHOICES:
            raise ValueError(f"--text: expected one of {', '.join(TEXT_CHOICES)}, got {self.text}")
        if self.split != OFFICIAL:
            parse_fractions(self.split)
        if self.card is not None and not self.card.is_file():
            raise ValueError(f"--card: {self.card}: no such file")


def split_words(text: str | None) -> tuple[str, ...]:
    """`A4C, A2C` -> ("A4C", "A2C")."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
