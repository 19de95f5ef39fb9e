"""Secrets: their sources, and that no error, log or repr of settings holds one."""

import logging
from typing import Any

import pytest

from escalation_core import Settings, SettingsError
from escalation_core.settings import SECRETS

from .helpers import PLAIN, TARGETS, URL, WHSEC, problems


@pytest.mark.parametrize(
    ("name", "field", "text", "value"),
    [
        ("ESC_DATABASE_URL", "database_url", "postgresql://u:T0K3N@h/d\n", "postgresql://u:T0K3N@h/d"),
        ("ESC_TARGETS", "targets", TARGETS + "\r\n", {"slack:ops": URL}),
        ("OPS_HMAC_SECRET", "ops_hmac_secret", PLAIN + "\n\n", PLAIN),
        ("OPS_HMAC_SECRET_PREVIOUS", "ops_hmac_secret_previous", WHSEC, WHSEC),
    ],
)
def test_secrets_come_from_files(name: str, field: str, text: str, value: Any) -> None:
    """NAME_FILE is read through read_file, and line feeds at the file's end do not belong to the secret."""
    asked: list[str] = []

    def read_file(path: str) -> str:
        asked.append(path)
        return text

    settings = Settings.from_env({f"{name}_FILE": "/run/secrets/x"}, read_file=read_file)
    assert (["/run/secrets/x"], value) == (asked, getattr(settings, field))


@pytest.mark.parametrize("name", SECRETS)
def test_secret_and_its_file_are_not_both_set(name: str) -> None:
    """A secret and its NAME_FILE must not both be set."""
    found = problems(lambda: Settings.from_env({name: PLAIN, f"{name}_FILE": "/x"}, read_file=lambda path: PLAIN))
    assert [name] == list(found)
    assert "set one of the two" == found[name].remedy


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "error", [FileNotFoundError("T0K3N"), PermissionError("T0K3N"), UnicodeDecodeError("utf-8", b"T0K3N", 0, 1, "x")]
)
def test_unreadable_file_is_a_problem_of_its_variable(name: str, error: Exception) -> None:
    """A file that cannot be read is a problem of its variable; the error holds no part of the file."""

    def read_file(path: str) -> str:
        raise error

    with pytest.raises(SettingsError) as caught:
        Settings.from_env({f"{name}_FILE": "/x"}, read_file=read_file)
    assert [name] == list(caught.value.problems)
    assert "T0K3N" not in str(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_core_opens_no_files(name: str) -> None:
    """Without read_file, a NAME_FILE variable is a problem."""
    found = problems(lambda: Settings.from_env({f"{name}_FILE": "/x"}))
    assert [name] == list(found)


def test_only_secrets_come_from_files() -> None:
    """The NAME_FILE of a setting that is not a secret is an unknown name."""
    settings = Settings.from_env({"ESC_TZ_FILE": "/x", "OPS_ADMIN_ROLE_FILE": "/x"}, read_file=lambda path: "x")
    assert 1 == len(settings.warnings)


HUSH = "hush"
WITH_SECRETS: list[dict[str, str]] = [
    {"OPS_HMAC_SECRET": HUSH},
    {"OPS_HMAC_SECRET": f" {HUSH} "},
    {"OPS_HMAC_SECRET": f"whsec_{HUSH}!"},
    {"OPS_HMAC_SECRET_PREVIOUS": HUSH},
    {"ESC_DATABASE_URL": f" postgresql://u:{HUSH}@h/d"},
    {"ESC_TARGETS": HUSH},
    {"ESC_TARGETS": f'["{HUSH}"]'},
    {"ESC_TARGETS": f'{{"a": "http://{HUSH}"}}'},
    {"ESC_TARGETS": f'{{"https://{HUSH}": "a"}}'},
    {"ESC_TARGETS": f'{{"https://{HUSH}": 7}}'},
    {"ESC_TARGETS": f'{{"a": "https://{HUSH}", "a": "https://{HUSH}"}}'},
    {"ESC_TARGETS": f'{{"a": ["{HUSH}"]}}'},
    {"ESC_TARGETS": f'{{"a": "https://{HUSH}\\n"}}'},
    {"ESC_DEFAULT_TARGET": f"https://{HUSH}"},
    {"ESC_ROUTES": f'[{{"targets": ["https://{HUSH}"]}}]'},
]


@pytest.mark.parametrize("variables", WITH_SECRETS, ids=str)
def test_no_secret_is_in_an_error(variables: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """For any wrong secret, neither the error, its cause nor the log holds a part of the secret."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(variables)
    shown = [str(caught.value), repr(caught.value), repr(caught.value.problems), caplog.text]
    shown += [repr(error) for error in (caught.value.__cause__,) if error is not None]
    assert [] == [text for text in shown if HUSH in text]


def test_no_secret_is_in_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    """The repr of settings shows targets by name, and no URL, password or key."""
    caplog.set_level(logging.DEBUG)
    settings = Settings.from_env(
        {
            "ESC_DATABASE_URL": f"postgresql://u:{HUSH}@h/d",
            "ESC_TARGETS": f'{{"slack:ops": "https://{HUSH}"}}',
            "OPS_HMAC_SECRET": HUSH * 8,
            "OPS_HMAC_SECRET_PREVIOUS": HUSH * 9,
            "ESC_CANARY_PCT": "0",
        }
    )
    assert HUSH not in repr(settings) + str(settings) + caplog.text
    assert "targets=['slack:ops']" in repr(settings)
