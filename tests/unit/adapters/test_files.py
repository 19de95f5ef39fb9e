"""Secrets from files."""

from pathlib import Path

import pytest

from escalation_adapters.files import MAX_BYTES, read_secret
from escalation_core import Settings, SettingsError

SECRET = "0123456789abcdef0123456789abcdef"


def test_text_is_returned_as_it_stands(tmp_path: Path) -> None:
    """A UTF-8 file is returned whole, its last line feed with it."""
    (tmp_path / "secret").write_bytes("schlüssel\n".encode())
    assert "schlüssel\n" == read_secret(str(tmp_path / "secret"))


def test_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    """What an editor puts before the first character is no part of the secret."""
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfsecret")
    assert "secret" == read_secret(str(tmp_path / "secret"))


def test_largest_file_is_read(tmp_path: Path) -> None:
    """64 KiB are still a secret."""
    (tmp_path / "secret").write_bytes(b"x" * MAX_BYTES)
    assert MAX_BYTES == len(read_secret(str(tmp_path / "secret")))


def test_larger_file_is_refused(tmp_path: Path) -> None:
    """One byte more is another file that was named by mistake."""
    (tmp_path / "secret").write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="longer than 65536 bytes"):
        read_secret(str(tmp_path / "secret"))


def test_other_encodings_are_refused_without_a_word_of_the_secret(tmp_path: Path) -> None:
    """The error for a file that is no UTF-8 holds nothing of it, not even in the error that it came from."""
    (tmp_path / "secret").write_bytes(b"hush-\xff-hush")
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        read_secret(str(tmp_path / "secret"))
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """A file that is not there is told by the operating system's own error."""
    with pytest.raises(FileNotFoundError):
        read_secret(str(tmp_path / "secret"))


def test_settings_read_secrets_from_files(tmp_path: Path) -> None:
    """NAME_FILE variables work with it as they are."""
    (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    variables = {"OPS_HMAC_SECRET_FILE": str(tmp_path / "secret")}
    assert SECRET == Settings.from_env(variables, read_file=read_secret).ops_hmac_secret


def test_settings_report_a_file_that_is_no_text(tmp_path: Path) -> None:
    """A file that cannot be read is a problem of its variable, like any other."""
    (tmp_path / "secret").write_bytes(b"hush-\xff-hush")
    with pytest.raises(SettingsError, match="OPS_HMAC_SECRET") as caught:
        Settings.from_env({"OPS_HMAC_SECRET_FILE": str(tmp_path / "secret")}, read_file=read_secret)
    assert "hush" not in str(caught.value)
