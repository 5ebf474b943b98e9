"""Numbers as the report prints them."""

from pathlib import Path

from echodiff.report.tables import (
    build_look_rows,
    build_score_rows,
    score_name,
    summary_lines,
)


def score(value: float, **others: object) -> dict[str, object]:
    return {
        "value": value,
        "low": value - 0.5,
        "high": value + 0.5,
        "n": 48,
        "n_reference": 40,
        "features": "tiny",
        **others,
    }


def test_names_are_those_of_the_field() -> None:
    assert score_name("mmd_tiny") == "MMD² (tiny)"
    assert score_name("kid_texture") == "KID × 1000 (texture)"
    assert score_name("fd_tiny@128") == "FD (tiny), n = 128"
    assert score_name("fid@800") == "FID, n = 800"
    assert score_name("faithfulness") == "Faithfulness, mean over findings"
    assert score_name("intact") == "Intact anatomy, all criteria"
    assert score_name("intact_atrial_septum") == "Intact anatomy: atrial septum"


def test_rows_come_measure_by_measure_distances_first() -> None:
    scores = [
        {"faithfulness": score(0.5, real=0.9), "mmd_tiny": score(-0.01, floor=0.02, floor_n=20,
                                                                   value_at_floor_n=-0.003)},
        {"faithfulness": score(0.25, real=0.9), "faithfulness_asd": score(0.25)},
    ]  # fmt: skip
    rows = build_score_rows(["A", "B"], scores)
    assert [(row["name"], row["set"]) for row in rows] == [
        ("MMD² (tiny)", "A"),
        ("Faithfulness, mean over findings", "A"),
        ("", "B"),
    ]
    assert rows[0]["value"] == "−0.01"
    assert rows[0]["interval"] == "−0.51 to 0.49"
    assert (rows[0]["real"], rows[0]["at_same_n"], rows[0]["same_n"]) == ("0.02", "−0.003", 20)
    assert rows[1]["value"] == "50 %"
    assert rows[1]["real"] == "90 %"


def test_missing_interval_and_floor_are_dashes() -> None:
    row = build_score_rows(["A"], [{"mmd_tiny": score(1234.5) | {"low": None, "high": None}}])[0]
    assert row["value"] == "1,234"
    assert row["interval"] == "–"
    assert row["real"] == "–"
    assert row["same_n"] == ""


def test_the_terminal_gets_what_decides_and_where_the_rest_is() -> None:
    floor = {"floor": 0.02, "floor_n": 20, "value_at_floor_n": 0.3}
    names = ("fid@48", "kid_tiny", "faithfulness", "faithfulness_asd", "mmd_tiny", "recall_tiny")
    scores = {name: score(0.5, real=0.9) for name in names} | {"mmd_tiny": score(0.25, **floor)}
    result = {
        "scores": scores | {"copies_tiny": score(0.5) | {"low": None, "real": 0.05}},
        "left_out": {"mmd_texture": "needs 4 frames per set", "fd_tiny@48": "too few"},
        "alarms": ["collapse: less variety than is real"],
    }
    assert summary_lines(result, Path("set")) == [
        "MMD² (tiny)     0.25 (−0.25 to 0.75); real against real 0.02 at n 20, "
        "generated there 0.3; n 48, reference 40",
        "MMD² (texture)  left out, needs 4 frames per set",
        "Faithfulness    50 % (0 % to 100 %); real frames 90 %; n 48, reference 40",
        "Copies (tiny)   50 %; real frames 5 %; n 48, reference 40",
        "Alarm           collapse: less variety than is real",
        f"Report          {Path('set/report.html')}; all 7 scores in {Path('set/metrics.json')}",
    ]
    (alarms,) = [
        line
        for line in summary_lines(result | {"alarms": []}, Path("set"))
        if line.startswith("Alarm")
    ]
    assert alarms.split() == ["Alarms", "none"]


def test_no_number_is_minus_0() -> None:
    (row,) = build_score_rows(["A"], [{"faithfulness": score(-0.0, low=-0.001, real=-0.0)}])
    assert (row["value"], row["interval"], row["real"]) == ("0 %", "0 % to 50 %", "0 %")


def test_intact_anatomy_leads_and_its_criteria_are_details() -> None:
    names = ("mmd_tiny", "intact", "intact_atrial_septum", "recall_tiny")
    scores = [{name: score(0.5, real=0.9) for name in names}]
    rows = build_score_rows(["A"], scores)
    assert [row["name"] for row in rows] == ["Intact anatomy, all criteria", "MMD² (tiny)"]
    details = {row["name"]: (row["value"], row["real"]) for row in build_look_rows(["A"], scores)}
    assert details["Intact anatomy: atrial septum"] == ("50 %", "90 %")
