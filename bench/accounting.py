"""What the kernel says about other processes: their CPU time and memory."""

from __future__ import annotations

import time
from pathlib import Path


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process so far; to the nanosecond, unlike /proc/PID/stat."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock id that clock_getcpuclockid(3) makes


def resident(pid: int | str = "self") -> int:
    """Octets of memory that a process keeps, without what it only maps from files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not tell the memory of process {pid}")
