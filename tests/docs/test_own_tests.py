"""The page about a host's own tests: its example of emptied tables runs under pytest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, blocks
from .test_examples import url

[EXAMPLE] = [
    block.text for block in blocks(DOCS / "how-to/test-your-service.md", "python") if "import empty" in block.text
]


@pytest.mark.parametrize("emptied", [True, False])
def test_example_of_emptied_tables(emptied: bool, migrated_dsn: str, tmp_path: Path) -> None:
    """The example's tests pass in one run, and fail if its fixture empties nothing."""
    text = EXAMPLE if emptied else re.sub(r"asyncio\.run\(empty\(DSN\)\)", "pass", EXAMPLE)
    assert emptied == (text == EXAMPLE)
    (tmp_path / "test_host.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_host.py"],
        cwd=tmp_path,
        env=os.environ | {"ESC_DATABASE_URL": url(migrated_dsn)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("2 passed" if emptied else "1 failed, 1 passed") in done.stdout, done.stdout
