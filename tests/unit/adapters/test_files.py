"""Secrets from files."""

from pathlib import Path

import pytest

from escalation_adapters.files import MAX_BYTES, read_secret
from escalation_core import Settings, SettingsError

SECRET = "0123456789abcdef0123456789abcdef"


def test_text_is_returned_as_it_stands(tmp_path: Path) -> None:
    """``read_secret`` returns a UTF-8 file whole, including its last line feed."""
    (tmp_path / "secret").write_bytes("schlüssel\n".encode())
    assert "schlüssel\n" == read_secret(str(tmp_path / "secret"))


def test_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    """``read_secret`` leaves out a byte order mark that an editor wrote before the first character."""
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfsecret")
    assert "secret" == read_secret(str(tmp_path / "secret"))


def test_largest_file_is_read(tmp_path: Path) -> None:
    """``read_secret`` reads a file of 64 KiB."""
    (tmp_path / "secret").write_bytes(b"x" * MAX_BYTES)
    assert MAX_BYTES == len(read_secret(str(tmp_path / "secret")))


def test_larger_file_is_refused(tmp_path: Path) -> None:
    """``read_secret`` refuses a file of one byte more: it was probably named by mistake."""
    (tmp_path / "secret").write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="longer than 65536 bytes"):
        read_secret(str(tmp_path / "secret"))


def test_other_encodings_are_refused_without_a_word_of_the_secret(tmp_path: Path) -> None:
    """If a file is not valid UTF-8, the error, its cause and its context hold no secret."""
    (tmp_path / "secret").write_bytes(b"hush-\xff-hush")
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        read_secret(str(tmp_path / "secret"))
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """For a missing file ``read_secret`` raises the operating system's own error."""
    with pytest.raises(FileNotFoundError):
        read_secret(str(tmp_path / "secret"))


def test_settings_read_secrets_from_files(tmp_path: Path) -> None:
    """Settings.from_env with ``read_secret`` reads a secret from the file that a NAME_FILE variable names."""
    (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    variables = {"OPS_HMAC_SECRET_FILE": str(tmp_path / "secret")}
    assert SECRET == Settings.from_env(variables, read_file=read_secret).ops_hmac_secret


def test_settings_report_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Settings report a file that is not valid UTF-8 as a problem of its variable, without quoting the file."""
    (tmp_path / "secret").write_bytes(b"hush-\xff-hush")
    with pytest.raises(SettingsError, match="OPS_HMAC_SECRET") as caught:
        Settings.from_env({"OPS_HMAC_SECRET_FILE": str(tmp_path / "secret")}, read_file=read_secret)
    assert "hush" not in str(caught.value)
