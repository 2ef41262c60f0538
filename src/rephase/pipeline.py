"""Headless runs of the notebooks over papermill, sweeps of such runs, and the report."""

import glob
import hashlib
import itertools
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from torch import nn
from tqdm import tqdm

from rephase.classifying import check_classifying
from rephase.completing import check_completing
from rephase.config import Config, SweepConfig, find_config, fingerprint, load_config, load_sweep, override_of
from rephase.config_sections import LearningConfig
from rephase.datasets.image_files import files_of
from rephase.datasets.image_sources import check_images
from rephase.datasets.perturbed import read_parents
from rephase.devices import pick_device
from rephase.errors import ConfigError, PipelineError, check_count, nearest_name
from rephase.figures import learning_curve
from rephase.image_inference import check_image_inference
from rephase.inference import check_inference
from rephase.models import AMPLITUDE_MODELS, IMAGE_MODELS, MODELS, MONOCLINIC_PHASE_MODELS, check_model
from rephase.models.image_networks import SMALLEST_IMAGE
from rephase.paths import NEEDED, NOTEBOOKS, ROOT, RUNS, WEIGHTS
from rephase.plots import save_figure
from rephase.posterior_losses import check_losses
from rephase.posteriors import check_posteriors
from rephase.processes import end_children, run_child
from rephase.reading import cif_files
from rephase.report import write_report
from rephase.run_status import Outcome, executed, is_whole, read_status, seal, write_status
from rephase.runs import Run, open_run
from rephase.solving import check_solving
from rephase.wave_posteriors import check_waves
from rephase.writing import ResultSet, only_writer, write_whole

DEFAULT_NOTEBOOKS = ("01", "02", "03", "04", "05", "06", "08")  # the main job
# Of a kernel: it talks to this machine alone, no need to warn of TCP; and it ends at once when its run does.
_KERNEL = [
    "--log-level=40",
    "--IPKernelApp.exec_lines=__import__('rephase.processes', fromlist=['_']).end_with_parent()",
]


def run_notebooks(
    config: str | Path = "quick", overrides: list[str] | tuple[str, ...] = (), *, out: str | Path | None = None,
    only: list[str] | tuple[str, ...] = (), device: str = "auto", workers: int = 2,
) -> Run:  # fmt: skip
    """Run the notebooks of a configuration headless and write results, figures and report.

    A notebook that was finished for the same configuration and code is skipped. When one fails its partial output is
    kept and the report is written with what there is.

    Parameters
    ----------
    config, overrides
        As in `load_config`.
    out
        Run folder; by default one of the configuration's own under ``runs/``.
    only
        Numbers of the notebooks to run, e.g. ``["01", "02"]``, or ``["all"]``; `DEFAULT_NOTEBOOKS` where not given.
    device, workers
        As in `open_run`.

    Raises
    ------
    ConfigError
        Something in the configuration is wrong; nothing has been run.
    PipelineError
        A notebook failed: names it, the cell and the error.
    """
    pick_device(device)
    notebooks = find_notebooks(only)
    check_work(load_config(config, overrides))
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


def _run_each(run: Run, notebooks: list[Path], status: dict[str, Outcome]) -> str:
    """Run the notebooks that are not finished, to the first that fails; the name of the last."""
    before = ""  # what the earlier notebooks were made from: a later one is made anew when an earlier one was
    with tqdm(notebooks, unit="notebook", desc="notebooks") as bar:
        for notebook in bar:
            name = notebook.stem
            bar.set_description(name)
            state = before = _fingerprint(run.config, notebook, before)
            if status.get(name, Outcome()).finished == state and is_whole(executed(run.folder, name)):
                continue
            found = _execute(run, notebook)
            seal(executed(run.folder, name))
            status[name] = Outcome(**found) if "error" in found else Outcome(**found, finished=state)
            write_status(run.folder, status)
            if status[name].error:
                break
    return name


def find_notebooks(only: list[str] | tuple[str, ...] = ()) -> list[Path]:
    """The notebooks whose numbers are named, every one for ``all``, else those of `DEFAULT_NOTEBOOKS`."""
    every = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not every:
        raise ConfigError(f"no notebooks in {NOTEBOOKS}{NEEDED}")
    wanted = every if list(only) == ["all"] else only or DEFAULT_NOTEBOOKS
    for number in wanted:
        if number not in every:
            raise ConfigError(f"no notebook {number!r}; {nearest_name(number, [*every, 'all'])}{NEEDED}")
    return [every[number] for number in wanted]


def check_work(config: Config) -> None:
    """Raise before anything runs if a crystal, a file, the energy, a model or its training, or a solver is wrong."""
    read_parents(config.data).kernels  # noqa: B018  reads the crystals and looks the energy up
    _check_models(MODELS, config)
    _check_models(AMPLITUDE_MODELS, config.completion)
    _check_models(MONOCLINIC_PHASE_MODELS, config.monoclinic_phases)
    _check_models(IMAGE_MODELS, config.images, (SMALLEST_IMAGE, SMALLEST_IMAGE))
    check_images(config.images.data)
    check_completing(config)
    check_inference(config)
    check_classifying(config)
    check_image_inference(config)
    check_posteriors(config)
    check_losses(config)
    check_waves(config)
    check_solving(config)


def _check_models(
    table: Mapping[str, type[nn.Module]], config: LearningConfig, shape: tuple[int, ...] = (5, 5, 5)
) -> None:
    for name, model in config.models.items():
        check_model(table, name, model, shape)
        config.training_of(name)


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Raise on a parameter that the notebook does not have; papermill itself would only warn.

    Raises
    ------
    ConfigError
        An unknown parameter, or a notebook without a cell tagged ``parameters``.
    """
    known = papermill.inspect_notebook(_unformatted(notebook))
    if not known:
        raise ConfigError(f"{notebook.name}: no cell tagged 'parameters'; tag the cell that sets the defaults")
    for name in parameters:
        if name not in known:
            raise ConfigError(f"{notebook.name} has no parameter {name!r}; {nearest_name(name, known)}")


def _execute(run: Run, notebook: Path) -> dict[str, Any]:
    """Execute one notebook into the run folder; what it took, or where and how it failed."""
    parameters = {
        "config": str(run.folder / "config.yaml"), "run_folder": str(run.folder),
        "device": run.device, "workers": run.workers,
    }  # fmt: skip
    check_parameters(notebook, parameters)
    output = executed(run.folder, notebook.stem)
    output.parent.mkdir(exist_ok=True)
    start = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        with _quiet_papermill():
            papermill.execute_notebook(
                _unformatted(notebook), _unformatted(output), parameters, kernel_name="python3", cwd=str(NOTEBOOKS),
                progress_bar=False, extra_arguments=_KERNEL, shutdown_kernel="immediate",
            )  # fmt: skip
    except PapermillExecutionError as error:
        found = {"error": f"{error.ename}: {error.evalue}", "cell": error.cell_index}
    except DeadKernelError:
        found = {"error": "its kernel died: another program ended it, or the machine has too little memory"}
    return found | {"seconds": time.perf_counter() - start}


def _unformatted(path: Path) -> str:
    """A path for papermill, which takes braces for places of parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _quiet_papermill() -> Iterator[None]:
    """Keep papermill's own messages out of ours."""
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(papermill|nbformat|nbclient|jupyter_client|zmq)\b")
        yield
    logger.setLevel(level)


def _fingerprint(config: Config, notebook: Path, before: str) -> str:
    """Changes with configuration, notebook, code, weights, the user's files and the notebooks before."""
    content = hashlib.sha256()
    for path in [notebook, *sorted(Path(__file__).parent.rglob("*.py")), *_files_of(config)]:
        content.update(path.read_bytes())
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in _images_of(config)]
    return fingerprint([config.fingerprint(), content.hexdigest(), stamps, before])


def _files_of(config: Config) -> list[Path]:
    """Files that a configuration leads to: reflections and weights with what lies beside them, CIFs of folders."""
    classify = config.images.classify
    lists = [
        Path(file) for file in (config.solving.file, config.inference.file, classify.mask, classify.weights) if file
    ]
    folders = [Path(folder) for folder in (config.solving.benchmark.folder, config.monoclinic.folder) if folder]
    found = [path for file in lists for path in file.parent.glob(f"{glob.escape(file.stem)}.*")]
    found += [path for folder in folders for path in cif_files(folder)]
    found += [Path(model) for model in config.inference.models or ()] + list(WEIGHTS.glob("*"))
    return sorted(filter(Path.is_file, found))


def _images_of(config: Config) -> list[Path]:
    """Files of images that a configuration leads to: too large to be read for a fingerprint."""
    images = config.images
    paths = [images.classify.path, images.data.file.path if images.data.kind == "file" else None]
    return [file for path in paths if path is not None for file in files_of(Path(path))]


def run_sweep(
    source: str | Path, *, engine: str = "local", jobs: int = 1, device: str = "auto", out: str | Path | None = None
) -> Path:
    """Run a configuration over lists and grids of parameters and seeds, one run folder each.

    Each run is a process of its own; one that fails is recorded and does not stop the others; called again, finished
    notebooks are skipped.

    Parameters
    ----------
    source
        YAML of a `SweepConfig`, or the name of one in ``configs/sweeps/``.
    engine
        ``local`` for processes on this machine, ``dask`` for a local Dask cluster, or the address of a scheduler.
    jobs
        Runs at the same time.
    device
        As in `open_run`.
    out
        Folder of the sweep; by default ``runs/sweeps/NAME-FINGERPRINT``.

    Returns
    -------
    Path
        The sweep folder, with ``results.csv`` (every result with its parameters) and ``status.csv``.

    Raises
    ------
    ConfigError
        The sweep, the number of jobs or the engine is wrong, or the tables would replace files that rephase did not
        write; nothing has been run.
    DiskError
        Another process works on the same sweep, or the folder cannot be written.
    """
    check_count("jobs", jobs, remedy="give the number of runs at the same time")
    sweep, name = load_sweep(source)
    default = RUNS / "sweeps" / f"{name}-{fingerprint(sweep.model_dump(mode='json'))}"
    results = ResultSet(Path(out) if out else default, ("results.csv", "status.csv"))
    folder = results.folder.resolve()
    with only_writer(folder):
        points = sweep_points(sweep)
        errors = _run_points(sweep, points, folder, engine, jobs, device)
        tables = []
        for number, point in enumerate(points):
            try:
                tables += [] if errors[number] else [_results(folder, point)]
            except PipelineError as error:
                errors[number] = str(error)
        status = [{**point, "folder": _point_folder(folder, point).name, "error": error}
                  for point, error in zip(points, errors)]  # fmt: skip
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        with results.staged() as stage:
            _write_table(stage / "status.csv", pd.DataFrame(status).sort_values("folder"))
            _write_table(stage / "results.csv", table)
    if len(table) and sweep.curve_over:
        save_figure(learning_curve(table, sweep.curve_over), folder / "figures", "learning_curve")
    return folder


def _run_points(
    sweep: SweepConfig, points: list[dict[str, Any]], folder: Path, engine: str, jobs: int, device: str
) -> list[str]:
    """Run every point; the error of each, or nothing."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with _executor(engine, jobs) as pool:
        futures = [pool.submit(_run_point, sweep, point, str(_point_folder(folder, point)), device, threads)
                   for point in points]  # fmt: skip
        for _ in tqdm(as_completed(futures), total=len(futures), unit="run", desc=folder.name):
            pass
    return [str(future.exception() or future.result()) for future in futures]


def sweep_points(sweep: SweepConfig) -> list[dict[str, Any]]:
    """Every combination of the grid, of the list and of the seeds, as overrides by path."""
    grids = [dict(zip(sweep.grid, values)) for values in itertools.product(*sweep.grid.values())]
    return [
        grid | dict(entry) | {"seed": seed}
        for grid in grids
        for entry in (sweep.cases or [{}])
        for seed in sweep.seeds
    ]  # fmt: skip


@contextmanager
def _executor(engine: str, jobs: int) -> Iterator[Executor]:
    """Something with ``submit``: threads that each wait for a process, or a Dask cluster that runs them."""
    if engine == "local":
        with ThreadPoolExecutor(jobs) as pool:
            try:
                yield pool
            except BaseException:  # an interruption: the runs end before the threads that wait for them
                pool.shutdown(wait=False, cancel_futures=True)
                end_children()
                raise
        return
    with _dask_client(engine, jobs) as client, client.get_executor() as pool:
        yield pool


def _dask_client(engine: str, jobs: int) -> Any:
    from distributed import Client

    if engine == "dask":
        return Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
    try:
        return Client(engine)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"engine {engine!r}: no scheduler answers there ({error}); give local, dask, or an address such as "
            "tcp://host:8786"
        ) from error


def _run_point(sweep: SweepConfig, point: dict[str, Any], folder: str, device: str, threads: int) -> str:
    """Run one point in a process of its own; the last line of its error, or nothing."""
    overrides = [*sweep.overrides, *(override_of(key, value) for key, value in point.items())]
    arguments = [
        "run",
        "--config",
        str(find_config(sweep.base).resolve()),
        "--out",
        folder,
        "--device",
        device,
        "--workers",
        str(threads),
    ]
    arguments += [part for override in overrides for part in ("--set", override)]
    arguments += ["--only", ",".join(sweep.only)] if sweep.only else []
    status, said = run_child(arguments, folder=ROOT, environment=os.environ | {"OMP_NUM_THREADS": str(threads)})
    return (said.strip().splitlines() or [f"stopped with status {status}"])[-1] if status else ""


def _point_folder(folder: Path, point: dict[str, Any]) -> Path:
    words = ",".join(f"{key.split('.')[-1]}={value}" for key, value in point.items())
    plain = "".join(c if c.isascii() and c.isprintable() and c not in "/\\" else "_" for c in words.replace(" ", ""))
    return folder / f"{plain[:100]}-{fingerprint(point)}"


def _results(folder: Path, point: dict[str, Any]) -> pd.DataFrame:
    """The results of a point with its parameters; empty where its notebooks score nothing."""
    path = _point_folder(folder, point) / "results.csv"
    if not path.is_file():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: damaged ({error}); delete it and run the sweep again") from error
    return table.assign(**{key: str(v) if isinstance(v, (list, dict)) else v for key, v in point.items()})


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, table.to_csv(index=False))
