"""What every benchmark writes beside its figures."""

import platform
from datetime import UTC, datetime
from typing import Any

import torch


def here() -> dict[str, Any]:
    """When and where a benchmark runs, and with which versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
