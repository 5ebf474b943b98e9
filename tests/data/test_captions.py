import csv

import numpy as np
import pytest

from echodiff.anatomy import Label
from echodiff.captions.templates import PLAIN, fill, name_words
from echodiff.data.captions import load_captions
from echodiff.errors import InputError


def mask_of(**boxes):
    mask = np.zeros((40, 40), np.uint8)
    for name, (height, width, top) in boxes.items():
        mask[top : top + height, 10 : 10 + width] = Label[name]
    return mask


def caption(facts=None, *, template=PLAIN, **known):
    given = {"modality": "echo", "view": None, "phase": None, "vendor": None, "mask_u8": None}
    return fill(template, name_words(facts or {}, **(given | known)))


def test_a_caption_says_what_is_known_and_no_more():
    assert caption() == "echocardiogram"
    assert caption(view="A4C", phase="ES") == (
        "apical 4-chamber view, end of systole, echocardiogram"
    )
    assert caption(view="subcostal", phase="7") == "subcostal view, echocardiogram"
    assert caption({"ef": 35.0, "sex": "F", "age_years": 60.0, "quality": "Poor"}) == (
        "moderately reduced ejection fraction, poor image quality, echocardiogram of a woman"
    )
    assert caption({"sex": "M", "age_years": 3.0}) == "echocardiogram of a boy"
    assert caption({"pathology": "dilated cardiomyopathy"}, modality="mr", view="SAX") == (
        "dilated cardiomyopathy, short-axis view, MR"
    )


@pytest.mark.parametrize(
    ("ef", "word"),
    [(29.9, "severely"), (30, "moderately"), (40, "mildly"), (50, "normal"), (70, "hyperdynamic")],
)
def test_an_ejection_fraction_falls_into_one_band(ef, word):
    assert word in caption({"ef": float(ef)})


def test_ages_are_bands_and_the_oldest_are_one_band():
    ages = {0.5: "infant", 17: "child", 18: "aged 18 to 19", 67: "aged 60 to 69", 97: "90 or over"}
    for age, words in ages.items():
        assert words in caption({"age_years": float(age)}, template="{age}")


def test_chambers_are_named_by_what_the_mask_shows():
    text = caption(mask_u8=mask_of(LV=(20, 6, 0), LA=(4, 6, 20), RV=(3, 3, 30)))
    assert "left ventricle and left atrium and right ventricle visible" in text
    assert "elongated left ventricle" in text
    assert "left atrium smaller than the left ventricle" in text


def test_shapes_and_sizes_are_those_of_the_mask():
    text = caption(mask_u8=mask_of(LV=(10, 10, 0), LA=(14, 12, 12)))
    assert "rounded left ventricle" in text
    assert "left atrium larger than the left ventricle" in text


def test_an_empty_mask_adds_nothing():
    assert caption(view="A2C", mask_u8=mask_of()) == "apical 2-chamber view, echocardiogram"


def test_a_template_may_be_given_or_lie_in_a_file(tmp_path):
    template = "{ef_percent} EF, heart of {sex} patient"
    path = tmp_path / "words.txt"
    path.write_text(template + "\n")
    for option in (template, str(path)):
        captions = load_captions(option, None)
        assert captions.write(("a",), {"ef_percent": "55 %", "sex": "male"}) == (
            "55 % EF, heart of male patient"
        )
        assert captions.write(("a",), {"sex": "male"}) == "heart of male patient"
    assert load_captions("none", None).write(("a",), {"picture": "echocardiogram"}) == ""


def test_a_clinicians_words_win_over_the_template(tmp_path):
    path = tmp_path / "words.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), ("b.png", "ASD, child")])
    captions = load_captions(str(path), "{picture}")
    assert captions.write(("a", "b.png"), {"picture": "echocardiogram"}) == "ASD, child"
    assert captions.write(("a", "c.png"), {"picture": "echocardiogram"}) == "echocardiogram"


def test_a_template_with_a_broken_brace_is_one_line():
    with pytest.raises(InputError, match="--captions"):
        load_captions("{ef", None)
