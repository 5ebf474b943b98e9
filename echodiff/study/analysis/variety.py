"""How varied the generated images are: coverage, which realism says nothing about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from echodiff.errors import InputError

FEATURES = "texture"


def split_names(items: tuple[str, ...], sources: tuple[str, ...]) -> dict[str, Path]:
    """Read `NAME=DIR` items; InputError for a name that is no generated source."""
    found: dict[str, Path] = {}
    for item in items:
        name, equals, folder = item.partition("=")
        if not equals or not folder:
            raise InputError(f"--generated {item}: must be SOURCE=DIR")
        if name not in sources[1:]:
            raise InputError(f"--generated {item}: the generated sources are "
                             f"{', '.join(sources[1:])}")  # fmt: skip
        if name in found:
            raise InputError(f"--generated: {name} is there twice")
        if not Path(folder).is_dir():
            raise InputError(f"--generated {item}: there is no folder {folder}")
        found[name] = Path(folder)
    return found


def describe_variety(generated: dict[str, Path], reference: Path, *, seed: int) -> dict[str, Any]:
    """Coverage of the reference by each source's frames, and of real frames by real ones.

    In `texture` features, which no network chose. A score that needs more frames is left out.
    """
    from echodiff.data.reference import open_reference
    from echodiff.metrics.coverage import score_coverage
    from echodiff.metrics.frame_features import load_networks, measure_frames

    networks = load_networks([FEATURES])
    name, pictures = open_reference(reference, [*generated.values()])
    real = measure_frames(pictures, networks=networks.opened, name=name)
    found: dict[str, Any] = {}
    for source, folder in generated.items():
        own = measure_frames(folder, networks=networks.opened)
        scores, missing = score_coverage(
            own.in_features(FEATURES), real.in_features(FEATURES), networks.opened[0], seed=seed
        )
        key = f"coverage_{FEATURES}"
        if key not in scores:
            found[source] = {"left_out": missing[key]}
            continue
        score = scores[key]
        found[source] = {
            "value": score.value, "low": score.low, "high": score.high, "real": score.floor,
            "n": [len(own), len(real)], "unit": "generated and reference frames",
            "method": f"coverage in {FEATURES} features (Naeem et al. 2020)",
        }  # fmt: skip
    return found
