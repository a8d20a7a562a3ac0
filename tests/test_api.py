"""Loading from Python, with the words of the command line: in a notebook, a daemonic process, a thread, a script."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import nbclient
import nbformat
import pytest
from hbase_server import LocalHBase
from replay_server import ReplayServer
from tables import rows_by_family, scan, source_identities

import f1hbase
from f1hbase.errors import F1HBaseError


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"nonsense": 1}, TypeError, "unexpected keyword argument 'nonsense'"),
        ({"num_sessions": 5}, ValueError, "--num-sessions goes with --mode latest"),
        ({"year": [2024, 1999]}, ValueError, "no data before 2023"),
        ({"window": "fast"}, ValueError, "'fast' is not a length of time"),
        ({"config": "no-such.toml"}, ValueError, "cannot read 'no-such.toml'"),
        ({"dry_run": True}, TypeError, "unexpected keyword argument 'dry_run'"),
    ],
)
@pytest.mark.parametrize("function", [f1hbase.load, f1hbase.plan])
def test_a_mistake_is_an_error_that_says_what_to_write(
    function: Any, options: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        function(**options)


class Place(NamedTuple):
    """A simulated race behind an API, and where to load it."""

    folder: Path
    words: dict[str, Any]
    environment: dict[str, str]

    @property
    def rows(self) -> int:
        return sum(source_identities(self.folder).values())


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("race")
    arguments = ["--sessions", "race", "--minutes", "1", "--drivers", "2", "--year", "2025"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    with ReplayServer(folder) as api:
        yield folder, api.url


@pytest.fixture
def place(
    race: tuple[Path, str], hbase: LocalHBase, table_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    folder, url = race
    environment = {
        "F1HBASE_TABLE_PREFIX": table_prefix,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = {"hbase_host": hbase.host, "hbase_port": hbase.port, "api_url": url}
    return Place(folder, words, environment)


@pytest.mark.hbase
def test_a_load_in_any_thread_says_how_it_went(place: Place, hbase: LocalHBase) -> None:
    where = {"hbase_host": place.words["hbase_host"], "hbase_port": place.words["hbase_port"]}
    with pytest.raises(F1HBaseError, match="nothing has been loaded yet"):
        f1hbase.status(**where)
    before = f1hbase.plan(year=[2025], window="30s", **place.words)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(f1hbase.load, mode="year", year=2025, processes=2, window="30s", **place.words).result()
    again = f1hbase.load(mode="latest", num_sessions=1, **place.words)
    after = f1hbase.plan(year=2025, **place.words)
    overview = f1hbase.status(**where)
    assert (first.exit_code, first.overall.failures) == (0, {})
    assert first.overall.all_rows == place.rows
    table = f"{place.environment['F1HBASE_TABLE_PREFIX']}_f1_data"
    assert rows_by_family(scan(hbase.port, table)) == source_identities(place.folder)
    assert (again.exit_code, again.overall.all_rows, again.complete) == (0, 0, 1)
    assert before.exact
    assert before.all_requests + 2 == first.overall.requests, "the two of the plan, and those it foretold"
    assert (after.units, after.all_requests) == (0, 0)
    assert (overview.left, sum(scope.rows.total() for scope in overview.scopes)) == (0, place.rows)


@pytest.mark.hbase
def test_a_script_needs_no_main_guard(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "nightly.py"
    script.write_text(
        f"import f1hbase\nprint('begun')\nprint(f1hbase.load(endpoint=['laps', 'pit'], **{place.words!r}).exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, script], env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "begun\n0\n", done.stderr


@pytest.mark.hbase
async def test_a_running_event_loop_is_not_in_the_way(place: Place) -> None:
    assert asyncio.get_running_loop()
    assert f1hbase.plan(endpoint="laps", **place.words).all_requests == 1
    result = f1hbase.load(endpoint="laps", **place.words)
    assert (result.exit_code, result.overall.failures) == (0, {})
    assert result.overall.all_rows > 0


def _in_a_daemon(words: dict[str, Any], answer: Any) -> None:
    result = f1hbase.load(endpoint="laps", **words)
    answer.put((multiprocessing.current_process().daemon, result.exit_code, result.overall.all_rows))


@pytest.mark.hbase
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_daemonic_process_may_load_though_it_may_have_no_children_of_multiprocessing(
    place: Place, method: str
) -> None:
    context = multiprocessing.get_context(method)
    answer = context.Queue()
    process = context.Process(target=_in_a_daemon, args=(place.words, answer), daemon=True)  # type: ignore[attr-defined]
    process.start()
    daemon, exit_code, rows = answer.get(timeout=60)
    process.join(30)
    assert (daemon, exit_code, rows > 0) == (True, 0, True)


@pytest.mark.hbase
def test_a_notebook_loads_in_its_own_kernel(place: Place, tmp_path: Path) -> None:
    cells = [
        "import asyncio, f1hbase, json\nasyncio.get_running_loop()",
        f"words = json.loads({json.dumps(place.words)!r})\nresult = f1hbase.load(endpoint=['laps', 'pit'], **words)",
        "print(result.exit_code, result.overall.all_rows)",
        "await asyncio.sleep(0)\nprint(f1hbase.status(**{k: words[k] for k in ('hbase_host', 'hbase_port')}).left)",
    ]
    code: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{number}", "source": cell} for number, cell in enumerate(cells)
    ]
    for cell in code:
        cell |= {"metadata": {}, "outputs": [], "execution_count": None}
    notebook = nbformat.from_dict({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    printed = [output["text"] for cell in notebook.cells for output in cell.outputs if output.get("name") == "stdout"]
    identities = source_identities(place.folder)
    assert printed == [f"0 {identities['laps'] + identities['pit']}\n", "0.0\n"]
