"""Where the generations of the official SDK differ; the tests are written for the newest.

Of all three: 1.x and 2.x stand on httpx, 3.x on httpx2, whose errors escape them.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import openai
import pytest
from openai import OpenAI

GENERATION = int(openai.__version__.partition(".")[0])

BrokenBody: type[Exception] = import_module(
    "httpx2" if GENERATION >= 3 else "httpx"
).RemoteProtocolError
"""What reading a streamed body raises when the connection is broken off."""


def transcribe(client: OpenAI, **fields: object) -> Any:
    """`audio.transcriptions.create`; a field that this SDK does not know goes as an extra one."""
    create: Callable[..., Any] = client.audio.transcriptions.create
    known = inspect.signature(create).parameters
    extra = {name: value for name, value in fields.items() if name not in known}
    named = {name: value for name, value in fields.items() if name in known}
    return create(**named, extra_body=extra)


def language_codes(transcription: Any) -> list[str]:
    """Of `languages`, which 1.x leaves as plain JSON."""
    if GENERATION < 2:
        return [language["code"] for language in transcription.languages]
    return [language.code for language in transcription.languages]


@contextmanager
def translations_deprecated() -> Iterator[None]:
    """3.x warns of each call to `audio.translations`."""
    if GENERATION < 3:
        yield
        return
    with pytest.warns(DeprecationWarning, match="deprecated"):
        yield
