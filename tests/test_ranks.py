"""The processes of one training end together: none outlives the first, which says why it cannot go on."""

import os
import subprocess
import sys
from threading import Event, Thread

import pytest
from torch.distributed import DistBackendError, DistNetworkError

from rephase import ranks
from rephase.deadlines import pause_after
from rephase.errors import OutOfTime, TrainingError
from rephase.processes import INTERRUPTED, PARENT
from rephase.ranks import Ranks, first_builds, watched_ranks

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


@pytest.fixture
def second(monkeypatch):
    """This process as the second of a training that SLURM has started, without patience."""
    for name, value in {"_EVERY": 0.01, "_BEAT": 0.05, "_SILENCE": 0.5}.items():
        monkeypatch.setattr(ranks, name, value)
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)


def wait(sign):
    with first_builds(lambda: pytest.fail("the second process has built data"), sign, Ranks(2)):
        pass


@pytest.mark.parametrize("left", [None, "building 1", "ready 1"])
def test_a_process_does_not_wait_for_ever_for_data_and_trusts_no_sign_of_an_earlier_command(second, tmp_path, left):
    if left:
        (tmp_path / "sign").write_text(left)
    said = r"rank 1 \(of 0 to 1\) waits for the data of rank 0, which has given no sign of life for 0.5 s; .*; give the"
    with pytest.raises(TrainingError, match=said):
        wait(tmp_path / "sign")


def test_a_process_that_waits_for_data_pauses_in_time(second, tmp_path):
    with pytest.raises(OutOfTime, match="the data of another process"), pause_after(1e-4):
        wait(tmp_path / "sign")


def test_the_others_begin_once_the_first_process_has_built_the_data(second, tmp_path, monkeypatch):
    sign, order, may_end = tmp_path / "data" / "sign", [], Event()
    monkeypatch.setattr(ranks, "_SILENCE", 20.0)

    def wait_and_say():
        wait(sign)
        order.append("second begins")
        may_end.set()

    other = Thread(target=wait_and_say)

    def build():
        monkeypatch.setattr(Ranks, "own", lambda _: 1)
        other.start()
        other.join(0.5)
        order.append("built")

    monkeypatch.setattr(Ranks, "own", lambda _: 0)
    with first_builds(build, sign, Ranks(2)):
        assert may_end.wait(20)
    other.join()
    assert order == ["built", "second begins"]
    assert not sign.exists()


def test_data_that_cannot_be_built_leave_no_sign(second, tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "own", lambda _: 0)
    with pytest.raises(ZeroDivisionError), first_builds(lambda: 1 / 0, tmp_path / "sign", Ranks(2)):
        pytest.fail("it has begun without data")
    assert not list(tmp_path.iterdir())
