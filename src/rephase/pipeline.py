"""Headless runs of the notebooks with papermill, which notebooks they include, and when one is out of date."""

import hashlib
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from rephase.config import Config, load_config
from rephase.config.sections import fingerprint
from rephase.deadlines import check_time
from rephase.devices import pick_device
from rephase.errors import ConfigError, OutOfTime, PipelineError, RephaseError, nearest_name
from rephase.files.checksums import is_as_written
from rephase.files.writing import only_writer
from rephase.laboratories import LABORATORIES, MAIN_JOB, check_work
from rephase.processes import log_level
from rephase.report import write_report
from rephase.runs import Run, open_run
from rephase.runs.status import Outcome, executed, is_whole, read_status, seal, write_status
from rephase.sources import source_files

# Kernel options: no warnings of TCP, because the kernel talks to this machine only; it ends with its run.
_KERNEL = [
    "--log-level=40",
    "--IPKernelApp.exec_lines=__import__('rephase.processes', fromlist=['_']).prepare_kernel()",
]


def run_notebooks(
    config: str | Path = "quick",
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | Path | None = None,
    only: list[str] | tuple[str, ...] = (),
    device: str = "auto",
    workers: int = 2,
) -> Run:
    """Run the notebooks of a configuration headless, and write the results, figures and report.

    A notebook that has already finished with the same configuration and code is skipped. If one fails, its partial
    output is kept and the report is written from what exists so far.

    Parameters
    ----------
    config, overrides
        As in `load_config`.
    out
        Run folder; by default ``runs/NAME-FINGERPRINT`` of the configuration.
    only
        Numbers of the notebooks to run, e.g. ``["01", "02"]``, names of laboratories, or ``["all"]``; by default
        `MAIN_JOB`.
    device, workers
        As in `open_run`.

    Raises
    ------
    ConfigError
        The configuration has an error; nothing has been run.
    PipelineError
        A notebook failed; the message names it, the cell and the error.
    OutOfTime
        The time given to the command is over; finished notebooks are kept, and the next call continues from there.
    """
    pick_device(device)
    notebooks = find_notebooks(only)
    check_work(load_config(config, overrides), dict.fromkeys(each.laboratory for each in notebooks))
    run = open_run(out, config, overrides, device=device, workers=workers)
    with only_writer(run.folder):
        status = read_status(run.folder)
        last = _run_each(run, notebooks, status)
        run.write_results()
        report = write_report(run, status)
    if status[last].error:
        raise PipelineError(
            f"notebook {last} failed in cell {status[last].cell}: {status[last].error}; its partial output is in "
            f"{executed(run.folder, last)}, the report so far in {report}"
        )
    return run


class Notebook(NamedTuple):
    """A notebook and the name of its laboratory."""

    path: Path
    laboratory: str


def is_run_whole(folder: Path, config: Config, notebooks: list[Notebook]) -> bool:
    """Whether `run_notebooks` would find every notebook finished, and the results and the report written since."""
    report = folder / "report.html"
    try:
        if not report.is_file() or report.stat().st_mtime < (folder / "status.json").stat().st_mtime:
            return False
        status = read_status(folder)
        is_finished = all(
            _is_finished(folder, notebook.path.stem, state, status)
            for notebook, state in _with_states(config, notebooks, status)
        )
        return is_finished and is_as_written(folder / "config.yaml") and Run(folder, config).has_written_results()
    except (OSError, RephaseError):  # the run itself says what is wrong
        return False


def _run_each(run: Run, notebooks: list[Notebook], status: dict[str, Outcome]) -> str:
    """Run the unfinished notebooks up to the first failure; return the name of the last one."""
    n_executed = 0
    with tqdm(
        _with_states(run.config, notebooks, status), unit="notebook", desc="notebooks", total=len(notebooks)
    ) as bar:
        for (notebook, _), state in bar:
            name = notebook.stem
            bar.set_description(name)
            if _is_finished(run.folder, name, state, status):
                continue
            if n_executed:  # at least one in each call, however short the time
                check_time(f"notebook {name}")
            found = _execute(run, notebook)
            n_executed += 1
            seal(executed(run.folder, name))
            status[name] = Outcome(**found) if "error" in found else Outcome(**found, finished=state)
            write_status(run.folder, status)
            if status[name].error:
                break
    return name


def _with_states(
    config: Config, notebooks: list[Notebook], status: dict[str, Outcome]
) -> Iterator[tuple[Notebook, str]]:
    """Yield each notebook with the fingerprint of all that it depends on; `status` may change in between."""
    before: dict[str, str] = {}  # state by laboratory: a notebook runs again when an earlier one of its laboratory has
    for notebook, laboratory in notebooks:
        earlier = before.get(laboratory, "")
        if LABORATORIES[laboratory].shows_all:
            earlier = fingerprint({other: each.finished for other, each in status.items() if other != notebook.stem})
        before[laboratory] = fingerprint([earlier, notebook_state(config, notebook, laboratory)])
        yield Notebook(notebook, laboratory), before[laboratory]


def _is_finished(folder: Path, name: str, state: str, status: dict[str, Outcome]) -> bool:
    return status.get(name, Outcome()).finished == state and is_whole(executed(folder, name))


def find_notebooks(only: list[str] | tuple[str, ...] = ()) -> list[Notebook]:
    """Find the notebooks with these numbers or of these laboratories, all of them for ``all``, else `MAIN_JOB`.

    Raises
    ------
    ConfigError
        A number or laboratory is unknown (the message names the numbers, or the nearest laboratory), or a notebook is
        missing.
    """
    places = {number: name for name, laboratory in LABORATORIES.items() for number in laboratory.notebooks}
    numbers: dict[str, None] = {}
    for name in only or MAIN_JOB:
        if name in LABORATORIES:
            numbers |= dict.fromkeys(LABORATORIES[name].notebooks)
        elif name in places or name == "all":
            numbers |= dict.fromkeys(sorted(places) if name == "all" else [name])
        else:
            is_number = name[:1].isdigit()  # the digits of another notebook are no hint
            hint = f"known: {', '.join(sorted(places))}" if is_number else nearest_name(name, [*LABORATORIES, "all"])
            hint = f"separate several by commas: {','.join(name.split())}" if " " in name else hint
            raise ConfigError(f"no notebook or laboratory {name!r}; {hint}")
    return [Notebook(_file_of(number, LABORATORIES[places[number]].folder), places[number]) for number in numbers]


def _file_of(number: str, folder: Path) -> Path:
    found = sorted(folder.glob(f"{number}_*.ipynb"))
    if not found:
        raise ConfigError(f"no notebook {number} in {folder}")
    return found[0]


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Raise if the notebook does not have one of the parameters; papermill itself would only warn.

    Raises
    ------
    ConfigError
        A parameter is unknown, or the notebook has no cell tagged ``parameters``.
    """
    known = papermill.inspect_notebook(_unformatted(notebook))
    if not known:
        raise ConfigError(f"{notebook.name}: no cell tagged 'parameters'; tag the cell that sets the defaults")
    for name in parameters:
        if name not in known:
            raise ConfigError(f"{notebook.name} has no parameter {name!r}; {nearest_name(name, known)}")


def _execute(run: Run, notebook: Path) -> dict[str, Any]:
    """Execute one notebook into the run folder; return its time and, if it failed, the cell and the error."""
    parameters = {
        "config": str(run.folder / "config.yaml"),
        "run_folder": str(run.folder),
        "device": run.device,
        "workers": run.workers,
    }
    check_parameters(notebook, parameters)
    output = executed(run.folder, notebook.stem)
    output.parent.mkdir(exist_ok=True)
    start = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        with _quiet_papermill():
            papermill.execute_notebook(
                _unformatted(notebook),
                _unformatted(output),
                parameters,
                kernel_name="python3",
                cwd=str(notebook.parent),
                progress_bar=False,
                extra_arguments=_KERNEL,
                shutdown_kernel="immediate",
            )
    except PapermillExecutionError as error:
        if error.ename == OutOfTime.__name__:
            output.unlink()  # else it would count as the whole notebook
            raise OutOfTime(error.evalue) from error
        found = {"error": f"{error.ename}: {error.evalue}", "cell": error.cell_index}
    except DeadKernelError:
        found = {"error": "its kernel died: another program ended it, or the machine ran out of memory"}
    return found | {"seconds": time.perf_counter() - start}


def _unformatted(path: Path) -> str:
    """Escape the braces in a path, which papermill would read as placeholders for parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _quiet_papermill() -> Iterator[None]:
    """Suppress the log messages and warnings of papermill and its libraries."""
    with log_level("papermill", logging.ERROR), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(papermill|nbformat|nbclient|jupyter_client|zmq)\b")
        yield


def notebook_state(config: Config, notebook: Path, laboratory: str) -> str:
    """Fingerprint the configuration, the notebook, and the code, weights and user files that its laboratory reads."""
    lab, content = LABORATORIES[laboratory], hashlib.sha256()
    for path in [notebook, *source_files(lab.package), *sorted(set(lab.files(config)))]:
        content.update(path.read_bytes())
    stamps = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(set(lab.large_files(config)))]
    return fingerprint([config.fingerprint(), content.hexdigest(), stamps])
