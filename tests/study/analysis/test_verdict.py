"""The sentence says no more than the tests support."""

import pytest

from echodiff.study.analysis.verdict import write_diagnosis_verdict, write_verdict


def row(source, value, p, p_equal):
    return {"source": source, "value": value, "p_holm": p,
            "equivalence": {"margin": 0.1, "p_holm": p_equal}}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row("cut", 0.61, 0.001, 0.9)], "told cut (AUC 0.61) from real images."),
        ([row("sd", 0.35, 0.001, 0.9)], "scored sd (AUC 0.35) above real images."),
        ([row("sd", 0.53, 0.04, 0.01)],
         "told sd (AUC 0.53, within the margin) from real images."),
        ([row("sd", 0.51, 0.7, 0.01)],
         "did not distinguish sd (AUC 0.51) from real images (AUC within 0.5 ± 0.1)."),
        ([row("sd", 0.56, 0.2, 0.3)],
         "leave open whether sd (AUC 0.56) can be told from real images."),
        ([row("a", 0.7, 0.01, 1), row("b", 0.65, 0.01, 1), row("c", 0.55, 0.2, 0.3)],
         "told a (AUC 0.70) and b (AUC 0.65) from real images and left open whether c (AUC 0.55) "
         "can be told from real images."),
    ],
)  # fmt: skip
def test_a_verdict_for_every_outcome(rows, sentence):
    told = write_verdict(rows, num_readers=17, num_ratings=680)
    assert told == f"17 readers (680 ratings) {sentence}"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"value": 0.11, "p": 0.01, "n": 9, "without": 0.7, "with": 0.81},
         "rose by 11 points, from 70 to 81 %."),
        ({"value": -0.05, "p": 0.4, "n": 9, "without": 0.7, "with": 0.65},
         "did not change significantly (-5 points, p 0.4)."),
        ({"left_out": "fewer than two readers"}, ""),
    ],
)  # fmt: skip
def test_a_verdict_on_diagnoses(found, words):
    assert write_diagnosis_verdict(found).endswith(words)
