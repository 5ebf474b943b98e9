"""`echodiff prepare echonet-pediatric`: clips of children, in folders A4C and PSAX -> frames.

Layout and meaning are those of the code that made the set (github.com/bryanhe/dynamic).
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.anatomy import View
from echodiff.data.cases import DataSet, Source
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
from echodiff.errors import InputError

VIEWS = {"A4C": View.A4C, "PSAX": View.SAX}
"""View by the name of the folder."""
FACTS = {
    "EF": "ef",
    "Sex": "sex",
    "Age": "age_years",
    "Weight": "weight_kg",
    "Height": "height_cm",
}


@dataclass(frozen=True, kw_only=True)
class EchoNetPediatricConfig(EchoNetConfig):
    """Turn EchoNet-Pediatric into a frames folder: the frames at end of diastole and end of
    systole, with the traced left ventricle as mask. SRC holds the folders A4C and PSAX, or one of
    them, or is one; they may lie further down."""


def find_clips(config: EchoNetPediatricConfig) -> DataSet:
    """The clips of both views; a patient may have several, in either."""
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
    """The folder of every view that is there."""
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
