"""What a load measures: histograms that add up, the figures in log and run row, and what Prometheus gets to see."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from cli import loader_of
from hbase_server import LocalHBase
from hypothesis import given
from hypothesis import strategies as st
from opentsdb_server import OpenTsdbServer
from prometheus_client.parser import text_string_to_metric_families
from replay_server import ReplayServer
from weekend import YEAR, simulate

from f1hbase.config import resolve
from f1hbase.errors import ConfigError, SetupError, UnreachableError
from f1hbase.metrics import names, prometheus
from f1hbase.metrics.meter import BUCKETS_PER_DOUBLING, Histogram, Measurements, Meter, figures, resident_bytes
from f1hbase.metrics.names import METRICS
from f1hbase.metrics.opentsdb import OpenTsdb, opentsdb_of
from f1hbase.metrics.periodic import Periodic
from f1hbase.metrics.prometheus import PrometheusFile, PrometheusServer, exported_names
from f1hbase.sources.http.errors import GiveUpError, NoAnswerError, SlowDownError
from f1hbase.sources.http.measuring import counted

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"

_values = st.lists(st.floats(1e-5, 1e5), min_size=1, max_size=200)
_quantile_error = 2 ** (1 / 2 / BUCKETS_PER_DOUBLING) * (1 + 1e-9)


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(_values, st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_a_quantile_is_off_by_no_more_than_half_a_bucket(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = histogram_of(values).quantile(share)
    assert exact / _quantile_error <= found <= exact * _quantile_error


@given(_values, _values)
def test_histograms_of_two_processes_add_up_to_that_of_one(some: list[float], more: list[float]) -> None:
    both = pickle.loads(pickle.dumps(histogram_of(some)))
    both.merge(histogram_of(more))
    whole = histogram_of(some + more)
    assert both.buckets == whole.buckets
    assert (both.count, both.least, both.largest) == (whole.count, whole.least, whole.largest)
    assert both.sum == pytest.approx(whole.sum)


def test_what_is_out_of_all_bounds_is_counted_nevertheless() -> None:
    histogram = histogram_of([0.0, 1e-30, 1e30])
    assert histogram.count == 3
    assert (histogram.least, histogram.largest) == (0.0, 1e30)
    assert Histogram().quantile(0.5) == 0.0


def test_what_is_taken_is_not_told_twice() -> None:
    worker, run = Meter(), Meter()
    for _ in range(3):
        worker.count(names.RETRIES, 1, "laps")
        worker.observe(names.API_SECONDS, 0.5, "laps")
        run.add(worker.take())
    assert not worker.take()
    assert run.read().total(names.RETRIES) == 3
    assert run.read().merged(names.API_SECONDS, "laps").count == 3
    assert run.read().merged(names.API_SECONDS, "pit").count == 0


def test_a_reader_has_a_copy_of_its_own() -> None:
    meter = Meter()
    meter.observe(names.PUT_SECONDS, 1.0, "f1_data")
    before = meter.read()
    meter.observe(names.PUT_SECONDS, 1.0, "f1_data")
    assert before.merged(names.PUT_SECONDS).count == 1


def test_the_figures_of_a_histogram_have_names_and_leave_out_what_there_is_not() -> None:
    meter = Meter()
    meter.observe(names.PUT_SECONDS, 2.0, "f1_data")
    found = figures(meter.read(), (names.PUT_SECONDS, names.API_SECONDS))
    assert found == {f"put_{what}": "2" for what in ("mean", "p50", "p95", "max")} | {"put_count": "1"}


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say it as Linux does")
def test_the_memory_of_this_process_is_known() -> None:
    assert resident_bytes() > 1_000_000


def test_a_request_counts_once_by_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    monkeypatch.setattr("f1hbase.sources.http.measuring.METER", meter)
    with counted("laps", again=True):
        pass
    for error in (SlowDownError("429", 1.0), NoAnswerError("lost"), GiveUpError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), counted("laps", again=False):
            raise error
    outcomes = ("answered", "slow_down", "no_answer", "give_up")
    wanted: dict[tuple[str, tuple[str, ...]], float] = {("requests", ("laps", outcome)): 1.0 for outcome in outcomes}
    wanted["retries", ("laps",)] = 1.0
    assert meter.read().counters == wanted


# --- exporters ---


def filled() -> Meter:
    """Return a meter that has measured something of each metric."""
    meter = Meter()
    for metric in METRICS.values():
        labels = tuple(f'{label} "\\\n' for label in metric.labels)
        match metric.kind:
            case "counter":
                meter.count(metric, 3, *labels)
            case "gauge":
                meter.set(metric, 4, *labels)
            case "histogram":
                for value in (0.25, 0.5, 3.0):
                    meter.observe(metric, value, *labels)
    return meter


def samples(text: str) -> dict[str, list[Any]]:
    """Return what Prometheus's own parser makes of a text: samples by name."""
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def scrape(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_prometheus_reads_every_metric_under_the_name_that_is_documented() -> None:
    meter = filled()
    server = PrometheusServer("127.0.0.1", 0)
    server.start(meter.read)
    try:
        found = samples(scrape(server.port))
        assert found.keys() == exported_names()
        (count,) = found["f1hbase_put_seconds_count"]
        assert count.value == 3
        below = {s.labels["le"]: s.value for s in found["f1hbase_put_seconds_bucket"]}
        assert [below[bound] for bound in ("0.25", "0.5", "1.0", "4.0", "+Inf")] == [0, 1, 2, 3, 3]
        meter.count(names.WRITER_SECONDS, 1)
        assert samples(scrape(server.port))["f1hbase_writer_seconds_total"][0].value == 4
    finally:
        server.close()


def test_whoever_connects_and_says_nothing_holds_up_nobody() -> None:
    server = PrometheusServer("127.0.0.1", 0)
    server.start(filled().read)
    with socket.create_connection(("127.0.0.1", server.port)):
        assert samples(scrape(server.port))
        began = time.monotonic()
        server.close()
    assert time.monotonic() - began < 5


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UnreachableError, match=rf"--metrics 127.0.0.1:{port}: cannot listen there: "):
            PrometheusServer("127.0.0.1", port).start(Measurements)


def test_the_file_is_whole_whenever_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "FILE_SECONDS", 0.0005)
    path = tmp_path / "f1hbase.prom"
    file = PrometheusFile(path)
    file.start(filled().read)
    inodes = set()
    for _ in range(20):
        assert samples(path.read_text()).keys() == exported_names()
        inodes.add(path.stat().st_ino)
    file.close()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [".", "no/such/folder/f1.prom"])
def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match=r"is a folder|cannot write the metrics file"):
        PrometheusFile(tmp_path / name).start(Measurements)


def test_a_file_that_cannot_be_written_later_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError("no space left")

    periodic = Periodic(fail, 0.001, "the file is written")
    periodic.start()
    while len(calls) < 5:
        pass
    periodic.close(5, last=True)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in warnings] == ["not so now: the file is written: no space left"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("9464", "127.0.0.1:9464"), ("0.0.0.0:80", "0.0.0.0:80"), ("::1", "[::1]:9464"), ("localhost", "localhost:9464")],
)
def test_a_port_alone_is_one_of_this_machine(text: str, wanted: str) -> None:
    assert resolve({"metrics": text}, environment={}).settings.metrics == wanted


@pytest.mark.parametrize("text", ["a b", "host:99999", "a,b", "http://x/"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--metrics"):
        resolve({"metrics": text}, environment={})


def test_opentsdb_gets_every_metric_in_the_form_that_it_takes() -> None:
    with OpenTsdbServer() as server:
        exporter = opentsdb_of({"OPENTSDB_HOSTNAME": server.address, "INGESTER_PROCESS_NAME": "night load"})
        assert exporter is not None
        exporter.start(filled().read)
        exporter.close()
        points = server.points()
    by_name = {point["metric"]: point for point in points}
    for metric in METRICS.values():
        suffixes = ("count", "sum", "mean", "p50", "p95", "max") if metric.kind == "histogram" else ("",)
        for suffix in suffixes:
            point = by_name[f"f1hbase.{metric.name}.{suffix}".rstrip(".")]
            assert point["tags"].keys() == {"host", "ingester_process_name", *metric.labels}
            assert point["tags"]["ingester_process_name"] == "night_load"
            assert abs(point["timestamp"] - time.time()) < 60
    assert by_name["f1hbase.put_seconds.count"]["value"] == 3
    assert by_name["f1hbase.put_seconds.max"]["value"] == 3.0


def test_an_opentsdb_that_hangs_or_is_away_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with OpenTsdbServer(hangs=True) as server:
        for address in (server.address, f"127.0.0.1:{free_port()}"):
            exporter = OpenTsdb(f"http://{address}", every=0.01)
            exporter.start(filled().read)
            began = time.monotonic()
            exporter.close()
            assert time.monotonic() - began < 6
    assert "not so now: metrics are sent to 127.0.0.1:" in caplog.text


@pytest.mark.parametrize("environment", [{}, {"OPENTSDB_HOSTNAME": "tsdb", "OPENTSDB_PYTHON_METRICS_TEST_MODE": "no"}])
def test_opentsdb_is_off_where_it_is_not_named_or_turned_off(environment: dict[str, str]) -> None:
    assert opentsdb_of(environment) is None


@pytest.mark.parametrize("host", ["ftp://tsdb", "http://user:hunter2@tsdb", "tsdb:port"])
def test_a_name_that_is_no_opentsdb_is_refused_without_repeating_it(host: str) -> None:
    with pytest.raises(ConfigError, match="OPENTSDB_HOSTNAME names no server") as refused:
        opentsdb_of({"OPENTSDB_HOSTNAME": host})
    assert "hunter2" not in str(refused.value)


# --- a load ---


@pytest.fixture(scope="module")
def weekend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("made"), meetings=1)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "f1hbase", *arguments]


def test_a_load_shows_what_it_measures_everywhere(weekend: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}
    with ReplayServer(weekend) as api, OpenTsdbServer() as opentsdb:
        environment["OPENTSDB_HOSTNAME"] = opentsdb.address
        api.faults(fail={"laps": 404})
        done = subprocess.run(
            command(
                "load", "--to", "./zone", "--year", str(YEAR), "--api-url", api.url, "--retry-delay", "0",
                "--metrics", str(free_port()), "--metrics-file", "f1.prom",
            ),
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        asked = [entry for entry in api.log() if entry["path"].startswith("/v1/")]
        points = opentsdb.points()
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = samples((tmp_path / "f1.prom").read_text())
    requests = {(s.labels["endpoint"], s.labels["outcome"]): s.value for s in found["f1hbase_requests_total"]}
    assert sum(requests.values()) == len(asked)
    assert sum(s.value for s in found["f1hbase_received_bytes_total"]) > 10_000
    rows = {s.labels["endpoint"]: s.value for s in found["f1hbase_rows_total"]}
    (run,) = (json.loads(path.read_text()) for path in (tmp_path / "zone/_state/runs").glob("*.json"))
    assert sum(rows.values()) == int(run["stats"]["rows"])
    assert sum(one["value"] for one in points if one["metric"] == "f1hbase.rows") == sum(rows.values())
    latency = sum(s.value for s in found["f1hbase_api_seconds_count"])
    assert latency == int(run["stats"]["api_count"])
    for figure in ("p50", "p95", "max"):
        assert 0 < float(run["stats"][f"api_{figure}"]) < 60
    assert float(run["stats"]["worker_cpu_seconds"]) > 0
    assert re.search(r"API latency: \d+, mean .* p50 .* p95 .* max ", done.stdout)
    assert re.search(r"workers: \d+% of a processor each, writers busy \d+% of the time", done.stdout)
    status = subprocess.run(
        command("status", "--json", "--to", "./zone"), cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    (shown,) = json.loads(status.stdout)["runs"]
    assert shown["stats"]["api_p95"] == run["stats"]["api_p95"]


_KILLED = """
import sys
import f1hbase.pipeline.load as load
load.REFRESH_SECONDS = 0.2
from f1hbase.cli import main
main()
"""


def test_a_run_that_is_killed_leaves_its_figures(weekend: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}
    with ReplayServer(weekend) as api:
        arguments = ["load", "--to", "./zone", "--year", str(YEAR), "--api-url", api.url, "--rate", "4/s", "--quiet"]
        with subprocess.Popen([sys.executable, "-c", _KILLED, *arguments], cwd=tmp_path, env=environment) as process:
            try:
                stats: dict[str, str] = {}
                while "api_p95" not in stats or float(stats["waited_for_limiter"]) == 0:
                    assert process.poll() is None, "it ended before it had written figures"
                    time.sleep(0.02)
                    for path in (tmp_path / "zone/_state/runs").glob("*.json"):
                        stats = json.loads(path.read_text())["stats"]
            finally:
                process.kill()
    (run,) = (json.loads(path.read_text()) for path in (tmp_path / "zone/_state/runs").glob("*.json"))
    assert "end" not in run["meta"]
    assert int(run["stats"]["api_count"]) >= 1


@pytest.mark.hbase
def test_puts_into_hbase_are_measured_with_their_retries(hbase: LocalHBase, table_prefix: str, tmp_path: Path) -> None:
    folder = simulate(tmp_path / "made", meetings=1)
    with ReplayServer(folder) as api:
        loader = loader_of(hbase, tmp_path / "run", api.url, table_prefix, year=str(YEAR), metrics_file="f1.prom")
        printed = loader.run("load")
        (run,) = json.loads(loader.run("status", "--json"))["runs"]
    assert int(run["stats"]["put_count"]) > 0
    assert 0 < float(run["stats"]["put_p50"]) <= float(run["stats"]["put_max"])
    assert re.search(r"puts into HBase: \d+, mean .* p50 .* p95 .* max ", printed)
    found = samples((tmp_path / "run" / "f1.prom").read_text())
    tables = {sample.labels["table"] for sample in found["f1hbase_put_seconds_count"]}
    assert tables == {f"{table_prefix}_f1_data", f"{table_prefix}_f1_reports"}
    assert {sample.labels["destination"] for sample in found["f1hbase_store_seconds_count"]} == {"HBase"}


# --- the documentation ---


def test_the_dashboard_asks_for_series_and_labels_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    exprs = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    exprs += [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    asked = {name for expr in exprs for name in re.findall(r"\bf1hbase_\w+", expr)}
    assert asked <= exported_names()
    shown = {re.sub(r"_(total|bucket|count|sum)$", "", name).removeprefix("f1hbase_") for name in asked}
    assert METRICS.keys() - shown <= {"records", "duplicates"}
    labels = {"le", "instance", *(label for metric in METRICS.values() for label in metric.labels)}
    for expr in exprs:
        used = {label.strip() for part in re.findall(r"by \(([^)]*)\)", expr) for label in part.split(",")}
        own = {label for name in re.findall(r"\bf1hbase_\w+", expr) for label in labels_of(name)}
        assert used <= own & labels, expr


def labels_of(series: str) -> set[str]:
    name = re.sub(r"_(total|bucket|count|sum)$", "", series).removeprefix("f1hbase_")
    return {"instance", *METRICS[name].labels, *({"le"} if series.endswith("_bucket") else ())}


def test_every_metric_is_in_the_documentation_with_its_labels() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `\w+`", line)]
    for metric in METRICS.values():
        (row,) = [row for row in rows if f"`{metric.name}`" in row.split("|")[1]]
        _, _, kind, labels, _ = (cell.strip() for cell in row.split("|")[:5])
        assert kind == metric.kind
        assert labels == ", ".join(metric.labels)
