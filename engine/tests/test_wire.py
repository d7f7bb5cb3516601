from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import (
    EngineFault,
    InvalidRequest,
    LoadFailed,
    Overloaded,
    UnknownVoice,
    from_wire,
    to_wire,
)
from engine.runtime.wire import Audio, Event, Failed, Finished, FrameDecoder, encode_frame
from engine.types import Word

EVENTS: list[Event] = [
    Audio(1, b"\0\0\x80?" * 100, (Word("hello", 0.0), Word("wörld", 0.25)), 0.001, 0.5),
    Failed(2, to_wire(UnknownVoice("no voice 'x'"))),
    Finished(1),
]


def decoder() -> FrameDecoder[Any]:
    return FrameDecoder(Event)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 1000), max_size=8))
def test_frames_survive_any_split_of_the_byte_stream(cuts: list[int]) -> None:
    data = b"".join(bytes(encode_frame(event)) for event in EVENTS)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    frames = decoder()
    seen = [event for start, end in pairwise(bounds) for event in frames.feed(data[start:end])]
    assert seen == EVENTS


def test_frame_that_is_not_ours_ends_the_connection() -> None:
    body = msgspec.msgpack.encode(["unheard-of", 1])
    with pytest.raises(ConnectionError, match="unreadable frame"):
        list(decoder().feed(len(body).to_bytes(4, "little") + body))


def test_absurd_length_ends_the_connection_before_it_is_buffered() -> None:
    with pytest.raises(ConnectionError, match="4294967295 bytes"):
        list(decoder().feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("input: too odd", "input"),
        UnknownVoice("no voice 'x'"),
        Overloaded("full", 1.5),
        LoadFailed("no weights"),
        EngineFault("it broke"),
    ],
)
def test_error_is_the_same_behind_the_socket(error: Exception) -> None:
    back = from_wire(to_wire(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_exception_outside_the_tree_tells_no_details() -> None:
    back = from_wire(to_wire(KeyError("/secret/path")))
    assert type(back) is EngineFault
    assert "secret" not in str(back)
