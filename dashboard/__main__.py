"""`python -m dashboard`: the pages on a port, on this machine only unless told otherwise."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from dashboard import server
from dashboard.state import ALLOWED, STORE, STORE_DIR
from experiments.errors import ConfigError
from experiments.store.location import Store, locate


def environment(store: Store, allowed: list[str]) -> dict[str, str]:
    """The variables that tell the pages which store to read and what a visitor may do.

    No arguments: other users of the machine see those, and the store's URL may hold a password.
    """
    return {STORE: store.url, STORE_DIR: str(store.folder), ALLOWED: " ".join(allowed)}


def main(arguments: list[str] | None = None) -> None:
    """Serves the pages until stopped; a message and exit status 2 where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m dashboard", allow_abbrev=False)
    parser.add_argument("--store", help="a folder, sqlite:///, postgresql:// or http:// (default: the nearest mlruns/)")
    parser.add_argument("--store_dir", help="where the files lie when the store is a server")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--allow_launch", action="store_true", help="visitors may start and stop runs")
    parser.add_argument("--allow_edit", action="store_true", help="visitors may write notes and tags, and archive runs")
    options = parser.parse_args(arguments)
    try:
        store = locate(options.store, options.store_dir)
        check_port(options.host, options.port)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    allowed = [name for name in ("launch", "edit") if getattr(options, f"allow_{name}")]
    os.environ.update(environment(store, allowed))
    token = server.new_token(options.host)
    sys.stderr.write(f"store {store.label}\n{address(options.host, options.port, token)}\n")
    sys.argv = sys.argv[:1]  # what is passed to the pages; they read the environment
    app = server.build(options.host, options.port, token)
    # browser.serverAddress: else Streamlit asks a service outside for the address of this machine
    place = {"server.address": options.host, "server.port": options.port, "browser.serverAddress": _name(options.host)}
    app.run(config={**place, **server.SETTINGS})


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser.

    >>> address("::1", 8501, None), address("0.0.0.0", 8501, "k")[-14:]
    ('http://[::1]:8501', ':8501/?token=k')
    """
    return f"http://{_name(host)}:{port}" + (f"/?token={token}" if token else "")


def _name(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - every address of this machine
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def check_port(host: str, port: int) -> None:
    """Nothing where the port can be listened on, else an error that names the next one that can."""
    if not 1 <= port <= 65_535:
        raise ConfigError(f"--port {port}: must lie in 1 to 65535")
    if not _is_free(host, port):
        free = next((other for other in range(port + 1, min(port + 100, 65_536)) if _is_free(host, other)), None)
        hint = f"; the next free one: --port {free}" if free else ""
        raise ConfigError(f"--port {port}: in use on {host}, or not allowed{hint}")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
        try:
            trial.bind((host, port))
        except socket.gaierror as error:
            raise ConfigError(f"--host {host}: no address of this machine") from error
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()
