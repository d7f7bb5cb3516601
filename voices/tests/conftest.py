"""Every test that asks for a place runs on each kind of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from voices.store import VoiceStore
from voices.tests.samples import Place


@pytest.fixture(params=["folder", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


@pytest.fixture
def store(place: Place) -> VoiceStore:
    return place.store()
