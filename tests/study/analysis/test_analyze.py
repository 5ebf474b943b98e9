"""`echodiff study analyze`: every number with its n, interval, method and the hash of its input."""

import csv
import hashlib
import json

import numpy as np
import pytest
from scipy import stats

from echodiff.__main__ import main
from echodiff.fingerprints import compute_fingerprint
from echodiff.study.analysis.covariates import describe_gain
from echodiff.study.columns import RATING_COLUMNS, READER_COLUMNS, TICK_BOXES


def with_method(value):
    if isinstance(value, dict):
        if "method" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from with_method(inner)


def test_a_study_is_analysed(analyse, simulate, tmp_path):
    rows = simulate(num_readers=9, num_images=8, shift=4.0, shared=6, repeats=2)
    status, found, told = analyse(rows)
    assert status == 0
    (auc,) = found["main"]["auc"]
    assert auc["p"] == 2 / 2**9  # every reader above chance
    assert auc["value"] == pytest.approx(np.mean([*auc["per_reader"].values()]))
    assert auc["low"] > 0.5
    assert auc["n"] == 9
    assert found["verdict"] in told
    assert found["verdict"].startswith("9 readers (144 ratings) told gan (AUC 0.")
    assert found["inputs"] == {
        "ratings.csv": hashlib.sha256((tmp_path / "ratings.csv").read_bytes()).hexdigest()
    }
    rows = list(with_method(found))
    assert len(rows) > 15
    assert all(row["input"] == compute_fingerprint(found["inputs"]) for row in rows)
    assert all("n" in row for row in rows)
    (both,) = found["multireader"]
    assert both["value"] == pytest.approx(auc["value"])  # as many images of each in every reader
    assert both["n"][0] == 9
    model = found["model"]
    (coefficient,) = model["coefficients"]
    assert coefficient["high"] < 0
    assert model["order"]["trials"] == 10
    assert {row["source"] for row in found["times"]} == {"real", "gan"}
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "not for diagnosis" in page
    assert found["verdict"] in page
    assert "<svg" in (tmp_path / "out" / "figures" / "auc.svg").read_text("utf-8")


def test_the_same_input_gives_the_same_bytes(analyse, simulate, tmp_path):
    analyse(simulate(shared=5))
    first = (tmp_path / "out" / "analysis.json").read_bytes()
    analyse(simulate(shared=5))
    assert (tmp_path / "out" / "analysis.json").read_bytes() == first


def test_equal_sources_are_equivalent_and_different_ones_not(analyse, simulate):
    _, found, _ = analyse(simulate(num_readers=14, num_images=30, shift=0.0), "--margin", "0.1")
    (auc,) = found["main"]["auc"]
    assert auc["equivalence"]["p"] < 0.05
    assert "did not distinguish gan" in found["verdict"]
    assert 0.4 < auc["equivalence"]["low_90"] < auc["equivalence"]["high_90"] < 0.6
    _, found, _ = analyse(simulate(num_readers=14, num_images=30, shift=1.5))
    assert found["main"]["auc"][0]["equivalence"]["p"] > 0.5


def test_perfect_readers_have_an_auc_and_no_odds(analyse, simulate, tmp_path):
    best = {"real": (5, 4), "gan": (1, 2)}
    rows = [row | {"score": best[row["source"]][place % 2]} for place, row in enumerate(simulate())]
    status, found, _ = analyse(rows)
    assert status == 0
    assert found["main"]["auc"][0]["value"] == 1
    assert "separated" in found["model"]["left_out"]
    assert "Not estimated: the scores are separated" in (
        tmp_path / "out" / "report.html"
    ).read_text("utf-8")


def test_five_readers_are_told_that_they_are_too_few(analyse, simulate):
    _, found, told = analyse(simulate(num_readers=5))
    assert found["main"]["auc"][0]["low"] is None
    assert "with 5 readers the smallest possible p of the main test is 0.0625" in told
    assert "leave open whether gan" in found["verdict"]


def test_experience_has_as_many_n_as_readers(analyse, simulate, tmp_path):
    lines = ["reader,experience_years,weekly_readings,state"]
    lines += [f"R{n},{3 * n},{2**n},done" for n in range(1, 9)]
    (tmp_path / "readers.csv").write_text("\n".join(lines), "utf-8")
    _, found, _ = analyse(simulate(num_readers=8))  # readers.csv is next to the ratings
    assert {row["predictor"] for row in found["experience"]} == {
        "experience_years", "weekly_readings",
    }  # fmt: skip
    for row in found["experience"]:
        assert row["n"] == 8
        assert row["p"] <= row["p_holm"]
        assert row["slope_low"] <= row["slope"] <= row["slope_high"]
    assert (tmp_path / "out" / "figures" / "weekly_readings.svg").is_file()
    assert sorted(found["inputs"]) == ["ratings.csv", "readers.csv"]


def test_every_column_of_an_export_is_read(analyse, simulate, tmp_path):
    readers = [{"reader": f"R{n}", "state": "done", "experience_years": n} for n in range(1, 9)]
    with (tmp_path / "readers.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(READER_COLUMNS), restval="")
        writer.writeheader()
        writer.writerows(readers)
    rows = [
        row | dict.fromkeys(TICK_BOXES, 0) | {"sequence": 0, "sitting": 1} for row in simulate()
    ]
    status, found, _ = analyse(rows, columns=list(RATING_COLUMNS))
    assert status == 0
    assert {row["tick"] for row in found["ticks"]} == set(TICK_BOXES)
    assert found["notes"] == []


def test_tick_boxes_are_shares_of_readers(analyse, simulate):
    rows = [row | {"cropped_image": int(row["source"] == "gan")} for row in simulate()]
    columns = [*rows[0], "condition"]
    _, found, _ = analyse(rows, columns=columns)
    shares = {row["source"]: row["value"] for row in found["ticks"]}
    assert shares == {"real": 0.0, "gan": 1.0}


def paired(gain, *, num_readers=8, num_cases=20):
    """A paired design in which `gain` of the cases become right with the generated image."""
    rows = []
    for reader in range(num_readers):
        for case in range(num_cases):
            for condition in ("without", "with"):
                right = case < 10 + (gain + reader % 2 if condition == "with" else 0)
                rows.append({
                    "reader": f"R{reader}", "source": "real", "image": f"case-{case}",
                    "condition": condition, "sitting": 1 + (condition == "with"), "score": 4,
                    "truth": "LVH", "diagnosis": "LVH" if right else "normal", "kind": "main",
                })  # fmt: skip
    return rows


def test_diagnoses_with_and_without_the_generated_image(analyse):
    rows = paired(2)
    status, found, _ = analyse(rows, columns=[*rows[0]])
    assert status == 0
    diagnosis = found["diagnosis"]
    assert (diagnosis["without"], diagnosis["with"]) == (0.5, 0.625)
    assert diagnosis["value"] == pytest.approx(0.125)
    assert diagnosis["p"] == 2 / 2**8
    assert (diagnosis["gained"], diagnosis["lost"]) == (20, 0)
    assert (diagnosis["n"], diagnosis["num_cases"], diagnosis["num_pairs"]) == (8, 20, 160)
    assert diagnosis["published"] == 0.11
    both = diagnosis["multireader"]
    assert (both["value"], both["n"]) == (pytest.approx(0.125), [8, 20])
    assert both["low"] < diagnosis["low"] < diagnosis["high"] < both["high"]
    assert "rose by 12 points" in found["verdict"]
    assert "main" not in found


def test_a_case_that_was_diagnosed_once_does_not_count(analyse):
    rows = [row for row in paired(2) if not (row["image"] == "case-0" and row["sitting"] == 2)]
    _, found, _ = analyse(rows, columns=[*rows[0]])
    assert found["diagnosis"]["num_cases"] == 19


def test_an_analysis_is_not_overwritten_and_nothing_is_half_written(tmp_path, simulate, capsys):
    rows = simulate()
    path = tmp_path / "in" / "ratings.csv"
    path.parent.mkdir()
    path.write_text(
        "reader,source,image,score\n"
        + "\n".join(
            f"{row['reader']},{row['source']},{row['image']},{row['score']}" for row in rows
        ),
        "utf-8",
    )
    out = tmp_path / "out"
    argv = ["study", "analyze", str(path.parent), "--out", str(out)]
    assert main(argv) == 0
    assert main(argv) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    before = json.loads((out / "analysis.json").read_text("utf-8"))
    path.write_text("reader,source,image,score\nA,real,r1,9\n", "utf-8")
    assert main([*argv, "--overwrite"]) == 2
    assert "score 9" in capsys.readouterr().err
    assert json.loads((out / "analysis.json").read_text("utf-8")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--margin", "0.6"], "--margin 0.6: must be between 0 and 0.5"),
        (["--generated", "gan=/nowhere"], "--generated and --reference need each other"),
        (["--readers", "nobody.csv"], "--readers nobody.csv: no such file"),
    ],
)
def test_bad_flags_are_one_line(analyse, simulate, flags, message):
    status, _, told = analyse(simulate(), *flags)
    assert status == 2
    assert message in told
    assert told.count("\n") == 1


def test_coverage_is_printed_next_to_realism(analyse, simulate, make_frames, tmp_path):
    generated, reference = (make_frames(name, captioned=24) for name in ("gan", "held-out"))
    _, found, _ = analyse(
        simulate(), "--generated", f"gan={generated}", "--reference", str(reference)
    )
    variety = found["variety"]["gan"]
    assert 0 <= variety["value"] <= 1
    assert variety["n"] == [30, 30]
    assert "Realism and variety" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_source_of_other_readers_is_left_out_and_p_is_corrected(analyse, simulate):
    rows = simulate(num_readers=8, num_images=6, shared=6)
    again = simulate(num_readers=8, num_images=6, shared=6, shift=0.1, seed=1)
    rows += [row | {"source": "cut", "image": f"cut{row['image']}", "trial": row["trial"] + 100}
             for row in again if row["source"] == "gan"]  # fmt: skip
    rows += [{"reader": "R9", "source": "sd", "image": f"sd-{n}", "score": n} for n in (1, 2, 3)]
    status, found, told = analyse(rows)
    assert status == 0
    assert "no reader rated both sd and real images" in told
    both = {row["source"]: row for row in found["multireader"]}
    assert set(both) == {"gan", "cut"}
    low, high = sorted((row["p"], row["p_holm"]) for row in both.values())
    assert low[1] == pytest.approx(min(1, 2 * low[0]))
    assert high[1] == pytest.approx(max(high[0], low[1]))
    (pair,) = found["multireader_pairs"]
    assert pair["p_holm"] == pair["p"]


def test_an_interval_has_a_width_or_is_not_there(analyse, simulate):
    rows = [row | {"cropped_image": 0} for row in simulate()]
    _, found, _ = analyse(rows, columns=[*rows[0]])
    for tick in found["ticks"]:
        assert (tick["value"], tick["low"], tick["high"]) == (0, None, None)


def test_readings_without_a_diagnosis_are_counted(analyse):
    rows = paired(2)
    rows[0]["diagnosis"] = ""
    _, found, told = analyse(rows, columns=[*rows[0]])
    assert "1 readings have no diagnosis or no truth and are left out" in told
    assert found["diagnosis"]["num_pairs"] == 159


def test_a_gain_over_readers_and_cases_has_its_level():
    """Cases that the generated images help or harm, by chance: the gain of all cases is nothing."""
    generator = np.random.default_rng(0)
    readers, cases = generator.normal(0, 0.3, (400, 8, 1)), generator.normal(0, 0.8, (400, 1, 20))
    tables = np.sign(readers + cases + generator.normal(0, 1, (400, 8, 20))).round()
    p = [describe_gain(table)["p"] for table in tables]
    assert np.mean([one < 0.05 for one in p]) < 0.08
    of_readers = tables.mean(axis=2)
    error = of_readers.std(axis=1, ddof=1) / np.sqrt(8)
    assert (abs(of_readers.mean(axis=1)) > 2.36 * error).mean() > 0.15  # over readers alone


def test_a_gain_by_its_definition():
    table = np.array([[1.0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 0]])
    found = describe_gain(table)
    # Mean squares of readers 1/12, of cases 11/36, of both 11/36: cases add nothing.
    assert found["value"] == pytest.approx(7 / 12)
    assert found["high"] - found["value"] == pytest.approx(4.302653 / 12, abs=1e-6)
    more = describe_gain(np.vstack([table, table]))
    # Of readers 1/15, of cases 11/18, of both 11/45.
    total = 1 / 15 + 11 / 18 - 11 / 45
    freedom = total**2 / ((1 / 15) ** 2 / 5 + (11 / 18) ** 2 / 3 + (11 / 45) ** 2 / 15)
    assert freedom < 3
    half = stats.t.ppf(0.975, 3) * np.sqrt(total / 24)  # as many as four cases leave
    assert more["high"] - more["value"] == pytest.approx(half)
    assert describe_gain(np.ones((3, 4)))["p"] is None
    assert "left_out" in describe_gain(np.ones((3, 1)))
