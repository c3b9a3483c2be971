"""A PostgreSQL server of the tests' own: on a free port, in a temporary folder, never as root."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = secrets.token_hex(8)
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [Path(p) for p in os.environ["PATH"].split(":")]
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """PostgreSQL with an empty database `runs`, which any password opens."""

    def __init__(self, binaries: Path) -> None:
        root = os.geteuid() == 0
        self._user: dict[str, Any] = {"user": "postgres"} if root else {}  # the server refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="taolu-postgres-"))
        if root:
            shutil.chown(self.folder, "postgres")
        self.port = free_port()
        self.url = f"postgresql://taolu:{PASSWORD}@127.0.0.1:{self.port}/runs"
        data = ["initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "taolu", "-E", "UTF8"]
        subprocess.run([str(binaries / data[0]), *data[1:]], check=True, cwd=self.folder, **QUIET, **self._user)
        self._command = [str(binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        self._command += ["-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self.start()
        self.execute("CREATE DATABASE runs", "postgres")

    def start(self) -> None:
        """Returns when it takes connections."""
        import psycopg

        self.process = subprocess.Popen(self._command, cwd=self.folder, **QUIET, **self._user)
        for _ in range(600):
            try:
                self.execute("SELECT 1", "postgres")
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise TimeoutError(self.url)

    def stop(self) -> None:
        """Ends open connections; SIGTERM would wait for them."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def execute(self, statement: str, database: str) -> None:
        import psycopg

        with psycopg.connect(f"postgresql://taolu@127.0.0.1:{self.port}/{database}", autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def served() -> Iterator[Server]:
    """A server while this lasts; the test is skipped where there is none to be had."""
    binaries = next((folder for folder in BINARIES if (folder / "postgres").exists()), None)
    if binaries is None or not (binaries / "initdb").exists():
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no driver: pip install 'taolu[postgres]'")
    server = Server(binaries)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
