"""Commands on engines: workers and schedulers that are killed, batch systems, progress."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from rephase.config.clusters import ClusterConfig
from rephase.engines import Outcome, Task, clusters, run_tasks, tasks, threads_of
from rephase.engines.batch import job_script
from rephase.engines.progress import Progress, _table, shown
from rephase.errors import ConfigError, PipelineError
from rephase.files.writing import BUSY


@pytest.fixture
def server(monkeypatch):
    """A server on which commands wait until they are answered, each on a connection of its own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(120)
        yield listener


def waiting_tasks(listener, folder, n):
    """Commands that end when they are answered; the answer makes each of them fail with the status 404."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    arguments = ("fetch-cod", "2002926", "--url", url, "--out", str(folder), "--timeout", "600")
    return [Task(f"task {number}", arguments, folder, folder, 1) for number in range(n)]


def answer(connection):
    with connection:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def wait_for_end(connection):
    """Wait until the command at the other end has ended."""
    with connection:
        connection.settimeout(60)
        with suppress(ConnectionResetError):
            while connection.recv(10_000):
                pass


def answer_after(listener, disturb, n):
    """Let one command wait, disturb it, wait for its end, and answer the next `n`; in a thread of its own."""

    def serve():
        connection, _ = listener.accept()
        disturb()
        wait_for_end(connection)
        for _ in range(n):
            answer(listener.accept()[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def outcomes_of(*arguments, **options):
    with run_tasks(*arguments, **options) as outcomes:
        return sorted(outcome for outcome in outcomes if outcome is not None)


def commands_below(process):
    return [child for child in psutil.Process(process).children(recursive=True) if "rephase.cli" in child.cmdline()]


def test_a_killed_worker_is_replaced_and_its_command_run_again(server, tmp_path):
    def kill_the_worker():
        (command,) = commands_below(os.getpid())
        command.parent().kill()

    thread = answer_after(server, kill_the_worker, 2)
    found = outcomes_of(waiting_tasks(server, tmp_path, 2), "dask", jobs=1)
    thread.join(timeout=10)
    assert [number for number, _ in found] == [0, 1]
    assert all("404" in error for _, error in found)  # its own failure is an outcome at once


def dask(*arguments):
    command = [sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:], "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def scheduler_and_worker(port) -> Iterator[list[subprocess.Popen]]:
    """A scheduler and a worker as on a cluster, each a process; more may be added, all are killed at the end."""
    address = f"tcp://127.0.0.1:{port}"
    started = [
        dask("scheduler", "--host", "127.0.0.1", "--port", str(port)),
        dask("worker", address, "--no-nanny", "--nthreads", "1"),
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_scheduler_that_is_started_again_is_given_what_is_unfinished(server, tmp_path):
    port = free_port()
    with scheduler_and_worker(port) as started:
        wait_until_it_listens(port)

        def start_again():
            for process in started:
                process.kill()
                process.wait()
            started.extend([dask("scheduler", "--host", "127.0.0.1", "--port", str(port))])
            started.extend([dask("worker", f"tcp://127.0.0.1:{port}", "--no-nanny", "--nthreads", "1")])

        thread = answer_after(server, start_again, 2)
        found = outcomes_of(waiting_tasks(server, tmp_path, 2), f"tcp://127.0.0.1:{port}", jobs=1)
        thread.join(timeout=10)
    assert [number for number, _ in found] == [0, 1]
    assert all("404" in error for _, error in found)


def wait_until_it_listens(port):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)


class Future:
    """A future of a fake client: ended with a result or an error, or lost."""

    def __init__(self, status, value=""):
        self.status, self.value = status, value

    def done(self):
        return self.status != "pending"

    def exception(self, timeout=None):
        return self.value if self.status == "error" else None

    def result(self, timeout=None):
        return self.value


def connect_to(*futures):
    """Connect to clients whose commands get these futures in turn; without any left, the scheduler is gone for good."""
    left = list(futures)

    @contextmanager
    def connect(is_lost):
        if is_lost and not left:
            raise TimeoutError("engine 'tcp://x': the scheduler has ended")
        client = SimpleNamespace(status="running", submit=lambda *_, **__: left.pop(0))
        yield clusters.Connection(client, [])

    return connect


TASKS = [Task(str(number), (), Path(), Path(), 1) for number in range(3)]


def test_a_scheduler_that_stays_away_is_one_line_that_says_what_is_finished():
    connect = connect_to(Future("finished"), Future("cancelled"), Future("cancelled"))
    with pytest.raises(PipelineError, match=r"1 of 3 are finished; start it, and give the same command again"):
        list(clusters.run_on_cluster(TASKS, connect))


def test_only_what_is_unfinished_is_submitted_again():
    connect = connect_to(Future("finished"), Future("pending"), Future("lost"), Future("finished"), Future("finished"))
    found = [each for each in clusters.run_on_cluster(TASKS, connect) if each]
    assert sorted(found) == [Outcome(0, ""), Outcome(1, ""), Outcome(2, "")]


def test_a_command_that_loses_every_worker_is_given_up():
    from distributed import KilledWorker

    lost = Future("error", KilledWorker("rephase-0", SimpleNamespace(address="tcp://x"), 3))
    (found,) = (each for each in clusters.run_on_cluster(TASKS[:1], connect_to(*[lost] * 11)) if each)
    assert "worker" in found.error


def test_a_command_waits_for_the_folder_of_a_lost_one(monkeypatch):
    said = [f"DiskError: x: {BUSY}; wait", f"DiskError: x: {BUSY}; wait", ""]
    monkeypatch.setattr(tasks, "run_task", lambda task: said.pop(0))
    monkeypatch.setattr(tasks.time, "sleep", lambda seconds: None)
    assert tasks.run_task_on_worker(TASKS[0]) == ""
    assert not said


OPTIONS = ClusterConfig(
    queue="gpu",
    account="p1",
    cores=8,
    memory=32,
    walltime=12.5,
    directives=("--gres=gpu:1",),
    before=("module load cuda",),
    logs="logs",
)
SLURM = """#SBATCH -J rephase
#SBATCH -e logs/rephase-%J.err
#SBATCH -o logs/rephase-%J.out
#SBATCH -p gpu
#SBATCH -A p1
#SBATCH -n 1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32000M
#SBATCH -t 12:30:00
#SBATCH --gres=gpu:1
module load cuda
"""
PBS = """#PBS -N rephase
#PBS -q gpu
#PBS -A p1
#PBS -l select=1:ncpus=8:mem=32000MB
#PBS -l walltime=12:30:00
#PBS -e logs/
#PBS -o logs/
#PBS --gres=gpu:1
module load cuda
"""


@pytest.mark.parametrize(("engine", "expected"), [("slurm", SLURM), ("pbs", PBS)])
def test_job_scripts(engine, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = job_script(engine, OPTIONS)
    before, _, worker = script.partition(expected)
    assert before == "#!/usr/bin/env bash\n\n"
    assert re.fullmatch(
        rf"{sys.executable} -m distributed.cli.dask_worker tcp://SCHEDULER:PORT .*--nthreads 1 .*\n", worker
    )
    assert threads_of(engine, jobs=100, cluster=OPTIONS) == 8


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Put a program ``sbatch`` on the path, given the lines of its shell script."""

    def put(*lines, cancel=""):
        (tmp_path / "bin").mkdir()
        for name, text in (("sbatch", "\n".join(lines)), ("scancel", cancel)):
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    return put


RUNS_JOBS = ('cp "$1" "$0.job"', 'setsid sh "$0.job" > /dev/null 2>&1 &', "echo Submitted batch job $!")
LOOPBACK = ClusterConfig(interface="lo")


def test_jobs_of_a_batch_system_work_on_commands(server, tmp_path, sbatch):
    sbatch(*RUNS_JOBS, cancel='kill -- "-$1"')
    thread = threading.Thread(target=lambda: answer(server.accept()[0]), daemon=True)
    thread.start()
    ((number, error),) = outcomes_of(waiting_tasks(server, tmp_path, 1), "slurm", cluster=LOOPBACK)
    assert number == 0
    assert "404" in error


def test_jobs_that_are_refused_are_one_line(tmp_path, sbatch):
    sbatch("echo 'sbatch: error: invalid account' >&2", "exit 1")
    with pytest.raises(ConfigError, match="no worker can be started: sbatch: error: invalid account; correct the sect"):
        outcomes_of(TASKS, "slurm", cluster=LOOPBACK)


@pytest.mark.parametrize(("engine", "said"), [("slurm", "SLURM .*no command sbatch"), ("pbs", "PBS .*no command qsub")])
def test_a_batch_system_that_is_not_installed_is_named(engine, said, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=f"engine '{engine}': {said}.*, or give local or dask"):
        outcomes_of(TASKS, engine, cluster=LOOPBACK)


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from rephase.config.clusters import ClusterConfig
from rephase.engines import Task, run_tasks
from rephase.processes import status_of
def command():
    tasks = [Task("task", {arguments!r}, Path("."), Path("."), 1)]
    with run_tasks(tasks, {engine!r}, cluster=ClusterConfig(interface="lo")) as outcomes:
        list(outcomes)
if __name__ == "__main__":
    sys.exit(status_of(command))
"""


@pytest.mark.parametrize("engine", ["local", "dask", "slurm"])
def test_an_interruption_ends_workers_and_commands(engine, server, tmp_path, sbatch):
    sbatch(*RUNS_JOBS, cancel='kill -- "-$1"')
    (task,) = waiting_tasks(server, tmp_path, 1)
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.format(engine=engine, arguments=task.arguments))
    with subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True) as process:
        connection, _ = server.accept()
        process.send_signal(signal.SIGINT)
        wait_for_end(connection)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


def folder_of(path, *, notebook=""):
    """A run folder as it is while a notebook runs."""
    (path / "notebooks").mkdir(parents=True)
    (path / "environment.json").touch()
    if notebook:
        (path / "notebooks" / f"{notebook}.ipynb").touch()
    return path


@pytest.fixture
def progress(tmp_path):
    """Four commands: one is done, one has failed, one runs, one waits."""
    names = ("done", "failed", "running", "waiting")
    progress = Progress([Task(name, (), tmp_path / name, tmp_path, 1) for name in names], "a sweep")
    time.sleep(0.02)  # file times are rounded
    folder_of(tmp_path / "done", notebook="01_first")
    folder_of(tmp_path / "failed")
    folder_of(tmp_path / "running", notebook="02_second")
    progress.end(Outcome(0, ""))
    progress.end(Outcome(1, "ConfigError: wrong"))
    return progress


def test_progress_is_read_from_the_folders(progress):
    rows = {row.name: (row.state, row.step, row.error) for row in progress.rows()}
    assert rows == {
        "done": ("done", "01_first", ""),
        "failed": ("failed", "", "ConfigError: wrong"),
        "running": ("running", "02_second", ""),
        "waiting": ("waiting", "", ""),
    }
    assert re.fullmatch(r"1 done, 1 running, 1 failed, 1 waiting, 0:00:\d\d to go", progress.counts())


def test_a_log_gets_a_line_for_each_change_only(progress, capsys):
    with shown(progress) as show:
        show()
        lines = capsys.readouterr().err.splitlines()
        assert [line.partition(",")[0] for line in lines] == ["done: done", "failed: failed", "running: running"]
        assert "ConfigError: wrong (1 done, 1 running, 1 failed, 1 waiting" in lines[1]
        show()
        assert capsys.readouterr().err == ""
        progress.end(Outcome(2, ""))
        show()
        (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("running: done, 0:00:0")
    assert "02_second (2 done, 0 running, 1 failed, 1 waiting" in line


def test_a_terminal_gets_a_table_of_what_runs_and_what_failed(progress, capsys, monkeypatch):
    console = Console(width=100)
    with console.capture() as printed:
        console.print(_table(progress))
    text = printed.get()
    assert "a sweep: 1 done, 1 running, 1 failed, 1 waiting" in text
    assert re.search(r"failed +│ +failed +│ 0:00:0\d │ ConfigError: wrong", text)
    assert re.search(r"running +│ +running +│ 0:00:0\d │ 02_second", text)
    assert "01_first" not in text
    done = Progress(progress.tasks[:1], "a sweep")
    done.end(Outcome(0, ""))
    with console.capture() as printed:
        console.print(_table(done))
    assert printed.get().strip() == "a sweep: 1 done, 0 running, 0 failed, 0 waiting"
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with shown(progress) as show:
        show()
        show()
    assert "\x1b[2K" in capsys.readouterr().err  # the first table was erased
