"""Which of PyTorch's errors cost a job, and which the process."""

import subprocess
import sys

import pytest
import torch

from engine.errors import EngineBroken, InvalidRequest
from engine.glm_tts.faults import is_fatal, translated


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that repeats its error for ever."""

    def refuse() -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse)


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


@pytest.mark.usefixtures("poisoned")
def test_an_error_that_the_device_repeats_is_fatal_whatever_it_was_first() -> None:
    assert is_fatal(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert is_fatal(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"))
    with pytest.raises(EngineBroken), translated():
        raise RuntimeError("Triton Error [CUDA]")


@pytest.mark.usefixtures("poisoned")
def test_a_refused_request_is_not_fatal() -> None:
    with pytest.raises(InvalidRequest), translated():
        raise InvalidRequest("nothing to speak", "input")


@pytest.mark.usefixtures("healthy")
def test_an_error_that_the_device_forgets_is_a_bug_like_any_other() -> None:
    assert not is_fatal(torch.AcceleratorError("CUDA error: invalid configuration argument"))
    with pytest.raises(KeyError), translated():
        raise KeyError("x")


@pytest.mark.usefixtures("healthy")
def test_a_full_device_costs_a_job_and_not_the_process() -> None:
    @translated()
    def step() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    for _ in range(2):
        with pytest.raises(MemoryError):
            step()


def test_nothing_is_fatal_without_a_device() -> None:
    assert not is_fatal(RuntimeError("shape mismatch"))


_ON_A_GPU = """
import torch
from engine.errors import EngineBroken
from engine.glm_tts.faults import translated

def outcome(call):
    try:
        with translated():
            call()
    except Exception as exc:
        return type(exc).__name__

print(outcome(lambda: torch.empty(1 << 50, device="cuda")))
print(outcome(lambda: torch.zeros(2, device="cuda") + torch.zeros(3, device="cuda")))
print(outcome(lambda: torch.zeros(2, device="cuda")[torch.tensor([9], device="cuda")].cpu()))
print(outcome(lambda: torch.zeros(2, device="cuda")))
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_device_is_told_broken_after_an_assertion_and_not_before() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _ON_A_GPU], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["MemoryError", "RuntimeError", "EngineBroken", "EngineBroken"]
