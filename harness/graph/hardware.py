"""The names of the processor and the GPU."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def hardware(device: str) -> str:
    """Return the names of the processor and, if it is used, the GPU."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    text = f"{os.cpu_count()} × {name}"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return f"{text}, GPUs of other machines"
        text += f", {torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}"
    return text
