"""Every text is there in every language, with the same values in it."""

import re
import runpy
from pathlib import Path

import pytest

from echodiff.study.plan import LANGUAGES
from echodiff.study.translation import LANGUAGE_NAMES, load_catalog, preferred_language, translate

ROOT = Path(__file__).parents[2]
SAME = {"kk": {"Дилатация", "Гипертрофия"}, "uz": set(), "ru": set()}
LETTERS = {"ru": "[А-Яа-яЁё]", "kk": "[А-Яа-яӘәҒғҚқҢңӨөҰұҮүҺһІі]", "uz": "[A-Za-zʻʼ]"}


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / ".ci" / "translations.py"))


def test_the_catalogues_are_those_of_the_source(script):
    assert script["main"](["--check"]) == 0, "run: python .ci/translations.py"


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_no_text_is_untranslated(script, language):
    wanted = {message.id for message in script["extract"]() if message.id}
    catalog = load_catalog(language)
    found = {message.id: message for message in catalog if message.id}
    assert found.keys() == wanted
    assert len(wanted) > 200
    for text, message in found.items():
        assert message.string, text
        assert not message.fuzzy, text
        assert re.search(LETTERS[language], message.string), text
        assert message.string != text, text
        values = r"%\(\w+\)s|\{\w+\}"
        assert sorted(re.findall(values, message.string)) == sorted(re.findall(values, text)), text
        assert ("%" in message.string) == ("%" in text), text


def test_languages_are_told_by_the_browser():
    assert set(LANGUAGE_NAMES) == set(LANGUAGES)
    assert preferred_language("kk-KZ,kk;q=0.9,ru;q=0.8", LANGUAGES) == "kk"
    assert preferred_language("de, ru;q=0.5", LANGUAGES) == "ru"
    assert preferred_language("", ("ru", "kk")) == "ru"
    assert translate("kk", "Cropped image") == "Кескін қиылған"
    assert translate("en", "Cropped image") == "Cropped image"
