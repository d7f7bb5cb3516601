"""Memory of a CUDA device that can be given back and taken again at the same addresses.

CUDA reserves addresses and puts memory behind them in two steps. An allocator that keeps the first
and undoes the second lets tensors, and the graphs that know them by address, sleep: nothing has to
be made again on return. torch takes its memory from here while a pool is in use.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from ctypes import byref, c_int, c_size_t, c_ssize_t, c_ubyte, c_uint64, c_void_p
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = 2
_PINNED = 1
"""Kind of an allocation: it stays on its device."""
_ON_DEVICE = 1
_READ_AND_WRITE = 3

_Allocate = ctypes.CFUNCTYPE(c_void_p, c_ssize_t, c_int, c_void_p)
_Free = ctypes.CFUNCTYPE(None, c_void_p, c_ssize_t, c_int, c_void_p)
_called_by_torch: list[object] = []
"""What torch may call until the process ends."""


class _Location(ctypes.Structure):
    _fields_ = (("kind", c_int), ("index", c_int))


class _Allocation(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("kind", c_int),
        ("handle_types", c_int),
        ("location", _Location),
        ("windows", c_void_p),
        ("flags", c_ubyte * 8),
    )


class _Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", _Location), ("flags", c_int))


class SleepingMemory:
    """A pool of torch's memory on one device, until the process ends. One thread.

    Args:
        device: A CUDA device.
        is_kept: What it holds comes back as it was; otherwise what comes back is of no account.
        is_constant: It is written before it sleeps for the first time, and never again.
    """

    def __init__(self, device: torch.device, *, is_kept: bool, is_constant: bool = False) -> None:
        self._index = torch.cuda.current_device() if device.index is None else device.index
        self._is_kept = is_kept
        self._is_constant = is_constant
        self._place = _Location(_ON_DEVICE, self._index)
        self._kind = _Allocation(_PINNED, 0, self._place, None)
        self._granularity = self._ask_granularity()
        self._sizes: dict[int, int] = {}
        self._backing: dict[int, int] = {}
        self._host: Tensor | None = None
        self._pool = torch.cuda.MemPool(self._allocator())
        # Never destroyed: at the process's end it would free through an interpreter that is gone.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._pool))

    def use(self) -> AbstractContextManager[None]:
        """What this thread allocates meanwhile comes from here; not for recording a graph."""
        return torch.cuda.use_mem_pool(self._pool, self._index)

    @property
    def handle(self) -> _POOL_HANDLE:
        """For a graph that is recorded to take its memory from here."""
        return cast("_POOL_HANDLE", self._pool.id)

    @property
    def asleep_bytes(self) -> int:
        """Of addresses without memory."""
        return sum(self._sizes.values()) if self._sizes and not self._backing else 0

    def sleep(self) -> None:
        """Give the memory back to the driver. Nobody may touch what is in it until `wake`."""
        if self.asleep_bytes:
            return
        torch.cuda.synchronize(self._index)
        if self._is_kept and not (self._is_constant and self._host is not None):
            self._copy(_driver().cuMemcpyDtoH_v2, to_device=False)
        for address in [*self._backing]:
            self._unmap(address)

    def wake(self) -> None:
        """Take memory again, at the same addresses.

        Raises:
            torch.OutOfMemoryError: others have taken the room; it sleeps on.
        """
        if not self.asleep_bytes:
            return
        try:
            for address in self._sizes:
                self._map(address)
        except torch.OutOfMemoryError:
            for address in [*self._backing]:
                self._unmap(address)
            raise
        if self._is_kept:
            self._copy(_driver().cuMemcpyHtoD_v2, to_device=True)

    def _copy(self, copy: Callable[..., int], *, to_device: bool) -> None:
        """Between the device and one pinned block of the host's memory, which is then kept: to pin
        gigabytes takes seconds."""
        total = sum(self._sizes.values())
        if self._host is None or len(self._host) != total:
            self._host = torch.empty(total, dtype=torch.uint8, pin_memory=True)
        at = self._host.data_ptr()
        for address, size in self._sizes.items():
            ends = (c_uint64(address), c_void_p(at))
            _check(copy(*(ends if to_device else ends[::-1]), c_size_t(size)))
            at += size

    def _ask_granularity(self) -> int:
        size = c_size_t()
        _check(_driver().cuMemGetAllocationGranularity(byref(size), byref(self._kind), c_int(0)))
        return size.value

    def _allocator(self) -> Any:
        allocate, free = _Allocate(self._allocate), _Free(self._free)
        _called_by_torch.extend((allocate, free))
        return torch._C._cuda_customAllocator(_address(allocate), _address(free))  # noqa: SLF001

    def _allocate(self, size: int, device: int, stream: int | None) -> int | None:  # noqa: ARG002
        """Called by torch; an exception could go nowhere."""
        rounded = -(-size // self._granularity) * self._granularity
        address = c_uint64()
        try:
            _check(
                _driver().cuMemAddressReserve(
                    byref(address), c_size_t(rounded), c_size_t(0), c_uint64(0), c_uint64(0)
                )
            )
            self._sizes[address.value] = rounded
            self._map(address.value)
        except RuntimeError as exc:
            self._sizes.pop(address.value, None)
            logger.warning("memory: bytes=%d not to be had: %s", size, exc)
            return None  # torch raises OutOfMemoryError
        return address.value

    def _free(self, address: int, size: int, device: int, stream: int | None) -> None:  # noqa: ARG002
        """Called by torch."""
        if address in self._backing:
            self._unmap(address)
        rounded = self._sizes.pop(address)
        _check(_driver().cuMemAddressFree(c_uint64(address), c_size_t(rounded)))

    def _map(self, address: int) -> None:
        size, handle = c_size_t(self._sizes[address]), c_uint64()
        driver, access = _driver(), _Access(self._place, _READ_AND_WRITE)
        _check(driver.cuMemCreate(byref(handle), size, byref(self._kind), c_uint64(0)))
        self._backing[address] = handle.value
        _check(driver.cuMemMap(c_uint64(address), size, c_size_t(0), handle, c_uint64(0)))
        _check(driver.cuMemSetAccess(c_uint64(address), size, byref(access), c_size_t(1)))

    def _unmap(self, address: int) -> None:
        driver = _driver()
        _check(driver.cuMemUnmap(c_uint64(address), c_size_t(self._sizes[address])))
        _check(driver.cuMemRelease(c_uint64(self._backing.pop(address))))


def _address(function: object) -> int:
    address = ctypes.cast(function, c_void_p).value  # type: ignore[arg-type]
    assert address is not None
    return address


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _check(result: int) -> None:
    if result == _OUT_OF_MEMORY:
        raise torch.OutOfMemoryError("CUDA out of memory")
    if result:
        text = ctypes.c_char_p()
        _driver().cuGetErrorName(c_int(result), byref(text))
        raise RuntimeError(f"CUDA driver: {(text.value or b'?').decode()}")
