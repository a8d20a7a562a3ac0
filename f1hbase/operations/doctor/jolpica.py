"""Looks at Jolpica with one request: whether it answers as it should, and what is left of its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from f1hbase.config import JOLPICA_URL
from f1hbase.errors import F1HBaseError
from f1hbase.model.text import count
from f1hbase.operations.doctor.api import LONGEST_ANSWER_SECONDS, LONGEST_TURN_SECONDS, judge_limits, judge_pause
from f1hbase.operations.doctor.base import Check, Grade, failed
from f1hbase.pipeline.load import run_async
from f1hbase.sources.http.errors import SlowDownError
from f1hbase.sources.jolpica.source import JolpicaOptions, JolpicaProbe, probe_jolpica, shared_path

_NAME = "Jolpica"
_SLOW_SECONDS = 10.0


def check_jolpica(options: JolpicaOptions) -> Iterator[Check]:
    """Ask Jolpica once, for its seasons, and say what that tells."""
    options = replace(options, request_timeout=min(options.request_timeout, LONGEST_ANSWER_SECONDS))
    pause, too_long = judge_pause(shared_path(options))
    if pause is not None:
        yield pause
    if too_long:
        yield Check(Grade.SKIP, _NAME, "not asked, as all requests are paused")
        return
    try:
        probe = run_async(probe_jolpica(options, LONGEST_TURN_SECONDS))
    except TimeoutError:
        found = f"no turn within {LONGEST_TURN_SECONDS:.0f} s: other processes use up {options.limits}, or all wait"
        yield Check(Grade.WARN, _NAME, found, "nothing to do if another load is meant to run: 500 an hour are few")
        return
    except F1HBaseError as error:
        yield failed(_NAME, error, "see 'state folder' above")
        return
    yield judge_jolpica(options.url, probe)
    yield judge_limits(options.limits, probe.spent)


def judge_jolpica(url: str, probe: JolpicaProbe) -> Check:
    """Say whether it answers, as Jolpica does, and how fast."""
    took = f"{probe.seconds:.1f} s"
    if isinstance(probe.error, SlowDownError):
        fix = "wait an hour; what else uses Jolpica from this address?"
        return Check(Grade.WARN, _NAME, f"{url} answers in {took}: too many requests from this address", fix)
    if probe.error is not None:
        fix = f"check the network, HTTPS_PROXY and --jolpica-url ({JOLPICA_URL}), or try: curl -sS {url}/seasons/"
        return Check(Grade.FAIL, _NAME, f"{url}: {probe.error}", fix)
    if not probe.seasons:
        return Check(Grade.WARN, _NAME, f"{url} answers in {took}, but has no season", "is it the right --jolpica-url?")
    found = f"{url} lists {count(probe.seasons, 'season')} in {took}"
    if probe.seconds > _SLOW_SECONDS:
        return Check(Grade.WARN, _NAME, f"{found}, which is slow", "nothing to do: a load takes longer")
    return Check(Grade.OK, _NAME, found)
