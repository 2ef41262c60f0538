import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rephase.errors import ConfigError, DiskError
from rephase.files.writing import ResultSet, only_writer, writable_folder, write_whole

NAMES = ("a.txt", "b.txt", "c.txt")


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def write(results, content, names=NAMES):
    with results.staged() as stage:
        for name in names:
            (stage / name).write_text(content)


def interrupted(path):
    path.write_text("new")
    raise KeyboardInterrupt


def interrupted_after(function, *given):
    function(*given)
    raise KeyboardInterrupt


def test_files_are_written_whole_by_many_at_once(tmp_path):
    path, texts = tmp_path / "status.json", [str(i) * 1000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: [write_whole(path, text) for _ in range(50)], texts))
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(DiskError, match=r"missing/x.*cannot be written \(No such file or directory\)"):
        write_whole(tmp_path / "missing" / "x", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="folder"):
        write_whole(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(ConfigError, match=r"--out .* cannot be made \("):
            writable_folder(folder, name="--out")


def test_results_replace_results(tmp_path):
    write(ResultSet(tmp_path, NAMES), "old")
    write(ResultSet(tmp_path, NAMES), "new", names=NAMES[:2])
    assert written(tmp_path) == {"a.txt": "new", "b.txt": "new"}  # c.txt would be of another set
    write(ResultSet(tmp_path, ["other"]), "other", names=["other"])
    assert written(tmp_path) == {"a.txt": "new", "b.txt": "new", "other": "other"}


def test_results_of_work_that_fails_do_not_appear(tmp_path):
    results = ResultSet(tmp_path, NAMES)
    write(results, "old")
    with pytest.raises(KeyboardInterrupt), results.staged() as stage:
        interrupted(stage / "a.txt")
    assert written(tmp_path) == dict.fromkeys(NAMES, "old")


KILLED = """
import os, pathlib, sys
from rephase.files.writing import ResultSet
replace, names = pathlib.Path.replace, sys.argv[2:]
for n_moved in range(5):
    if os.fork() == 0:
        moved = []
        def counted(path, target):
            if len(moved) == n_moved:
                os._exit(9)
            moved.append(path)
            return replace(path, target)
        with ResultSet(pathlib.Path(sys.argv[1], str(n_moved)), names).staged() as stage:
            for name in names:
                (stage / name).write_text("new")
            pathlib.Path.replace = counted
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_kill_leaves_all_of_the_old_or_all_of_the_new(tmp_path):
    folders = [tmp_path / str(n_moved) for n_moved in range(5)]
    for folder in folders:
        write(ResultSet(folder, NAMES), "old")
    command = [sys.executable, "-c", KILLED, str(tmp_path), *NAMES]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["9"] * 5
    for n_moved, folder in enumerate(folders):
        ResultSet(folder, NAMES)
        assert written(folder) == dict.fromkeys(NAMES, "new" if n_moved else "old")  # the record moves first


def test_what_rephase_did_not_write_is_never_replaced(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"a\.txt was changed .* or rephase did not write it"):
        ResultSet(tmp_path, NAMES)
    (tmp_path / "a.txt").unlink()
    write(ResultSet(tmp_path, NAMES), "old")
    (tmp_path / "b.txt").write_text("refined")
    with pytest.raises(ConfigError, match=r"b\.txt was changed after rephase wrote it"):
        ResultSet(tmp_path, NAMES)
    assert written(tmp_path) == {"a.txt": "old", "b.txt": "refined", "c.txt": "old"}


def test_what_is_changed_during_the_work_is_never_replaced(tmp_path):
    results = ResultSet(tmp_path, NAMES)
    write(results, "old")
    with pytest.raises(ConfigError, match=r"b\.txt was changed"), results.staged() as stage:
        [path.write_text("refined") for path in (stage / "b.txt", tmp_path / "b.txt")]
    assert written(tmp_path)["b.txt"] == "refined"


def test_links_do_not_lead_to_an_input(tmp_path):
    out = tmp_path / "out"
    write(ResultSet(out, NAMES), "old")
    (tmp_path / "data").symlink_to(out / "a.txt")
    (tmp_path / "hard").hardlink_to(out / "b.txt")
    for given in (out / "a.txt", tmp_path / "data", tmp_path / "hard", tmp_path / "out" / ".." / "out" / "c.txt"):
        with pytest.raises(ConfigError, match="would be replaced by the result"):
            ResultSet(out, NAMES, [None, given])
    (out / "a.txt").unlink()
    (tmp_path / "mine").write_text("mine")
    (out / "a.txt").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="would be replaced by the result"):
        ResultSet(out, NAMES, [tmp_path / "mine"])
    with pytest.raises(ConfigError, match="rephase did not write it"):
        ResultSet(out, NAMES)


@pytest.mark.parametrize(
    "record",
    [
        {"files": {}, "before": {}, "stage": "../mine"},
        {"files": {}, "before": {}, "stage": ".partial-/../../mine"},
        {"files": {"../mine/b.txt": ""}, "before": {}, "stage": ".partial-x"},
        {"files": {}, "before": {"../mine/a.txt": hashlib.sha256(b"mine").hexdigest()}, "stage": ".partial-x"},
    ],
)
def test_a_record_of_others_leads_nowhere_else(tmp_path, record):
    out = tmp_path / "out"
    for folder in (tmp_path / "mine", out, out / ".partial-x"):
        folder.mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    (out / ".rephase.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="record of results"):
        ResultSet(out, NAMES)
    assert (tmp_path / "mine" / "a.txt").read_text() == "mine"


def test_an_interrupt_after_the_new_ones_count_keeps_them(tmp_path, monkeypatch):
    write(ResultSet(tmp_path, NAMES), "old")
    write_record = ResultSet._write_record
    monkeypatch.setattr(ResultSet, "_write_record", lambda *given: interrupted_after(write_record, *given))
    with pytest.raises(KeyboardInterrupt):
        write(ResultSet(tmp_path, NAMES), "new")
    monkeypatch.undo()
    ResultSet(tmp_path, NAMES)
    assert written(tmp_path) == dict.fromkeys(NAMES, "new")


def test_a_damaged_record_is_named(tmp_path):
    write(ResultSet(tmp_path, NAMES), "old")
    for text in ("", "[]", "{", json.dumps({"files": []})):
        (tmp_path / ".rephase.json").write_text(text)
        with pytest.raises(ConfigError, match="record of results"):
            ResultSet(tmp_path, NAMES)
    (tmp_path / ".rephase.json").unlink()
    (tmp_path / ".rephase.json").mkdir()
    with pytest.raises(ConfigError, match="record of results"):
        ResultSet(tmp_path, NAMES)


def test_a_folder_has_one_writer(tmp_path):
    script = f"from rephase.files.writing import only_writer\nwith only_writer({str(tmp_path)!r}): print('written')"
    run = lambda: subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)  # noqa: E731
    with only_writer(tmp_path), only_writer(tmp_path):
        refused = run()
    assert "another process of rephase is writing there" in refused.stderr
    assert run().stdout == "written\n"


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    script = (
        f"import os\nfrom rephase.files.writing import only_writer\nwith only_writer({str(tmp_path)!r}): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    with only_writer(tmp_path):
        pass
