"""One score as `metrics.json` has it: its value, its interval, and the number to compare it with.

Every kind of score has a constructor, and its keys in metrics.json in a fixed order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from echodiff.metrics.score_name import COVERAGES, OF_MASKS, PAIRED, Kind, ScoreName


class Source(Protocol):
    """What a score records of the features it was measured in (see `features.FeatureNetwork`)."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def resize(self) -> str: ...


class Network(Source, Protocol):
    """A feature network, whose Frechet distance has a name."""

    @property
    def frechet_name(self) -> str: ...


@dataclass(frozen=True)
class Pixels:
    """No network: images are measured as they are, or after `resize`."""

    resize: str
    name: str = "pixels"
    sha256: str = ""


class Interval(Protocol):
    """A number with its 95 % interval, whose ends are None where there is none."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class Counted(Interval, Protocol):
    """The same, with the number of frames behind it, each counted once."""

    @property
    def num(self) -> int: ...


@dataclass(frozen=True)
class Mean:
    """An `Interval`."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Floor:
    """Real against real: the score between two parts of the reference."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None
    n_reference: int | None
    value_at_n: float | None
    """The score of as many generated frames as `n` against `n_reference` real ones."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score, built by the constructor of its kind; fields that the kind lacks are None."""

    name: ScoreName
    value: float
    low: float | None
    high: float | None
    n: int
    n_reference: int | None = None
    features: str = ""
    features_sha256: str = ""
    resize: str = ""
    scale: int = 1
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    floor_n: int | None = None
    floor_n_reference: int | None = None
    value_at_floor_n: float | None = None
    p: float | None = None
    bandwidth: float | None = None
    real: float | None = None
    real_low: float | None = None
    real_high: float | None = None
    num_without: int | None = None
    num_without_reference: int | None = None
    band: str | None = None
    bands: Sequence[Mapping[str, Any]] | None = None
    frames: Sequence[int] | None = None
    n_train: int | None = None
    distance: float | None = None
    num_pairs: int | None = None
    num_scales: int | None = None
    betas: Sequence[float] | None = None
    data_range: int | None = None
    is_masked: bool | None = None
    num_identical: int | None = None
    values: Sequence[float | None] | None = None
    first: float | None = None
    second: float | None = None
    n_first: int | None = None
    mmd2_first: float | None = None
    mmd2_second: float | None = None
    unit: str | None = None
    num_missed: int | None = None
    first_draws: float | None = None

    @property
    def kind(self) -> Kind:
        return self.name.kind

    def to_record(self) -> dict[str, Any]:
        """Return its entry of metrics.json, with the keys of its kind in their order."""
        record = {key: getattr(self, key) for key in _KEYS[self.kind]}
        chosen = {} if self.first_draws is None else {"first_draws": self.first_draws}
        return record | chosen

    @classmethod
    def from_record(cls, name: str, record: Mapping[str, Any]) -> Score | None:
        """Read one of `scores` of a metrics.json; None of a name that is unknown."""
        parsed = ScoreName.parse(name)
        known = {field.name for field in fields(cls)} - {"name"}
        own = {key: value for key, value in record.items() if key in known}
        return None if parsed is None else cls(name=parsed, **own)

    # --- A constructor for every kind --------------------------------------------------------

    @classmethod
    def beside_floor(
        cls, name: ScoreName, estimate: Interval, counts: tuple[int, int], source: Source,
        floor: Floor, *, scale: int = 1, p: float | None = None, bandwidth: float | None = None,
    ) -> Score:  # fmt: skip
        """Distances and coverages. counts: generated and reference frames. p, bandwidth: of MMD."""
        return cls(
            name=name, **_common(estimate, source), n=counts[0], n_reference=counts[1],
            scale=scale, floor=floor.value, floor_low=floor.low, floor_high=floor.high,
            floor_n=floor.n, floor_n_reference=floor.n_reference,
            value_at_floor_n=floor.value_at_n, p=p, bandwidth=bandwidth,
        )  # fmt: skip

    @classmethod
    def of_look(
        cls, kind: Kind, estimate: Interval, counts: tuple[int, int], source: Source,
        real: Interval, num_without: tuple[int, int],
    ) -> Score:  # fmt: skip
        """A mean over frames. num_without: frames of both sets that have no such number."""
        return cls(
            name=ScoreName(kind), **_common(estimate, source), n=counts[0],
            n_reference=counts[1], **_beside(real), num_without=num_without[0],
            num_without_reference=num_without[1],
        )  # fmt: skip

    @classmethod
    def of_spectrum(
        cls, estimate: Interval, counts: tuple[int, int], source: Source, *, real: float | None,
        band: str, bands: Sequence[Mapping[str, Any]],
    ) -> Score:  # fmt: skip
        """The largest deviation of a ring of the spectrum."""
        return cls(
            name=ScoreName(Kind.SPECTRUM_DEVIATION), **_common(estimate, source), n=counts[0],
            n_reference=counts[1], real=real, band=band, bands=bands,
        )  # fmt: skip

    @classmethod
    def of_drift(
        cls, kind: Kind, estimate: Interval, counts: tuple[int, int], source: Source, *,
        real: float | None, frames: Sequence[int],
    ) -> Score:  # fmt: skip
        """The share of frames that leave the range of the reference, and which they are."""
        return cls(
            name=ScoreName(kind), **_common(estimate, source), n=counts[0],
            n_reference=counts[1], real=real, frames=frames,
        )  # fmt: skip

    @classmethod
    def of_diversity(
        cls, estimate: Interval, counts: tuple[int, int], source: Source, real: Interval, *,
        num_pairs: int, betas: Sequence[float], data_range: int,
    ) -> Score:  # fmt: skip
        """MS-SSIM within a set."""
        return cls(
            name=ScoreName(Kind.MS_SSIM), **_common(estimate, source), n=counts[0],
            n_reference=counts[1], **_beside(real), num_pairs=num_pairs, num_scales=len(betas),
            betas=betas, data_range=data_range,
        )  # fmt: skip

    @classmethod
    def of_copies(
        cls, share: Interval, counts: tuple[int, int, int], source: Source, *, real: float,
        distance: float,
    ) -> Score:  # fmt: skip
        """The share of frames near the training set. counts: generated, reference, training."""
        return cls(
            name=ScoreName(Kind.COPIES, source.name), **_common(share, source), n=counts[0],
            n_reference=counts[1], n_train=counts[2], real=real, distance=distance,
        )  # fmt: skip

    @classmethod
    def of_classifier(
        cls, kind: Kind, finding: str, share: Counted, source: Source, real: Counted | None
    ) -> Score:
        """Faithfulness or specificity, next to the same of real frames if there are any."""
        return cls(
            name=ScoreName(kind, finding=finding), **_common(share, source), n=share.num,
            n_reference=real.num if real else 0, **(_beside(real) if real else {}),
        )  # fmt: skip

    @classmethod
    def of_gain(
        cls, kind: Kind, finding: str, gain: Counted, source: Source, first: Counted,
        second: Counted,
    ) -> Score:  # fmt: skip
        """Second minus first, of faithfulness or specificity."""
        return cls(
            name=ScoreName(kind, finding=finding), **_common(gain, source), n=second.num,
            first=first.value, second=second.value, n_first=first.num,
        )  # fmt: skip

    @classmethod
    def of_anatomy(
        cls, criterion: str, share: Counted, source: Source, real: Counted | None, *,
        num_without: tuple[int, int], frames: Sequence[int], first_draws: float | None = None,
    ) -> Score:  # fmt: skip
        """The share of frames that meet a criterion of anatomy, or all where it is empty.

        num_without: frames of both sets that it does not apply to. frames: those that fail it.
        first_draws: as in `intact.score_anatomy`.
        """
        return cls(
            name=ScoreName(Kind.INTACT, criterion=criterion), **_common(share, source),
            n=share.num, n_reference=real.num if real else 0, **(_beside(real) if real else {}),
            num_without=num_without[0], num_without_reference=num_without[1], frames=frames,
            first_draws=first_draws,
        )  # fmt: skip

    @classmethod
    def of_anatomy_gain(
        cls, gain: Counted, source: Source, first: Counted, second: Counted
    ) -> Score:
        """Second minus first, of the share of frames that meet all criteria."""
        return cls(
            name=ScoreName(Kind.INTACT_GAIN), **_common(gain, source), n=second.num,
            first=first.value, second=second.value, n_first=first.num,
        )  # fmt: skip

    @classmethod
    def of_ratio(
        cls, estimate: Interval, counts: tuple[int, int, int], source: Source, *,
        mmd2: tuple[float, float], bandwidth: float,
    ) -> Score:  # fmt: skip
        """MMD^2 of a second set over that of a first. counts: first, second, reference."""
        return cls(
            name=ScoreName(Kind.MMD_RATIO, source.name), **_common(estimate, source), n=counts[1],
            n_first=counts[0], n_reference=counts[2], mmd2_first=mmd2[0], mmd2_second=mmd2[1],
            bandwidth=bandwidth,
        )  # fmt: skip

    @classmethod
    def of_pairs(
        cls, kind: Kind, estimate: Interval, source: Source, *, data_range: int, is_masked: bool,
        num_identical: int, values: Sequence[float],
    ) -> Score:  # fmt: skip
        """A mean over pairs of images, and the number of every pair."""
        return cls(
            name=ScoreName(kind), **_common(estimate, source), n=len(values),
            n_reference=len(values), data_range=data_range, is_masked=is_masked,
            num_identical=num_identical, values=values,
        )  # fmt: skip

    @classmethod
    def of_masks(
        cls, kind: Kind, label: str, estimate: Interval, counts: tuple[int, int], source: Source, *,
        ceiling: Interval | None, floor: Interval | None, unit: str | None,
        num_missed: int | None, values: Sequence[float | None] | None,
    ) -> Score:  # fmt: skip
        """Agreement of images with the masks that they were generated for.

        counts: generated and reference frames. ceiling: reference frames and their own masks.
        floor: and the masks of other patients. num_missed: images without any pixel of the label.
        """
        low_high = (None, None) if floor is None else (floor.low, floor.high)
        return cls(
            name=ScoreName(kind, label=label), **_common(estimate, source), n=counts[0],
            n_reference=counts[1], **(_beside(ceiling) if ceiling else {}),
            floor=floor.value if floor else None, floor_low=low_high[0], floor_high=low_high[1],
            unit=unit, num_missed=num_missed, values=values,
        )  # fmt: skip


Scores = Mapping[str, Score]
"""Scores by `str(score.name)`."""


def by_name(scores: Sequence[Score]) -> dict[str, Score]:
    return {str(score.name): score for score in scores}


def read_scores(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Score]:
    """The `scores` of a metrics.json; names that are unknown are left out."""
    found = (Score.from_record(name, record) for name, record in records.items())
    return by_name([score for score in found if score is not None])


def write_scores(scores: Scores) -> dict[str, dict[str, Any]]:
    """The `scores` of a metrics.json."""
    return {name: score.to_record() for name, score in scores.items()}


def _common(estimate: Interval, source: Source) -> dict[str, Any]:
    return {
        "value": estimate.value, "low": estimate.low, "high": estimate.high,
        "features": source.name, "features_sha256": source.sha256, "resize": source.resize,
    }  # fmt: skip


def _beside(real: Interval) -> dict[str, Any]:
    return {"real": real.value, "real_low": real.low, "real_high": real.high}


_OF_NETWORK = ("features", "features_sha256", "resize", "scale")
_COMMON = ("value", "low", "high", "n", "n_reference", *_OF_NETWORK)
_REAL = ("real", "real_low", "real_high")
SCORE_KEYS = (
    *_COMMON, "floor", "floor_low", "floor_high", "floor_n", "floor_n_reference",
    "value_at_floor_n",
)  # fmt: skip
"""Keys of a score with a baseline."""
_LOOKS = (
    Kind.SPECKLE_SNR, Kind.SECTOR_SHARE, Kind.SECTOR_APEX, Kind.SECTOR_SYMMETRY, Kind.SECTOR_LEFT,
    Kind.SECTOR_TOP, Kind.SECTOR_RIGHT, Kind.SECTOR_BOTTOM, Kind.BALANCE, Kind.CHROMA,
)  # fmt: skip
_KEYS: dict[Kind, tuple[str, ...]] = {
    **dict.fromkeys((Kind.KID, Kind.FID, Kind.FD, *COVERAGES), SCORE_KEYS),
    Kind.MMD: (*SCORE_KEYS, "p", "bandwidth"),
    **dict.fromkeys(_LOOKS, (*_COMMON, *_REAL, "num_without", "num_without_reference")),
    Kind.SPECTRUM_DEVIATION: (*_COMMON, "real", "band", "bands"),
    **dict.fromkeys((Kind.COLOUR_DRIFT, Kind.SECTOR_DRIFT), (*_COMMON, "real", "frames")),
    Kind.MS_SSIM: (*_COMMON, *_REAL, "num_pairs", "num_scales", "betas", "data_range"),
    Kind.COPIES: ("value", "low", "high", "n", "n_reference", "n_train", *_OF_NETWORK, "real",
                  "distance"),
    **dict.fromkeys(
        (Kind.FAITHFULNESS, Kind.SPECIFICITY),
        ("value", "low", "high", "n", *_OF_NETWORK, "n_reference", *_REAL),
    ),
    **dict.fromkeys(
        (Kind.FAITHFULNESS_GAIN, Kind.SPECIFICITY_GAIN, Kind.INTACT_GAIN),
        ("value", "low", "high", "n", *_OF_NETWORK, "first", "second", "n_first"),
    ),
    Kind.INTACT: (*_COMMON, *_REAL, "num_without", "num_without_reference", "frames"),
    Kind.MMD_RATIO: ("value", "low", "high", "mmd2_first", "mmd2_second", "n_first", "n",
                     "n_reference", *_OF_NETWORK[:3], "bandwidth"),
    **dict.fromkeys(PAIRED, (*_COMMON, "data_range", "is_masked", "num_identical", "values")),
    **dict.fromkeys(OF_MASKS, (*_COMMON, *_REAL, "floor", "floor_low", "floor_high", "unit",
                               "num_missed", "values")),
}  # fmt: skip
