"""Peers in environments of their own: where they are, how they are installed, and how they are called.

The environment of a peer is ``FOLDER/NAME``, as ``python -m venv`` makes it. FOLDER is named by the environment
variable ``REPHASE_PEERS``; if that is not set, it is ``~/.cache/rephase/peers``.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from measuring.timing import MissingPeer, Task
from rephase.paths import BENCHMARKS

INSTALL = {
    "sasmodels": "PIP install sasmodels==1.1.0 tinycc",
    "bornagain": "PIP install bornagain==25.0.0",
    "pymsft": 'PIP install "scipy<1.17" pyfftw pillow tqdm && PIP install --ignore-requires-python --no-deps pymsft',
    "cctbx": "PIP install cctbx-base numpy",
}
_DISTRIBUTIONS = {"cctbx": "cctbx-base"}  # where it has another name
HERE = ("gemmi", "Dans_Diffraction", "numpy")  # peers that rephase itself depends on


def interpreter(peer: str) -> str:
    """Return the Python of a peer's environment.

    Raises
    ------
    MissingPeer
        There is no such environment.
    """
    folder = Path(os.environ.get("REPHASE_PEERS") or "~/.cache/rephase/peers").expanduser() / peer
    python = folder / "bin" / "python"
    if not python.is_file():
        raise MissingPeer(
            f"not installed; python -m venv {folder} && {INSTALL[peer].replace('PIP', str(folder / 'bin' / 'pip'))}"
        )
    return str(python)


def versions() -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    found = {name: version(name) for name in HERE}
    for peer in INSTALL:
        code = f"import importlib.metadata; print(importlib.metadata.version({_DISTRIBUTIONS.get(peer, peer)!r}))"
        try:
            asked = subprocess.run([interpreter(peer), "-c", code], capture_output=True, text=True, check=True)
            found[peer] = asked.stdout.strip()
        except (MissingPeer, subprocess.CalledProcessError):
            continue
    return found


def ask(command: list[str], given: list[object] | Mapping[str, object]) -> dict[str, np.ndarray]:
    """Run ``COMMAND IN OUT.npz`` of a peer; IN is JSON for a list, npz for arrays by name. Return the arrays of OUT."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / ("in.json" if isinstance(given, list) else "in.npz")
        if isinstance(given, list):
            source.write_text(json.dumps(given))
        else:
            np.savez(source, **given)
        out = Path(folder) / "out.npz"
        subprocess.run([*command, str(source), str(out)], check=True)
        with np.load(out) as arrays:
            return dict(arrays)


def script_task(peer: str, script: str, given: Callable[[], list[object] | Mapping[str, object]], n: int) -> Task:
    """Return a task of `n` items that runs ``peers/SCRIPT`` in the environment of a peer, which measures its seconds.

    Raises
    ------
    MissingPeer
        The peer is not installed.
    """
    command, asked = [interpreter(peer), str(BENCHMARKS / "peers" / script)], given()
    return Task(lambda: {"s": float(ask(command, asked)["seconds"].sum())}, n)
