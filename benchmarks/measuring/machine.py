"""The head of a table of times: the machine, the versions, and how busy the machine was."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from measuring.peers import versions
from rephase.paths import ROOT


def machine() -> dict[str, object]:
    """Describe what times depend on: two runs are comparable if this is the same."""
    is_cuda = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if is_cuda else "none",
        "system": f"{platform.system()} {platform.machine()}",
    }


def programs() -> dict[str, str]:
    """Return the versions of Python, of the libraries that do the work, of rephase and of the peers."""
    ours = {"Python": platform.python_version(), "torch": torch.__version__, "rephase": version("rephase")}
    return {**ours, "commit": _commit(), **versions(), "numpy": np.__version__}


def moment() -> dict[str, object]:
    """Return the time of day, and the load of the machine over the last minute."""
    return {"time": datetime.now(UTC).isoformat(timespec="seconds"), "load": round(os.getloadavg()[0], 2)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    """Return the commit of the checkout, with a note if files differ from it."""
    try:
        asked = [
            subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{asked[0]} (with changes)" if asked[1] else asked[0]
