"""How processes end: in one line, whatever happened, and with the process that started them; and their threads."""

import gc
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import dask.system
import pytest
import torch

from rephase.errors import ConfigError
from rephase.processes import (
    THREADS,
    available_cores,
    cores_of_group,
    end_children,
    limit_threads,
    many_imports,
    run_child,
    status_of,
)


def script(text, **options):
    """A process of its own that Ctrl-C reaches, also where these tests run in the background of a shell."""
    return subprocess.Popen(
        [sys.executable, "-c", text],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("a key is wrong"), "ConfigError: a key is wrong"),
        (OSError(28, "No space left on device", "runs/x"), "DiskError: runs/x: No space left on device"),
        (PermissionError(13, "Permission denied"), "DiskError: Permission denied"),
        (OSError("a\nb"), "DiskError: a b"),
        (MemoryError(), "MemoryError: there is not enough memory"),
    ],
)
def test_an_error_of_the_world_is_one_line(capsys, error, line):
    assert status_of(failing(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        status_of(lambda: 1 // 0)


def test_the_status_of_a_command_is_kept(capsys):
    assert [status_of(lambda: None), status_of(lambda: 1), status_of(failing(SystemExit(3)))] == [0, 1, 3]
    assert capsys.readouterr().err == ""


WAIT = """
import logging, sys, time
from rephase.processes import status_of
def command():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        logging.getLogger("library").error("Task exception was never retrieved")
        {}
sys.exit(status_of(command))
"""


@pytest.mark.parametrize("then", ["raise", "raise ImportError('of a library that was interrupted')", "return"])
def test_an_interruption_is_one_line_whatever_a_library_makes_of_it(then):
    with script(WAIT.format(then)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted\n"


IMPORT = """
import os, signal, sys
import rephase.cli
class Finder:
    def find_spec(self, name, *_):
        if name == {!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["bench", "--list"]
rephase.cli.main()
"""


@pytest.mark.parametrize("module", ["rephase.processes", "rephase.errors", "rephase.commands", "typer", "filelock"])
def test_an_interruption_while_modules_are_imported_is_one_line(module):
    with script(IMPORT.format(module)) as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize("after", [0.02, 0.05, 0.1, 0.2, 0.4])  # seconds
def test_an_interruption_in_the_first_moments_is_one_line(after):
    text = "import sys; from rephase.cli import main; sys.argv[1:] = ['run', '--only', '99']; print(flush=True); main()"
    with script(text) as process:
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) in [(130, "interrupted\n"), (2, said)]
    assert said.count("\n") == 1


CALLBACK = """
import os, signal, sys, weakref
from rephase.processes import status_of
class Thing:
    pass
def command():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT) or sum(range(10**6)))
    del thing  # Python prints what is raised in its callback, and goes on
sys.exit(status_of(command))
"""


def test_an_interruption_within_a_callback_is_one_line():
    with script(CALLBACK) as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


def test_the_entry_imports_next_to_nothing():
    text = "import sys; before = {*sys.modules}; import rephase.cli; print(*sorted({*sys.modules} - before))"
    with script(text) as process:
        assert process.communicate(timeout=60) == ("rephase rephase.cli\n", "")


WARN = """
import sys, warnings
from rephase.processes import status_of
def command():
    for _ in range(3):
        with warnings.catch_warnings():  # from here on Python has forgotten what it has said
            warnings.warn("a row\\nis left out", stacklevel=1)
    warnings.formatwarning = None  # libraries change it when they are imported
    warnings.warn("of another kind", RuntimeWarning, stacklevel=1)
    warnings.warn("for developers", DeprecationWarning, stacklevel=2)
sys.exit(status_of(command))
"""


def test_a_warning_is_one_line_once():
    with script(WARN) as process:
        _, said = process.communicate(timeout=60)
    assert said.splitlines() == ["warning: a row is left out", "warning: of another kind"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("name", "status"), [("--list", 0), ("nothing", 2)])
def test_closed_streams_change_no_status(closed, name, status):
    command = f"'{sys.executable}' -m rephase.cli bench {name} {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == status


def test_a_reader_that_leaves_is_no_error():
    with script(
        "import sys; from rephase.cli import main; sys.argv[1:] = ['bench', '--list']; print('x', flush=True); main()"
    ) as p:
        p.stdout.readline()
        p.stdout.close()
        assert p.stderr.read() == ""
    assert p.returncode in (0, 1)


def test_any_name_is_printed_in_any_locale():
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name in (b"Stra\xc3\x9fe", b"Stra\xdfe"):  # UTF-8, Latin-1
        found = subprocess.run(
            [sys.executable, "-m", "rephase.cli", "bench", name], env=environment, capture_output=True, check=False
        )
        assert found.returncode == 2
        assert found.stderr.startswith(b"ConfigError: no benchmark 'Stra")
        assert found.stderr.count(b"\n") == 1


@pytest.fixture
def silent_server():
    """A server that says nothing, for as long as somebody waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def waiting_command(listener, folder):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return ["fetch-cod", "2002926", "--url", url, "--out", str(folder), "--timeout", "600"]


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(silent_server, tmp_path, ended_by):
    text = (
        "import os; from pathlib import Path; from rephase.processes import run_child;"
        f"run_child({waiting_command(silent_server, tmp_path)!r}, folder=Path('.'), environment=dict(os.environ))"
    )
    with script(text, env=os.environ | {"NO_PROXY": "127.0.0.1"}) as parent:
        connection, _ = silent_server.accept()
        parent.send_signal(ended_by)
    with connection:
        connection.settimeout(20)
        while connection.recv(1000):  # the request, and then the end of the child
            pass
    assert parent.returncode == -ended_by


def test_children_are_ended_by_name(silent_server, tmp_path):
    ended = []
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    command = waiting_command(silent_server, tmp_path)
    thread = threading.Thread(target=lambda: ended.append(run_child(command, folder=tmp_path, environment=environment)))
    thread.start()
    with silent_server.accept()[0]:
        end_children()
        thread.join(timeout=60)
    assert ended[0][0] == -signal.SIGTERM


def test_available_cores_are_those_that_dask_counts():
    assert available_cores() == dask.system.cpu_count()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"batch/job/cpu.max": "250000 100000"}, 3),
        ({"batch/job/cpu.max": "max 100000"}, math.inf),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        ({"cpuacct,cpu/cpu.cfs_quota_us": "-1", "cpuacct,cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({}, math.inf),
    ],
    ids=["version 2", "version 2, no limit", "version 1", "version 1, no limit", "no groups"],
)
def test_cores_of_a_control_group(tmp_path, files, cores):
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/\n0::/batch/job\n")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert cores_of_group(str(tmp_path), str(own)) == cores


def test_many_imports_leave_the_search_for_garbage_on():
    with many_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.fixture
def own_environment(monkeypatch):
    """`limit_threads` sets variables that other tests of this process would inherit."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(("given", "chosen", "threads"), [(3, None, "3"), (3, "5", "5"), (64, None, None)])
def test_threads_are_limited_to_the_cores_that_are_given(own_environment, monkeypatch, given, chosen, threads):
    monkeypatch.setattr("rephase.processes.available_cores", lambda: given)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv(THREADS) if chosen is None else monkeypatch.setenv(THREADS, chosen)
    limit_threads()
    assert os.environ.get(THREADS) == threads


@pytest.mark.parametrize(("chosen", "policy"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_sleep_unless_the_user_wants_otherwise(own_environment, monkeypatch, chosen, policy):
    name = "OMP_WAIT_POLICY"
    monkeypatch.delenv(name, raising=False) if chosen is None else monkeypatch.setenv(name, chosen)
    limit_threads()
    assert os.environ[name] == policy


THREADS_OF_LIBRARIES = """
import os, sys
before = len(os.listdir("/proc/self/task"))
import numpy, torch
for made in (numpy.ones, torch.ones):
    made((600, 600)) @ made((600, 600))
print(len(os.listdir("/proc/self/task")) - before)
"""


def started_threads(environment):
    return int(subprocess.check_output([sys.executable, "-c", THREADS_OF_LIBRARIES], env=environment, text=True))


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_libraries_start_as_many_threads_as_the_environment_says():
    own = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}  # Dask leaves some
    assert started_threads(own | {THREADS: "1"}) == 0
    assert started_threads(own | {THREADS: "3"}) >= 2


def test_tests_start_no_more_threads_than_there_are_cores(pytestconfig):
    workers = pytestconfig.hook.pytest_xdist_auto_num_workers(config=pytestconfig)
    assert workers * int(os.environ[THREADS]) <= available_cores()
    assert torch.get_num_threads() == 1
