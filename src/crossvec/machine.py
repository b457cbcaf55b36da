"""machine — what this process computes on, and how much memory it has taken.

In    the name of a device, as users type it
Out   a device of torch's that is here; bytes
Uses  errors
"""

from __future__ import annotations

import sys

import torch

from crossvec.errors import SettingError


def pick_device(name: str) -> torch.device:
    """Return the device to compute on: auto is the first GPU that CUDA sees, else the CPU; cuda:1 is the second.

    Raises SettingError when the device asked for is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise SettingError(f"there is no device {name!r}", "use auto, cpu, cuda or mps")
    lacks_gpu = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if lacks_gpu or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise SettingError(f"this machine, or this build of torch, has no {name} device", "use --device cpu, or auto")
    return device


def peak_memory() -> int | None:
    """Return the most memory this process has held so far, in bytes; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB, macOS in bytes
