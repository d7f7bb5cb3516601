"""Processes that die at any moment, and many at once: every voice is whole or not there."""

from __future__ import annotations

import signal
from multiprocessing import get_context
from pathlib import Path

import pytest

from voices.names import name_key
from voices.profile import VoiceEdit
from voices.tests.children import act_and_die, add_and_remove
from voices.tests.samples import Place, draft, prompt

PROCESSES = get_context("forkserver")
SAMPLES = len(prompt().samples)
PROCESSES.set_forkserver_preload(["voices.tests.children"])

OUTCOMES = {
    "add": {("Old",), ("Old", "New")},
    "update": {("Old",), ("Older",)},
    "remove": {("Old",), ()},
}


def exit_code(target: object, *args: object) -> int | None:
    child = PROCESSES.Process(target=target, args=args)  # type: ignore[arg-type]
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("action", ["add", "update", "remove"])
def test_process_killed_at_any_write_leaves_only_whole_voices(
    tmp_path: Path, kind: str, action: str
) -> None:
    seen = set()
    for calls in range(1, 100):
        place = Place(kind, tmp_path / str(calls))
        place.store().add(draft("Old"), prompt())
        code = exit_code(act_and_die, kind, place.root, action, calls)
        store = place.store()
        voices = store.voices(None)
        seen.add(tuple(voice.name for voice in voices))
        assert all(len(store.samples(voice)[0]) == SAMPLES for voice in voices)
        assert store.faults() == []
        # Nothing that the dead one held is in anybody's way.
        for voice in voices:
            store.update(voice.id, None, VoiceEdit(name=f"{voice.name} again"))
        store.add(draft("New"), prompt())
        store.add(draft("Old"), prompt())
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert calls >= 5
    assert seen == OUTCOMES[action]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_eight_processes_leave_no_torn_voice(tmp_path: Path, kind: str) -> None:
    children = [
        PROCESSES.Process(target=add_and_remove, args=(kind, tmp_path, seed, 60))
        for seed in range(8)
    ]
    store = Place(kind, tmp_path).store()
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        listed = store.voices(None)
        assert len({name_key(voice.name) for voice in listed}) == len(listed)
    assert [child.exitcode for child in children] == [0] * 8
    voices = store.voices(None)
    assert len({name_key(voice.name) for voice in voices}) == len(voices)
    assert all(len(store.samples(voice)[0]) == SAMPLES for voice in voices)
    assert store.faults() == []
