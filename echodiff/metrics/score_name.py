"""Names of scores: what was measured, in which feature network, at which count.

They are the keys of `scores` in metrics.json: `mmd_tiny`, `fd_tiny@40`, `faithfulness_asd`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is measured; the value is how names begin."""

    MMD = "mmd"
    KID = "kid"
    FID = "fid"
    FD = "fd"
    PRECISION = "precision"
    RECALL = "recall"
    DENSITY = "density"
    COVERAGE = "coverage"
    COPIES = "copies"
    FAITHFULNESS = "faithfulness"
    SPECIFICITY = "specificity"
    MMD_RATIO = "mmd_ratio"
    FAITHFULNESS_GAIN = "faithfulness_gain"
    SPECIFICITY_GAIN = "specificity_gain"
    MS_SSIM = "ms_ssim"
    SSIM = "ssim"
    PSNR = "psnr"
    PSNR_MIXED = "psnr_mixed"
    MAE = "mae"
    MSE = "mse"
    SPECKLE_SNR = "speckle_snr"
    SECTOR_SHARE = "sector_share"
    SECTOR_APEX = "sector_apex"
    SECTOR_SYMMETRY = "sector_symmetry"
    SECTOR_LEFT = "sector_left"
    SECTOR_TOP = "sector_top"
    SECTOR_RIGHT = "sector_right"
    SECTOR_BOTTOM = "sector_bottom"
    BALANCE = "balance"
    CHROMA = "chroma"
    SPECTRUM_DEVIATION = "spectrum_deviation"
    COLOUR_DRIFT = "colour_drift"
    SECTOR_DRIFT = "sector_drift"
    INTACT = "intact"
    INTACT_GAIN = "intact_gain"
    MASK_DICE = "mask_dice"
    MASK_HD95 = "mask_hd95"
    MASK_ASSD = "mask_assd"
    OBEDIENCE = "obedience"


DISTANCES = frozenset({Kind.MMD, Kind.KID, Kind.FID, Kind.FD})
COVERAGES = (Kind.PRECISION, Kind.RECALL, Kind.DENSITY, Kind.COVERAGE)
PAIRED = (Kind.SSIM, Kind.PSNR, Kind.PSNR_MIXED, Kind.MAE, Kind.MSE)
_BY_FINDING = {Kind.FAITHFULNESS, Kind.SPECIFICITY, Kind.FAITHFULNESS_GAIN, Kind.SPECIFICITY_GAIN}
_BY_CRITERION = {Kind.INTACT, Kind.INTACT_GAIN}
OF_MASKS = (Kind.MASK_DICE, Kind.MASK_HD95, Kind.MASK_ASSD, Kind.OBEDIENCE)


@dataclass(frozen=True)
class ScoreName:
    """A key of `scores` in metrics.json, in its parts."""

    kind: Kind
    features: str = ""
    """The feature network; empty if the kind implies it."""
    finding: str = ""
    """Of faithfulness and specificity; empty for the mean over findings."""
    criterion: str = ""
    """Of `intact`; empty for frames that meet all criteria."""
    label: str = ""
    """Of the agreement with masks; empty for the mean over labels."""
    count: int | None = None
    """Images behind a Frechet distance, which is not comparable across counts."""

    def __str__(self) -> str:
        part = self.features or self.finding or self.criterion or self.label
        text = f"{self.kind}_{part}" if part else str(self.kind)
        return text if self.count is None else f"{text}@{self.count}"

    @classmethod
    def parse(cls, text: str) -> ScoreName | None:
        """The parts of a key; None where no score is called so."""
        name, _, count = text.rpartition("@")
        number = int(count) if name and count.isdecimal() else None
        name = text if number is None else name
        fitting = [kind for kind in Kind if name == kind or name.startswith(f"{kind}_")]
        if not fitting:
            return None
        kind = max(fitting, key=len)
        rest = name[len(kind) + 1 :]
        if kind in _BY_FINDING:
            return cls(kind, finding=rest, count=number)
        if kind in _BY_CRITERION:
            return cls(kind, criterion=rest, count=number)
        if kind in OF_MASKS:
            return cls(kind, label=rest, count=number)
        return cls(kind, features=rest, count=number)
