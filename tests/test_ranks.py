"""The processes of one training end together: none outlives the first, which says why it cannot go on."""

import os
import subprocess
import sys

import pytest
from torch.distributed import DistBackendError, DistNetworkError

from rephase import ranks
from rephase.errors import TrainingError
from rephase.processes import INTERRUPTED, PARENT
from rephase.ranks import Ranks, watched_ranks

WAITING = """
import subprocess, time
from rephase import ranks
ranks._PATIENCE = 0.1
with ranks.watched_ranks(ranks.Ranks(3)) as watch:
    watch([subprocess.Popen(["sleep", "60"]), subprocess.Popen(["false"])])
    time.sleep(60)
"""


@pytest.fixture
def failed(monkeypatch):
    """A process that has ended with the status 3."""
    monkeypatch.setattr(ranks, "_started", [])
    monkeypatch.setattr(ranks, "_SOON", 20.0)
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    yield process
    process.wait()


def test_a_broken_connection_is_the_loss_of_a_process(failed):
    said = r"rank 1 \(of 0 to 1\) has ended with status 3, .*; give the same command again: it continues"
    with pytest.raises(TrainingError, match=said):
        lose_connection([failed])


def lose_connection(processes):
    with watched_ranks(Ranks(2)) as watch:
        watch(processes)
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"),
        DistBackendError("NCCL communicator was aborted"),
        DistNetworkError("The client socket has timed out"),
    ],
)
def test_a_process_of_slurm_that_loses_another_says_its_rank_and_what_to_do(monkeypatch, error):
    monkeypatch.setattr(ranks, "_SOON", 0.0)
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    said = r"rank 1 \(of 0 to 1\) has lost the connection to another rank, .*; give the same command again"
    with pytest.raises(TrainingError, match=said), watched_ranks(Ranks(2)):
        raise error


def test_other_errors_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(ranks, "_started", [])
    monkeypatch.setattr(ranks, "_SOON", 0.1)
    with pytest.raises(RuntimeError, match="shape"), watched_ranks(Ranks(2)):
        raise RuntimeError("shape")


def test_a_process_that_waits_for_a_lost_one_ends_with_one_line():
    done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=50)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("TrainingError: rank 2 (of 0 to 2) has ended with status 1, and without it")


@pytest.mark.parametrize(("is_there", "status"), [(True, 0), (False, INTERRUPTED)])
def test_a_process_whose_parent_has_ended_does_not_begin(is_there, status):
    environment = os.environ | {PARENT: str(os.getpid() if is_there else os.getppid())}
    done = subprocess.run(
        [sys.executable, "-m", "rephase.cli", "--help"], capture_output=True, env=environment, timeout=100
    )
    assert done.returncode == status


def test_only_the_processes_of_a_training_get_the_number_of_their_parent():
    with watched_ranks(Ranks(2)):
        assert os.environ[PARENT] == str(os.getpid())
    assert PARENT not in os.environ
