"""Power by simulation: false alarms where there is nothing, and power as predicted."""

import json

import numpy as np
import pytest
from scipy import stats

from echodiff.__main__ import main
from echodiff.study.analysis.rank_test import compute_auc
from echodiff.study.analysis.sign_flip import flip_many, flip_signs
from echodiff.study.analysis.simulation import build_truth, simulate_aucs, simulate_counts

READERS, IMAGES = 17, 10


@pytest.mark.parametrize("auc", [0.5, 0.58, 0.7])
def test_studies_have_the_auc_that_was_asked_for(auc):
    truth = build_truth(auc, reader_sd=1.0, interaction_sd=0.5)
    generator = np.random.default_rng(0)
    drawn = simulate_aucs(truth, 400, READERS, IMAGES, generator)
    error = drawn.mean(axis=1).std() / np.sqrt(400)
    assert drawn.mean() == pytest.approx(auc, abs=4 * error)


def test_real_images_get_the_published_scores():
    truth = build_truth(0.6, reader_sd=1.0, interaction_sd=0.5)
    counts = simulate_counts(truth, 400, READERS, IMAGES, np.random.default_rng(0))
    shares = counts[:, :, 0].sum(axis=(0, 1)) / (400 * READERS * IMAGES)
    assert shares == pytest.approx(np.array([47, 16, 29, 28, 50]) / 170, abs=0.02)


def count_false_alarms(num_studies, interaction_sd):
    """Share of studies without a difference in which the main test, and Mann-Whitney, reject."""
    truth = build_truth(0.5, reader_sd=1.0, interaction_sd=interaction_sd)
    generator = np.random.default_rng(7)
    counts = simulate_counts(truth, num_studies, READERS, IMAGES, generator)
    aucs = compute_auc(counts[..., 0, :], counts[..., 1, :])
    main_test = [flip_signs(one, generator).p_differs(0.5) <= 0.05 for one in aucs]
    pooled = counts.sum(axis=1)
    levels = np.arange(1, 6)
    naive = [stats.mannwhitneyu(*(np.repeat(levels, one) for one in both),
                                method="asymptotic").pvalue <= 0.05
             for both in pooled]  # fmt: skip
    return np.mean(main_test), np.mean(naive)


def test_false_alarms_are_few_where_independent_ratings_would_give_many():
    main_test, naive = count_false_alarms(200, 1.0)
    assert main_test <= 0.1  # 99.9 % of the binomial at 0.05
    assert naive >= 0.13


@pytest.mark.slow
@pytest.mark.parametrize("interaction_sd", [0.0, 0.5, 1.0])
def test_false_alarms_are_five_percent(interaction_sd):
    main_test, _ = count_false_alarms(2000, interaction_sd)
    assert main_test == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
def test_power_is_as_predicted():
    """The command's fast test of many studies against the exact test of fresh studies."""
    truth = build_truth(0.6, reader_sd=1.0, interaction_sd=0.5)
    drawn = simulate_aucs(truth, 2000, READERS, IMAGES, np.random.default_rng(1))
    greater, less = flip_many(drawn, 0.5, np.random.default_rng(2))
    predicted = (2 * np.minimum(greater, less) <= 0.05).mean()
    generator = np.random.default_rng(3)
    fresh = simulate_aucs(truth, 2000, READERS, IMAGES, generator)
    found = np.mean([flip_signs(one, generator).p_differs(0.5) <= 0.05 for one in fresh])
    assert found == pytest.approx(predicted, abs=0.04)


def test_the_command_finds_the_smallest_design(tmp_path, capsys):
    out = tmp_path / "power"
    argv = ["study", "power", "--auc", "0.65", "--readers", "4,8,20", "--images", "10",
            "--studies", "300", "--out", str(out)]  # fmt: skip
    assert main(argv) == 0
    told = capsys.readouterr().out
    found = json.loads((out / "power.json").read_text("utf-8"))
    four, eight, twenty = found["designs"]
    assert four["power"]["value"] == 0  # 2 / 2^4 is above 0.05
    assert eight["power"]["value"] < twenty["power"]["value"]
    assert twenty["power"]["low"] < twenty["power"]["value"] < twenty["power"]["high"]
    assert twenty["power"]["n"] == 300
    assert twenty["false_alarms"]["high"] < 0.12
    (smallest,) = found["smallest"]["power"]
    assert smallest["readers"] == 20
    assert "80% power to detect the difference: 20 readers with 10 images" in told
    assert "20 readers with 10 images" in (out / "power.html").read_text("utf-8")
    again = tmp_path / "again"
    assert main([*argv[:-1], str(again)]) == 0
    assert json.loads((again / "power.json").read_text("utf-8"))["designs"] == found["designs"]
    assert main(argv) == 2


def test_a_design_does_not_depend_on_the_others(tmp_path, capsys):
    rows = []
    for readers in ("8", "6,8"):
        out = tmp_path / readers
        main(["study", "power", "--readers", readers, "--images", "5", "--studies", "100",
              "--out", str(out)])  # fmt: skip
        rows.append(json.loads((out / "power.json").read_text("utf-8"))["designs"][-1])
    assert rows[0] == rows[1]


def test_an_earlier_study_gives_the_scale(tmp_path, capsys, simulate):
    path = tmp_path / "ratings.csv"
    path.write_text(
        "reader,source,image,score\n"
        + "\n".join(f"{r['reader']},{r['source']},{r['image']},{r['score']}" for r in simulate()),
        "utf-8",
    )
    out = tmp_path / "power"
    assert main(["study", "power", str(path), "--readers", "8", "--images", "5", "--studies",
                 "100", "--out", str(out)]) == 0  # fmt: skip
    found = json.loads((out / "power.json").read_text("utf-8"))
    assert found["scale"] == "scores and readers of ratings.csv"
    assert list(found["inputs"]) == ["ratings.csv"]
    assert found["reader_sd"] != 1.0


def test_an_earlier_study_without_a_scale_is_refused(tmp_path, capsys):
    """Every real image has a higher score than every generated one: no odds are finite."""
    rows = [
        f"R{reader},{source},{source}-{reader}-{place},{score + place % 2}"
        for reader in range(4) for place in range(6)
        for source, score in (("real", 4), ("gan", 1))
    ]  # fmt: skip
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["reader,source,image,score", *rows]), "utf-8")
    assert main(["study", "power", str(path), "--readers", "8", "--images", "5"]) == 2
    told = capsys.readouterr().err
    assert "ratings.csv: the scores are separated" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--auc", "0.5"], "--auc 0.5: must be between 0.5 and 1"),
        (["--readers", "1,4"], "--readers: must be different numbers from 2 to 1000"),
        (["--studies", "10"], "--studies 10: must be 100 or more"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    assert main(["study", "power", *flags]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
