"""Numbers as the report prints them."""

from echodiff.report.tables import build_score_rows, score_name


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
