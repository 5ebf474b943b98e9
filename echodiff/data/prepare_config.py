"""Options that every `echodiff prepare` shares."""

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
    """Options that every source shares; a source adds its own."""

    src: Path = positional()
    """Data set, as downloaded."""
    out: Path
    """Frames folder to write."""
    size: int | None = None
    """Side of the frames in pixels, 16 to 4096; other shapes are padded with black to a square.
    Default: unchanged."""
    max_frames: int | None = None
    """Maximum number of frames; patients are then taken in an order drawn by seed."""
    views: str | None = None
    """Only these views, separated by commas, such as A4C,A2C."""
    phases: str | None = None
    """Only these phases, separated by commas, such as ED,ES."""
    captions: str = "plain"
    """`none`, `plain` (from the data set's fields), a template with fields in braces, a .txt with
    one, or a .csv with the columns file_name and text, which take precedence."""
    annotated: int | None = None
    """Keep the captions of this many train frames, drawn by seed; the others get the empty prompt.
    Patients with a caption stay in train if they are needed, and others are held out. Train gets
    ten frames without caption per captioned one, or --regularization, if there are enough."""
    regularization: int | None = None
    """With --annotated: keep this many frames without caption, and drop the rest of train."""
    crop: str = NO_CROP
    """`sector` crops images to the sector and blackens the rest; `none` does not crop."""
    text: str | None = KEEP
    """Text in the pixels: `mask` blackens it outside the sector and skips images with text inside;
    `mask-inside` blackens it everywhere; `refuse` skips images with any text; `keep` does not
    search. Null: text is found, kept and reported."""
    keep_doppler: bool = False
    """Keep images with colour Doppler, spectra, M-mode or several panels."""
    split: str = "70/15/15"
    """Shares of train/val/test in patients, balanced over vendors and diagnoses; or `official`, the
    split of the data set."""
    seed: int = 0
    """Random seed, 0 or more."""
    workers: int = 0
    """Number of reading processes; 0 means one per core."""
    card: Path | None = None
    """Data card to copy into the folder. Default: the card shipped for this source."""
    allow_bad: bool = False
    """Continue even if more than 5 % of the files are bad."""
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
            raise ValueError("--regularization requires --annotated")
        if self.crop not in CROPS:
            raise ValueError(f"--crop: expected one of {', '.join(CROPS)}, got {self.crop}")
        if self.text is not None and self.text not in TEXT_CHOICES:
            raise ValueError(f"--text: expected one of {', '.join(TEXT_CHOICES)}, got {self.text}")
        if self.split != OFFICIAL:
            parse_fractions(self.split)
        if self.card is not None and not self.card.is_file():
            raise ValueError(f"--card: {self.card}: no such file")


def split_words(text: str | None) -> tuple[str, ...]:
    """Split `A4C, A2C` into ("A4C", "A2C")."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
