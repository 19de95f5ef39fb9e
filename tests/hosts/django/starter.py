"""A process that has imported Django and the library, and forks itself for each program: imports are most of the time.

The forks have no settings yet: ``django.setup`` runs in each of them, in the project's folder.
"""

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import attrs

IMPORTED = (
    "django.core.management.commands.check",
    "django.core.management.commands.migrate",
    "django.core.management.commands.sqlmigrate",
    "django.db.backends.sqlite3.base",
    "django.db.backends.postgresql.base",
    "django.views.debug",
    "escalation_adapters.django.checks",
    "escalation_adapters.django.operations",
    "escalation_adapters.django.transaction",
    "escalation_adapters.worker.app",
    "escalation_adapters.worker.blocking",
    "escalation_core.testing",
)


@attrs.frozen
class Starter:
    """Starts programs in forks of one process."""

    process: "subprocess.Popen[str]"

    def run(self, args: Sequence[str], folder: Path, seconds: float) -> tuple[int, str, str]:
        """Run ``python args`` in a folder to its end; return its exit code and what it printed."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([list(args), str(folder), seconds]) + "\n")
        stdin.flush()
        code = int(stdout.readline())
        return code, (folder / "stdout").read_text(encoding="utf-8"), (folder / "stderr").read_text(encoding="utf-8")


@contextmanager
def starting(environment: dict[str, str]) -> Iterator[Starter]:
    """Yield a starter; end its process afterwards."""
    command = [sys.executable, "-W", "error", "-B", __file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe) as process:
        yield Starter(process)
        assert process.stdin is not None
        process.stdin.close()  # the process ends when it has read all


def serve() -> None:
    """Fork for each line of the input, let the fork become that program, and write its exit code."""
    for line in sys.stdin:
        args, folder, seconds = json.loads(line)
        child = os.fork()
        if child == 0:
            become(args, folder, seconds)
            return
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def become(args: Sequence[str], folder: str, seconds: float) -> None:
    """Do what ``python args`` does in a folder; a signal ends it after these seconds."""
    signal.alarm(int(seconds))
    os.chdir(folder)
    sys.path[0] = folder
    for number, name in enumerate((os.devnull, "stdout", "stderr")):
        file = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = list(args)
    if args[0] == "-m":
        sys.argv = list(args[1:])
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    serve()
