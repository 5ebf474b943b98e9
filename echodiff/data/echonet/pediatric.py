"""`echodiff prepare echonet-pediatric`: clips of children, in folders A4C and PSAX -> frames.

The layout is read as in the code that made the data set (github.com/bryanhe/dynamic).
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.anatomy import View
from echodiff.data.echonet.dynamic import (
    FILES,
    TRACINGS,
    ClipFolder,
    ClipList,
    EchoNetConfig,
    find_roots,
    read_clip,
)
from echodiff.data.echonet.tracings import POINTS, open_tracings
from echodiff.data.records import DataSet, Source
from echodiff.errors import InputError

VIEWS = {"A4C": View.A4C, "PSAX": View.PSAX}
"""Views by folder name."""
FACTS = {
    "EF": "ef",
    "Sex": "sex",
    "Age": "age_years",
    "Weight": "weight_kg",
    "Height": "height_cm",
}


@dataclass(frozen=True, kw_only=True)
class EchoNetPediatricConfig(EchoNetConfig):
    """Convert EchoNet-Pediatric to a frames folder: the frames at end of diastole and end of
    systole, with the traced left ventricle as mask. SRC is one of the folders A4C and PSAX, or
    holds one or both, at any depth."""


def find_clips(config: EchoNetPediatricConfig) -> DataSet:
    """Find the clips of both views; a patient may have several clips in either."""
    folders = []
    for name, root in find_views(config.src).items():
        table = open_tracings(root / TRACINGS, POINTS, first_frame=config.first_frame)
        # The same clip might be in both views.
        folders.append(ClipFolder(root, VIEWS[name], FACTS, table, prefix=f"{name}-"))
    return DataSet(
        name="echonet-pediatric",
        card="echonet-pediatric",
        modality="echo",
        cases=ClipList(folders),
        read=partial(read_clip, every=config.every),
        listings=[path for folder in folders for path in folder.listings],
    )


def find_views(src: Path) -> dict[str, Path]:
    """Find the folder of each view that is present."""
    roots: dict[str, Path] = {}
    for root in find_roots(src):
        name = os.path.basename(os.path.abspath(root)).upper()
        if name not in VIEWS:
            continue
        if name in roots:
            raise InputError(f"{src}: {name} is at {roots[name]} and at {root}; name one")
        roots[name] = root
    if not roots:
        raise InputError(f"{src}: has no folder {' or '.join(VIEWS)} with a {FILES}")
    return roots


SOURCE = Source(EchoNetPediatricConfig, find_clips)
