"""What child processes do in the tests of crashes and of crowds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore

from voices import errors
from voices.profile import VoiceEdit
from voices.store import VoiceStore
from voices.tests.samples import Place, draft, prompt

_DISK = ("mkdir", "open", "write", "fsync", "rename", "replace", "unlink", "rmdir")
_BUCKET = ("put", "delete", "get", "list")

ACTIONS: dict[str, Callable[[VoiceStore], object]] = {
    "add": lambda store: store.add(draft("New"), prompt(seed=1)),
    "update": lambda store: store.update("Old", None, VoiceEdit(name="Older", prompt_text="x")),
    "remove": lambda store: store.remove("Old", None),
}


def act_and_die(kind: str, root: Path, action: str, calls: int) -> None:
    """Do one thing to the store; end by SIGKILL in the middle of the n-th call that changes it.

    Ends with status 0 if there were fewer calls.
    """
    store = Place(kind, root).store()
    store.voices(None)
    left = [calls]
    for module, names in ((os, _DISK), (obstore, _BUCKET)):
        for name in names:
            setattr(module, name, _dying(name, getattr(module, name), left))
    ACTIONS[action](store)


def _dying(name: str, call: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            if name == "write":
                call(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    return counted


def add_and_remove(kind: str, root: Path, seed: int, rounds: int) -> None:
    """Add, rename, read and remove voices, whose names many others want too."""
    chance = np.random.default_rng(seed)
    store = Place(kind, root).store()
    for _ in range(rounds):
        name, other = chance.choice(list("abcdefgh"), 2).tolist()
        try:
            match chance.integers(4):
                case 0 | 1:
                    store.add(draft(name), prompt(seed=int(chance.integers(5))))
                case 2:
                    store.update(name, None, VoiceEdit(name=other))
                case 3:
                    store.remove(name, None)
            for voice in store.voices(None)[:2]:
                store.samples(voice)
        except (errors.NameTaken, errors.VoiceNotFound):
            continue
