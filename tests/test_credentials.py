"""The name and password: where they are taken from, what is refused, and that nothing shows them."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import pickle
import traceback
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from f1hbase.config import resolve
from f1hbase.credentials import (
    ENVIRONMENT as THE_ENVIRONMENT,
)
from f1hbase.credentials import (
    Credentials,
    Secret,
    check_credentials_file,
    check_destination,
    exposed_file_warning,
    read_credentials,
    redact,
    redacted,
    register_secret,
)
from f1hbase.errors import ConfigError

NAME, WORD = "ayrton@example.org", "hunter2-hunter2"
ENVIRONMENT = {"F1HBASE_API_USERNAME": NAME, "F1HBASE_API_PASSWORD": WORD}
FILE = {"api-username": "from-the-file", "api-password": "in-the-file"}


@dataclass(frozen=True)
class Holder:
    """What a worker is given, which has credentials somewhere in it."""

    credentials: Credentials | None


# --- where they come from ---


def test_the_environment_comes_before_the_file() -> None:
    assert read_credentials(ENVIRONMENT, FILE) == Credentials(NAME, WORD)


@pytest.mark.parametrize("file", [FILE, {key.replace("-", "_"): value for key, value in FILE.items()}])
def test_the_file_spells_them_with_hyphens_or_underscores(file: dict[str, object]) -> None:
    assert read_credentials({}, file) == Credentials("from-the-file", "in-the-file")


def test_each_is_looked_for_on_its_own() -> None:
    only_password = {"F1HBASE_API_PASSWORD": WORD}
    assert read_credentials(only_password, FILE) == Credentials("from-the-file", WORD)


@pytest.mark.parametrize("environment", [{}, {"F1HBASE_API_USERNAME": "", "F1HBASE_API_PASSWORD": ""}])
@pytest.mark.parametrize("file", [{}, {"api-username": "", "api-password": ""}, {"year": 2024}])
def test_what_is_empty_is_not_there(environment: dict[str, str], file: dict[str, object]) -> None:
    assert read_credentials(environment, file) is None


def test_an_empty_variable_leaves_the_word_to_the_file() -> None:
    empty = {"F1HBASE_API_USERNAME": "", "F1HBASE_API_PASSWORD": ""}
    assert read_credentials(empty, FILE) == Credentials("from-the-file", "in-the-file")


def test_they_are_taken_as_they_are_blanks_included() -> None:
    found = read_credentials({"F1HBASE_API_USERNAME": " a ", "F1HBASE_API_PASSWORD": " p ü "}, {})
    assert found is not None
    assert (found.username, found.password) == (" a ", " p ü ")


# --- what is refused ---


@pytest.mark.parametrize(
    ("environment", "file", "missing", "present"),
    [
        ({"F1HBASE_API_USERNAME": NAME}, {}, "F1HBASE_API_PASSWORD (or 'api-password'", NAME),
        ({"F1HBASE_API_PASSWORD": WORD}, {}, "F1HBASE_API_USERNAME (or 'api-username'", WORD),
        ({"F1HBASE_API_PASSWORD": WORD, "F1HBASE_API_USERNAME": ""}, {}, "F1HBASE_API_USERNAME (or", WORD),
        ({}, {"api-username": NAME}, "F1HBASE_API_PASSWORD (or", NAME),
        ({}, {"api_password": WORD}, "F1HBASE_API_USERNAME (or", WORD),
    ],
)
def test_one_without_the_other_is_refused_by_the_name_of_what_is_missing(
    environment: dict[str, str], file: dict[str, object], missing: str, present: str
) -> None:
    with pytest.raises(ValueError) as refused:
        read_credentials(environment, file)
    assert str(refused.value).startswith(missing)
    assert present not in shown_of(refused.value)


@pytest.mark.parametrize("value", [12345678, 1.5, True, ["12345678"], {"is": "12345678"}])
def test_a_value_of_the_file_that_is_no_text_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(ValueError, match=r"'api-password' in f1hbase\.toml must be a text") as refused:
        read_credentials({}, {"api-username": NAME, "api-password": value})
    assert "12345678" not in shown_of(refused.value)


def test_bytes_of_the_environment_that_are_no_text_are_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="F1HBASE_API_PASSWORD is not valid UTF-8") as refused:
        read_credentials({"F1HBASE_API_USERNAME": NAME, "F1HBASE_API_PASSWORD": f"{WORD}\udcff"}, {})
    assert WORD not in shown_of(refused.value)


def shown_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__) + repr(error.__context__)


# --- out of sight ---


def test_nothing_that_prints_credentials_shows_them(caplog: pytest.LogCaptureFixture) -> None:
    credentials = Credentials(NAME, WORD)
    holder = Holder(credentials)
    logging.getLogger("test").warning("%s %r %s", credentials, credentials, holder)
    prints = [str(credentials), repr(credentials), f"{credentials}", str(holder), str([credentials]), caplog.text]
    prints += [repr(credentials.password), str([credentials.username]), str({"password": credentials.password})]
    for text in prints:
        assert NAME not in text
        assert WORD not in text


def test_a_stack_trace_with_variables_does_not_show_them() -> None:
    def fail(credentials: Credentials) -> None:
        username, password = credentials.username, credentials.password
        raise LookupError(f"{len(username)} and {len(password)}")

    with pytest.raises(LookupError) as failed:
        fail(Credentials(NAME, WORD))
    text = "".join(traceback.TracebackException.from_exception(failed.value, capture_locals=True).format())
    assert "credentials = Credentials(***)" in text
    assert NAME not in text
    assert WORD not in text


def test_they_cannot_be_changed() -> None:
    credentials = Credentials(NAME, WORD)
    with pytest.raises(FrozenInstanceError):
        credentials.password = ""  # type: ignore[misc]


def test_a_secret_is_the_text_it_hides() -> None:
    secret = Secret(WORD)
    assert secret == WORD
    assert f"Bearer {secret}" == f"Bearer {WORD}"
    assert repr(secret) == "***"


# --- on their way to the workers ---


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_copy_of_a_copy_is_the_same_and_as_discreet(protocol: int) -> None:
    credentials = Credentials(NAME, WORD)
    for other in (pickle.loads(pickle.dumps(credentials, protocol)), copy.deepcopy(credentials)):
        assert other == credentials
        assert hash(other) == hash(credentials)
        assert repr([other, other.password]) == "[Credentials(***), ***]"


def test_they_arrive_in_a_process_of_its_own() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(measure, (Holder(Credentials(NAME, WORD)),)) == (len(NAME), len(WORD), "Credentials(***)")


def measure(holder: Holder) -> tuple[int, int, str]:
    assert holder.credentials is not None
    return len(holder.credentials.username), len(holder.credentials.password), repr(holder.credentials)


# --- the file ---


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f1hbase.toml"
    path.write_text("")
    return path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("key", ["api-password", "api_password"])
def test_a_file_with_a_password_that_others_can_open_is_warned_of(file: Path, mode: int, key: str) -> None:
    file.chmod(mode)
    warning = exposed_file_warning(file, {key: WORD})
    assert warning is not None
    assert f"mode {mode:04o}" in warning
    assert f"chmod 600 '{file}'" in warning
    assert WORD not in warning


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_the_user_alone_is_not(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert exposed_file_warning(file, {"api-password": WORD}) is None


@pytest.mark.parametrize("values", [{}, {"api-username": NAME}, {"api-password": ""}])
def test_a_file_without_a_password_may_be_read_by_all(file: Path, values: dict[str, object]) -> None:
    file.chmod(0o644)
    assert exposed_file_warning(file, values) is None


def test_a_file_that_is_gone_is_not_warned_of(tmp_path: Path) -> None:
    assert exposed_file_warning(tmp_path / "absent.toml", {"api-password": WORD}) is None


# --- where they may go ---

USER = Credentials(NAME, WORD)
TOML = "/home/ayrton/f1hbase.toml"


@pytest.mark.parametrize(
    ("url", "url_source", "source"),
    [
        ("https://api.openf1.org/v1", None, THE_ENVIRONMENT),
        ("https://API.OpenF1.org:443/v1", "/tmp/f1hbase.toml", THE_ENVIRONMENT),
        ("https://api.openf1.org/v1", None, None),
        ("https://mirror.test/v1", THE_ENVIRONMENT, THE_ENVIRONMENT),
        ("https://mirror.test/v1", TOML, TOML),
        ("http://127.0.0.1:8000/v1", THE_ENVIRONMENT, THE_ENVIRONMENT),
        ("http://localhost:8000/v1", TOML, TOML),
        ("http://[::1]:8000/v1", TOML, TOML),
    ],
)
def test_they_go_to_openf1_and_to_what_is_named_beside_them(url: str, url_source: str | None, source: str) -> None:
    check_destination(USER, url, url_source, source)


@pytest.mark.parametrize(
    ("url", "url_source", "source", "said"),
    [
        ("http://api.openf1.org/v1", None, THE_ENVIRONMENT, "over https only"),
        ("http://mirror.test/v1", TOML, TOML, "over https only"),
        ("http://127.0.0.1.evil.test/v1", TOML, TOML, "over https only"),
        ("ftp://127.0.0.1/v1", TOML, TOML, "over https only"),
        ("https://evil.test/v1", "./f1hbase.toml", THE_ENVIRONMENT, "F1HBASE_API_URL in the environment, too"),
        ("https://evil.test/v1", THE_ENVIRONMENT, TOML, f"api-url in '{TOML}', too"),
        ("https://evil.test/v1", "./f1hbase.toml", TOML, f"api-url in '{TOML}', too"),
        ("https://evil.test/v1", "./f1hbase.toml", None, "in one place"),
        ("https://evil.test/v1", None, None, "in one place"),
        ("https://evil.test/v1", "the command line", THE_ENVIRONMENT, "not sent to https://evil.test"),
        ("https://api.openf1.org:8443/v1", "./f1hbase.toml", THE_ENVIRONMENT, "not sent to"),
        ("https://api.openf1.org:99999/v1", "./f1hbase.toml", THE_ENVIRONMENT, "not sent to"),
        ("https://api.openf1.org@evil.test/v1", "./f1hbase.toml", THE_ENVIRONMENT, "https://evil.test"),
        ("http://127.0.0.1:8000/v1", "./f1hbase.toml", THE_ENVIRONMENT, "not sent to"),
    ],
)
def test_they_go_nowhere_else(url: str, url_source: str | None, source: str | None, said: str) -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        check_destination(USER, url, url_source, source)
    assert said in str(refused.value)
    assert NAME not in shown_of(refused.value)
    assert WORD not in shown_of(refused.value)
    check_destination(None, url, url_source, source)


def test_they_know_where_they_come_from(file: Path) -> None:
    file.chmod(0o600)
    both = [
        read_credentials(ENVIRONMENT, FILE, file),
        read_credentials({}, FILE, file),
        read_credentials({"F1HBASE_API_PASSWORD": WORD}, FILE, file),
    ]
    assert [found.source for found in both if found] == [THE_ENVIRONMENT, str(file), None]
    assert pickle.loads(pickle.dumps(both[0])).source == THE_ENVIRONMENT


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664])
def test_a_file_that_others_can_change_gives_none(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ValueError, match=f"others can change it.*{mode:04o}.*chmod 600"):
        read_credentials({}, FILE, file)
    assert read_credentials(ENVIRONMENT, FILE, file) is not None, "nothing is taken from it"


def test_a_file_of_another_user_gives_none_but_roots_does(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o644)
    check_credentials_file(file)
    if file.stat().st_uid == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
        check_credentials_file(file)
        os.chown(file, 4321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(ValueError, match="belongs to another user"):
        check_credentials_file(file)


# --- out of what others say ---


@pytest.mark.parametrize(
    "quoted",
    ["pâss &=+%\"wörd", "p%C3%A2ss+%26%3D%2B%25%22w%C3%B6rd", "p%c3%a2ss%20%26%3d%2b%25%22w%c3%b6rd",
     'p\\u00e2ss &=+%\\"w\\u00f6rd', 'pâss &=+%\\"wörd', "pâss &amp;=+%&quot;wörd"],
)  # fmt: skip
def test_a_secret_is_taken_out_however_it_is_spelled(quoted: str) -> None:
    assert redact(f"no user {quoted}!", 'pâss &=+%"wörd') == "no user ***!"


def test_a_secret_within_another_does_not_leave_the_rest_of_it() -> None:
    assert redact("hunter2-hunter2 hunter2", "hunter2", "hunter2-hunter2", "") == "*** ***"


def test_log_handlers_can_hide_what_was_registered() -> None:
    assert redacted("token 0123456789abcdef") == "token 0123456789abcdef"
    register_secret("0123456789abcdef")
    register_secret("a")
    assert redacted("a token 0123456789abcdef") == "a token ***"


def test_a_password_in_a_url_is_hidden_wherever_it_turns_up_again() -> None:
    assert redacted("cannot ask http://user:hunter2-in-url@proxy:3128/x") == "cannot ask http://user:***@proxy:3128/x"
    assert redacted("http://host:80/a http://[::1]:80/ u@b") == "http://host:80/a http://[::1]:80/ u@b"
    with pytest.raises(ConfigError) as raised:
        resolve({"max_retries": "http://user:hunter2%2Dagain@host:1"})
    assert "hunter2" not in redacted(str(raised.value))
    assert redacted("it said hunter2-again, and hunter2%2Dagain") == "it said ***, and ***"
