"""A model's memory on its device: where its tensors and graphs lie, so that they can leave."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from msgspec import Struct
from torch import Tensor

from engine.glm_tts.lanes import Lane
from engine.glm_tts.sleeping_memory import SleepingMemory
from engine.types import DeviceMemory

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

_PACKAGE = __name__.partition(".")[0]


class GraphRoom:
    """Where recordings take their memory from: torch's own, on any device."""

    def tensors(self) -> AbstractContextManager[None]:
        """While tensors are made that recordings read and write; not while one is recorded."""
        return nullcontext()

    @property
    def pool(self) -> _POOL_HANDLE | None:
        """For what a recording needs inside."""
        return None

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """Where to record."""
        return None


class _SleepingRoom(GraphRoom):
    """Memory that can sleep, for the recordings of one lane: those of two may run at once."""

    # Two pools, as a recording takes all that is free in its own while it is made for its own.
    def __init__(self, device: torch.device, lane: Lane) -> None:
        self.pools = [SleepingMemory(device, is_kept=is_kept) for is_kept in (True, False)]
        self._lane = lane

    def tensors(self) -> AbstractContextManager[None]:
        return self.pools[0].use()

    @property
    def pool(self) -> _POOL_HANDLE | None:
        return self.pools[1].handle

    @property
    def stream(self) -> torch.cuda.Stream | None:
        return self._lane.stream


class ModelMemory:
    """A model's memory on its device, which it can leave. Worker's loop only.

    On a CPU there is nowhere to go, and nothing is done.

    Args:
        device: Where the model computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights: SleepingMemory | None = None
        self._visitor: SleepingMemory | None = None
        self._rooms: list[_SleepingRoom] = []
        if device.type == "cuda":
            self._weights = SleepingMemory(device, is_kept=True)
            self._visitor = SleepingMemory(device, is_kept=True, is_constant=True)

    @torch.inference_mode()
    def adopt(self, model: object, visitor: object) -> None:
        """Move all tensors below a model to memory that can sleep. Once, before any recording.

        Args:
            model: An object of ours; what can be reached from it through objects of this package,
                containers and torch modules is found. What is missed stays on the device.
            visitor: A part of it that works inside `visit` only.
        """
        if self._weights is None or self._visitor is None:
            return
        visiting = {storage.data_ptr() for storage in storages_of(visitor, self._device)}
        for storage in list(storages_of(model, self._device)):
            pool = self._visitor if storage.data_ptr() in visiting else self._weights
            content = _as_bytes(storage).clone()
            storage.resize_(0)
            with pool.use():
                storage.resize_(len(content))
            _as_bytes(storage).copy_(content)
        self._visitor.sleep()
        self._give_back()

    def room(self, lane: Lane) -> GraphRoom:
        """For the recordings of one lane."""
        if self._weights is None:
            return GraphRoom()
        self._rooms.append(_SleepingRoom(self._device, lane))
        return self._rooms[-1]

    @contextmanager
    def visit(self) -> Generator[None, None, None]:
        """While the visitor works.

        Raises:
            torch.OutOfMemoryError: there is no room for it.
        """
        if self._visitor is None:
            yield
            return
        self._visitor.wake()
        try:
            yield
        finally:
            self._visitor.sleep()

    def offload(self) -> None:
        """Give the device's memory back to the driver; weights go to the host's memory."""
        for pool in self._pools():
            pool.sleep()
        self._give_back()

    def restore(self) -> None:
        """Come back: everything is where it was.

        Raises:
            torch.OutOfMemoryError: others have taken the room.
        """
        for pool in self._pools():
            pool.wake()

    def memory(self) -> DeviceMemory | None:
        """Of the device; None where that is the host.

        What CUDA itself takes, some 0.5 GB a process, is missing in `used_bytes`, and is not free.
        """
        if self._visitor is None:
            return None
        free_bytes, total_bytes = torch.cuda.mem_get_info(self._device)
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        asleep = sum(pool.asleep_bytes for pool in (*self._pools(), self._visitor))
        used_bytes = torch.cuda.memory_reserved(self._device) - asleep
        return DeviceMemory(f"cuda:{index}", used_bytes, total_bytes, free_bytes)

    def _pools(self) -> list[SleepingMemory]:
        """All but the visitor's."""
        weights = [] if self._weights is None else [self._weights]
        return [*weights, *(pool for room in self._rooms for pool in room.pools)]

    def _give_back(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.backends.cuda.cufft_plan_cache.clear()
            torch.cuda.empty_cache()


def on_host(tensor: Tensor) -> Tensor:
    """A copy, without waiting: it is there when the stream has come so far."""
    if tensor.device.type == "cpu":
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def storages_of(root: object, device: torch.device) -> Iterator[torch.UntypedStorage]:
    """The bytes beneath all tensors below an object that are on the device, each once."""
    seen: set[int] = set()
    for tensor in tensors_of(root):
        storage = tensor.untyped_storage()
        is_ours = tensor.device.type == device.type and storage.resizable()
        if is_ours and storage.nbytes() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            yield storage


def tensors_of(root: object) -> Iterator[Tensor]:
    """All tensors below an object, some perhaps twice."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            yield thing
        else:
            waiting.extend(_parts(thing))


def _parts(thing: object) -> Iterable[object]:
    match thing:
        case dict():
            return thing.values()
        case list() | tuple() | set() | frozenset():
            return thing
        case torch.nn.Module():
            return (*thing.parameters(), *thing.buffers())
        case Struct():
            return [getattr(thing, field) for field in thing.__struct_fields__]
        case _ if type(thing).__module__.partition(".")[0] == _PACKAGE:
            return vars(thing).values() if hasattr(thing, "__dict__") else ()
        case _:
            return ()


def _as_bytes(storage: torch.UntypedStorage) -> Tensor:
    """A view of all of it, uint8 [bytes]."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
