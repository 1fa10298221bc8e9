"""Which device works: a tiny kernel is run before a device is believed."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys

import torch

from MedSegUncertaintyLib.errors import BadInputError

_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 4 * 2**20

_KNOWN = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def choose_device(name: str) -> torch.device:
    """The device for a request's "auto", "cpu", "cuda", "cuda:N" or "mps".

    "auto" takes the first CUDA device that runs a kernel, else the CPU; never MPS, whose 3D operators are incomplete.

    Raises:
        BadInputError: The name is unknown, or the device does not run.
    """
    if not _KNOWN.fullmatch(name):
        raise BadInputError(f"The device {name!r} is not known; use auto, cpu, cuda, cuda:N or mps.")
    if name == "auto":
        return torch.device("cuda" if why_not(torch.device("cuda")) is None else "cpu")
    device = torch.device(name)
    reason = why_not(device)
    if reason is not None:
        raise BadInputError(f"The device {name} cannot be used ({reason}); choose auto or cpu.")
    return device


def why_not(device: torch.device) -> str | None:
    """Why a small convolution does not run on the device, or ``None`` if it does.

    ``torch.cuda.is_available()`` alone misses a build of torch without kernels for the card.
    """
    try:
        probe = torch.ones(1, 1, 3, 3, 3, device=device)
        result = torch.nn.functional.conv3d(probe, probe).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).splitlines()[0].rstrip(".")
    return None if result == 27.0 else "it computes wrong results"


def describe_device(device: torch.device) -> str:
    """Name for people: the card and its memory, or the number of threads."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return f"{device.type.upper()}, {torch.get_num_threads()} threads"


def free_bytes(device: torch.device) -> float:
    """Free memory of a card; of the host nothing is known, so infinity."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a card or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # MPS, cuBLAS, cuDNN and the CPU's allocator say it in words only.
    words = ("out of memory", "alloc_failed", "defaultcpuallocator")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def return_large_blocks() -> None:
    """Make glibc give large blocks back to the system when they are freed.

    By itself it raises the size from which it does so to that of the maps, keeps them on a heap that the stored samples
    then pin, and the memory of a run creeps up with every sample.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def release_cached() -> None:
    """Give memory that torch keeps for later back to the cards."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
