"""Takes a model's tensors off their device and puts them back, each where it was in its objects.

What is moved is storage, the bytes beneath tensors. A tensor keeps its shape, its strides and its
device, and so do views and second names of the same storage: while the model is away its storages
are empty, and on return they are filled anew, at other addresses. So CUDA graphs, which know
addresses, have to be dropped before and recorded again after.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

import torch
from msgspec import Struct
from torch import Tensor

from engine.types import DeviceMemory

_ALIGNMENT = 256
"""Bytes; of what CUDA copies fastest."""
_PACKAGE = __name__.partition(".")[0]


class _Moved(Struct, frozen=True):
    """A storage that is away."""

    storage: torch.UntypedStorage
    size: int
    """Bytes."""
    host: Tensor | None
    """[size] uint8; None: its content is not worth a copy, and comes back as zeros."""


def _nothing() -> None:
    """Where there are no graphs."""


class Offloader:
    """Moves one model. Worker's loop only, between steps, with no job in hand.

    Args:
        model: An object of ours; all tensors that can be reached from it through objects of this
            package, containers and torch modules are moved. One that is missed stays on the device.
        device: Where it computes.
        scratch: Parts of it whose content means nothing between jobs, such as a KV cache: they are
            not copied, and come back as zeros.
        forget: Drops CUDA graphs and all else that knows an address; called before.
        recapture: Makes them again; called after.
    """

    def __init__(
        self,
        model: object,
        device: torch.device,
        *,
        scratch: Iterable[object] = (),
        forget: Callable[[], None] = _nothing,
        recapture: Callable[[], None] = _nothing,
    ) -> None:
        self._model = model
        self._device = device
        self._scratch = tuple(scratch)
        self._forget = forget
        self._recapture = recapture
        self._moved: list[_Moved] = []
        # Kept while the model is back: to pin gigabytes takes seconds.
        self._host = torch.empty(0, dtype=torch.uint8)

    @torch.inference_mode()
    def offload(self) -> None:
        """Empty all storages; the device's memory is given back to the driver."""
        assert not self._moved, "it is away already"
        self._forget()
        scratch = {storage.data_ptr() for storage in self._storages(self._scratch)}
        storages = list(self._storages((self._model,)))
        kept = [storage for storage in storages if storage.data_ptr() not in scratch]
        hosts = dict(zip((each.data_ptr() for each in kept), self._host_room(kept), strict=True))
        for storage in storages:
            if (host := hosts.get(storage.data_ptr())) is not None:
                host.copy_(_as_bytes(storage), non_blocking=True)
        # The copies read what is to be freed.
        self._synchronize()
        for storage in storages:
            host = hosts.get(storage.data_ptr())
            self._moved.append(_Moved(storage, storage.nbytes(), host))
            storage.resize_(0)
        self._give_back()

    @torch.inference_mode()
    def restore(self) -> None:
        """Fill all storages as they were.

        Raises:
            torch.OutOfMemoryError: others have taken the room.
        """
        for moved in self._moved:
            moved.storage.resize_(moved.size)
            here = _as_bytes(moved.storage)
            if moved.host is None:
                here.zero_()
            else:
                here.copy_(moved.host, non_blocking=True)
        self._synchronize()
        self._moved.clear()
        self._recapture()

    def memory(self) -> DeviceMemory | None:
        """Of the device; None where that is the host.

        What CUDA itself takes, some 0.5 GB a process, is missing in `used_bytes`, and is not free.
        """
        if self._device.type != "cuda":
            return None
        free_bytes, total_bytes = torch.cuda.mem_get_info(self._device)
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        used_bytes = torch.cuda.memory_reserved(self._device)
        return DeviceMemory(f"cuda:{index}", used_bytes, total_bytes, free_bytes)

    def _storages(self, roots: Iterable[object]) -> Iterator[torch.UntypedStorage]:
        """Each storage on the device once."""
        seen: set[int] = set()
        for root in roots:
            for tensor in tensors_of(root):
                storage = tensor.untyped_storage()
                is_ours = tensor.device.type == self._device.type and storage.resizable()
                if is_ours and storage.nbytes() and storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    yield storage

    def _host_room(self, storages: list[torch.UntypedStorage]) -> list[Tensor]:
        """Room in the host's memory for each; one pinned block, as there may be thousands."""
        sizes = [storage.nbytes() for storage in storages]
        ends = list(accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes))
        total = ends[-1] if ends else 0
        if len(self._host) != total:
            is_pinned = self._device.type == "cuda"
            self._host = torch.empty(total, dtype=torch.uint8, pin_memory=is_pinned)
        starts = [0, *ends[:-1]]
        return [self._host[at : at + size] for at, size in zip(starts, sizes, strict=True)]

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _give_back(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.backends.cuda.cufft_plan_cache.clear()
            torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001 - no public name for it
            torch.cuda.empty_cache()


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
