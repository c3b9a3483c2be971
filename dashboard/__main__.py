"""`python -m dashboard`: Streamlit with the dashboard's settings, on this machine only unless told otherwise."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from experiments.errors import ConfigError
from experiments.store.location import Store, locate

_SETTINGS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "1",
    "server.enableXsrfProtection": "true",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "client.disableDataExport": "true",  # Streamlit's CSV does not guard cells that a spreadsheet takes for formulas
    "theme.light.primaryColor": "#33658A",
    "theme.dark.primaryColor": "#6FA8D6",
    "theme.light.sidebar.backgroundColor": "#F5F6F8",
    "theme.headingFontSizes": '["1.9rem", "1.5rem", "1.15rem"]',
    "theme.headingFontWeights": "[600, 600, 600]",
    "theme.codeFontSize": "0.8rem",
    "theme.baseRadius": "8px",
    "theme.paddingTop": "3rem",
}


def command(host: str = "127.0.0.1", port: int = 8501) -> list[str]:
    """The argument list that starts Streamlit.

    The store is not in it: other users of the machine see arguments, and the store's URL may hold a password.
    """
    settings = {"server.address": host, "server.port": str(port), **_SETTINGS}
    options = [f"--{name}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("app.py")), *options]


def environment(store: Store) -> dict[str, str]:
    """The variables that tell the pages which store to read, and Python where this package lies."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    here = {"TAOLU_DASHBOARD_STORE": store.url, "TAOLU_DASHBOARD_STORE_DIR": str(store.folder), "PYTHONPATH": path}
    return {**os.environ, **here}


def main(arguments: list[str] | None = None) -> None:
    """Starts the dashboard in place of this process; a message and exit status 2 where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m dashboard", allow_abbrev=False)
    parser.add_argument("--store", help="a folder, sqlite:///, postgresql:// or http:// (default: the nearest mlruns/)")
    parser.add_argument("--store_dir", help="where the files lie when the store is a server")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501)
    options = parser.parse_args(arguments)
    try:
        store = locate(options.store, options.store_dir)
        check_port(options.host, options.port)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    sys.stderr.write(f"store {store.label}\n")
    os.execve(sys.executable, command(options.host, options.port), environment(store))  # noqa: S606


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
