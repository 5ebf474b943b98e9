"""docs/architecture.md says what the code is, and the pages of the site are whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"


def test_the_file_map_is_that_of_the_code() -> None:
    script = ROOT / ".ci" / "file_map.py"
    status = subprocess.run([sys.executable, script, "--check"], check=False).returncode
    assert status == 0, "run: python .ci/file_map.py"


def test_every_module_says_what_it_does() -> None:
    rows = re.findall(r"^\| `(\w+\.py)` \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 150
    assert [name for name, text in rows if len(text.split()) < 2] == []


def test_what_the_answers_name_is_there() -> None:
    answers = PAGE.read_text("utf-8").split("## Every module")[0]
    places = re.findall(r"`((?:echodiff|data_cards)/[\w/.]*)`", answers)
    assert len(places) > 20
    assert [place for place in places if not (ROOT / place).exists()] == []
    named = re.findall(r"`(\w+)` (?:in|there)\b[^`]{0,10}`(echodiff/[\w/]+\.py)`", answers)
    assert len(named) >= 5
    for name, place in named:
        code = (ROOT / place).read_text("utf-8")
        assert re.search(rf"\b(def|class) {name}\b|^{name}\b", code, re.MULTILINE), (name, place)


def test_the_citation_and_the_workflows_are_sound() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["references"][0]["doi"] in (ROOT / "README.md").read_text("utf-8")
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert citation["version"] == version.group(1)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    assert workflow["jobs"]["run"]["steps"][-1] == {"run": ".ci/run"}
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8"))
    asked = {part.get("id") for part in form["body"]}
    assert asked >= {"command", "result", "reproduce", "versions", "machine"}


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Not for diagnosis" in (tmp_path / "index.html").read_text("utf-8")
