"""The view that a caption states is read back."""

import pytest

from echodiff.anatomy import View
from echodiff.captions import clinical, templates
from echodiff.captions.views import view_in

WORDINGS = [(text, view) for view, texts in clinical._VIEWS.items() for text in texts]
WORDINGS += [(text, view) for view, text in templates._VIEWS.items()]


@pytest.mark.parametrize(("text", "view"), WORDINGS)
def test_every_wording_of_a_view_is_read_as_that_view(text, view):
    assert view_in(f"normal heart, {text}, end of diastole") is view


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("A3C, LV dilated", View.A3C),
        ("3 chamber view", View.A3C),
        ("A5C", View.A5C),
        ("5CH, end of systole", View.A5C),
        ("PSAX (short-axis view), mid level", View.PSAX),
        ("subxiphoid 4-chamber view", View.SUBCOSTAL),
        ("subcostal and apical four-chamber views", None),
        ("parasternal long-axis and short-axis view", None),
        ("apical long-axis and parasternal long-axis view", None),
        ("four-chamber and five-chamber view", None),
    ],
)
def test_more_specific_words_decide_between_views(text, view):
    assert view_in(text) is view
