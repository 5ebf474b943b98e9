"""Studies to analyse: the published one, rebuilt from its tables, and simulated ones."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from echodiff.__main__ import main

FIXTURE = Path(__file__).parents[4] / "shared" / "reference" / "reader_study_table2_fixture.json"
COLUMNS = ["reader", "trial", "kind", "condition", "source", "image", "score", "ms"]


def write_csv(path, rows, columns=COLUMNS):
    """Write rows, a mapping each; columns that a row lacks are empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def deal_counts(counts, num_readers):
    """Rows of a study with these counts of scores 1 to 5 a source, dealt to the readers in turn."""
    rows = []
    generator = np.random.default_rng(0)
    for source, counted in counts.items():
        scores = generator.permutation(np.repeat(np.arange(1, 6), counted))
        for place, score in enumerate(scores):
            rows.append(
                {
                    "reader": f"R{place % num_readers + 1}",
                    "source": source,
                    "image": f"{source}-{place}",
                    "score": int(score),
                    "kind": "main",
                }
            )
    return rows


def simulate_rows(num_readers=8, num_images=6, *, shift=1.5, seed=0, shared=0, repeats=0):
    """Rows of a study of two sources; `shared` images a source are rated by all readers."""
    generator = np.random.default_rng(seed)
    quality = generator.normal(0, 1.0, (2, shared))
    rows = []
    for reader in range(num_readers):
        own = generator.normal(0, 0.7)
        trial = 0
        for column, source in enumerate(("real", "gan")):
            for place in range(num_images):
                is_shared = place < shared
                image = f"{source}-{place}" if is_shared else f"{source}-{reader}-{place}"
                level = own - column * shift + (quality[column, place] if is_shared else 0.0)

                def rate(level=level):
                    return int((level + generator.logistic() > np.array([-2, -0.7, 0.7, 2])).sum())

                trial += 1
                row = {
                    "reader": f"R{reader + 1}",
                    "source": source,
                    "image": image,
                    "trial": trial,
                    "kind": "shared" if is_shared else "main",
                    "score": rate() + 1,
                    "ms": 4000 + 100 * place,
                }
                rows.append(row)
                if place < repeats:
                    rows.append(
                        row
                        | {
                            "kind": "repeat",
                            "trial": 1000 + trial,
                            "score": min(5, max(1, row["score"] + rate() % 2)),
                        }
                    )
    return rows


@pytest.fixture
def analyse(tmp_path, capsys):
    """`analyse(rows, *flags)`: write a CSV and run the command; status, analysis, what it said."""

    def run(rows, *flags, name="ratings.csv", columns=COLUMNS):
        path = rows if isinstance(rows, Path) else write_csv(tmp_path / name, rows, columns)
        out = tmp_path / "out"
        argv = ["study", "analyze", str(path), "--out", str(out), "--overwrite", *flags]
        status = main(argv)
        told = capsys.readouterr()
        found = json.loads((out / "analysis.json").read_text("utf-8")) if status == 0 else None
        return status, found, told.out + told.err

    return run


@pytest.fixture(scope="session")
def fixture():
    """Counts and tables of the published study."""
    if not FIXTURE.is_file():
        pytest.skip("the published study's counts are in ../shared, which is not here")
    return json.loads(FIXTURE.read_text("utf-8"))


@pytest.fixture(scope="session")
def deal():
    """`deal_counts`."""
    return deal_counts


@pytest.fixture(scope="session")
def simulate():
    """`simulate_rows`."""
    return simulate_rows
