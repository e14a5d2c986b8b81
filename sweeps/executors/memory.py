"""How much memory there is for the workers."""

import os
from pathlib import Path

import torch

LIMITS = Path("/sys/fs/cgroup")  # of what this process and its relatives may use


def free_for_each(devices: list[str]) -> int | None:
    """Bytes that the batch of each worker may take, where the workers are on these devices."""
    shares = []
    for device in set(devices):
        free = free_memory(device)
        if free is None:
            return None
        # a worker on the CPU starts with what this process has loaded as well
        loaded = resident_memory() if device == "cpu" else 0
        shares.append(free // devices.count(device) - loaded)
    return min(shares)


def resident_memory() -> int:
    """Bytes of this process; 0 where this machine does not tell."""
    counts = Path("/proc/self/statm")
    return int(counts.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if counts.is_file() else 0


def free_memory(device: str) -> int | None:
    """Bytes that are free on the device; None where this machine does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo, limits = Path("/proc/meminfo"), LIMITS
    found = []
    if meminfo.is_file():
        entries = dict(line.split(":") for line in meminfo.read_text().splitlines())
        found.append(1024 * int(entries["MemAvailable"].split()[0]))
    for limit, used in (
        (limits / "memory.max", limits / "memory.current"),
        (limits / "memory/memory.limit_in_bytes", limits / "memory/memory.usage_in_bytes"),
    ):
        if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
            found.append(int(limit.read_text()) - int(used.read_text()) + _reclaimable(used.parent))
    return min(found, default=None)


def _reclaimable(group: Path) -> int:
    """Bytes of a control group's page cache that the system takes back when they are needed."""
    stat = group / "memory.stat"
    entries = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    return int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))  # version 1, version 2
