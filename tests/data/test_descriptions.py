import numpy as np

from echodiff.anatomy import Label
from echodiff.data.descriptions import describe


def mask_of(**boxes):
    mask = np.zeros((40, 40), np.uint8)
    for name, (height, width, top) in boxes.items():
        mask[top : top + height, 10 : 10 + width] = Label[name]
    return mask


def test_a_caption_says_what_is_known_and_no_more():
    assert describe(None, None, None) == "echocardiogram"
    assert describe("A4C", "ES", None) == ("echocardiogram, apical 4-chamber view, end of systole")
    assert describe("PLAX", "7", None) == "echocardiogram, PLAX view, phase 7"


def test_chambers_are_named_by_what_the_mask_shows():
    mask = mask_of(LV=(20, 6, 0), LA=(4, 6, 20), RV=(3, 3, 30))
    text = describe(None, None, mask)
    assert "left ventricle and left atrium and right ventricle visible" in text
    assert "elongated left ventricle" in text
    assert "left atrium smaller than the left ventricle" in text


def test_shapes_and_sizes_are_those_of_the_mask():
    mask = mask_of(LV=(10, 10, 0), LA=(14, 12, 12))
    text = describe(None, None, mask)
    assert "rounded left ventricle" in text
    assert "left atrium larger than the left ventricle" in text


def test_an_empty_mask_adds_nothing():
    assert describe("A2C", None, mask_of()) == "echocardiogram, apical 2-chamber view"
