import numpy as np

from echodiff.contact_sheet import contact_sheet


def test_a_contact_sheet_holds_every_picture_over_its_warning():
    pictures = [np.full((20, 30), value, np.uint8) for value in (50, 100, 150)]
    sheet = contact_sheet(pictures, columns=2, labels=["a", "b" * 90, "c"], cell=40)
    assert sheet.ndim == 2
    for value in (50, 100, 150):
        assert (sheet == value).sum() >= 40 * 26
    assert sheet[-14:].any()


def test_a_sheet_with_a_colour_picture_has_colour():
    pictures = [np.zeros((8, 8), np.uint8), np.full((8, 8, 3), (255, 0, 0), np.uint8)]
    assert contact_sheet(pictures, columns=5).shape[2] == 3
