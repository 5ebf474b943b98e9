"""Fixtures of the tests of metrics."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A feature cache of the test's own, empty."""
    folder = tmp_path / "echodiff-cache"
    monkeypatch.setenv("ECHODIFF_CACHE", str(folder))
    return folder
