"""The README's screenshots, made from a store that `taolu demo` filled: `make pictures`."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from experiments.errors import ConfigError
from experiments.store.location import Store, locate
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.studies import find_study, latest, study_names

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
LARGEST = 200_000  # bytes of a picture
CLAIM = "5655-S1.1"  # fails as written, holds as corrected
SWEEP = "demo-"  # beginning of the names of the demo's sweeps
COMPARED = (0, 2, 4, 6, 8)  # three of its trials have the same lr / B, one a larger, one a smaller
NARROW = (760, 1300)  # pixels: without the side bar, as two pictures beside each other are read
CLIPS = {"claim.png": (165, 1040), "compare.png": (115, 890)}  # pixels from the top, and of height


def main(arguments: list[str] | None = None) -> int:
    """0 when the pictures are written; 2, after one line that says why, when they cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--store", required=True, help="a folder that `taolu demo --store DIR` filled")
    place = parser.parse_args(arguments).store
    try:
        store = locate(place)
        run = read_run(store, find_run(store, "last:vae"))
        take(store, place, run, chromium())
    except ConfigError as error:
        sys.stderr.write(f"pictures: {error}\n")
        return 2
    return 0


def chromium() -> str:
    """The path of a Chromium.

    Raises ConfigError when there is none.
    """
    found = os.environ.get("PLAYWRIGHT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise ConfigError(f"no {' or '.join(BROWSERS)} on PATH; install one, or set PLAYWRIGHT_CHROMIUM to its path")
    if not Path(found).is_file():
        raise ConfigError(f"PLAYWRIGHT_CHROMIUM = '{found}': no such file; give the path of a Chromium")
    return found


def take(store: Store, place: str, run: RunRecord, browser: str) -> None:
    """Writes claim.png, compare.png, run.png, runs.png and manifold.png.

    Args:
        store: the pages show it.
        place: the store as the user wrote it, shown instead of where this machine keeps it.
        run: whose page and manifold are shown.
        browser: path of a Chromium.
    """
    PICTURES.mkdir(exist_ok=True)
    grids = sorted((run.folder / "media" / "manifold").glob("*.png"))
    if not grids:
        raise ConfigError(f"run {run.run_id[:8]} has no picture media/manifold; fill the store with: taolu demo")
    save(grids[-1], PICTURES / "manifold.png")
    with dashboard(store) as home, sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        page = window.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        page.goto(f"{home}/run?run={run.run_id}")
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=60_000)
        shoot(page, store.label, place, "run.png")
        page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        for name, address in (("claim.png", f"claims?claim={CLAIM}"), ("compare.png", comparison(store))):
            page.goto(f"{home}/{address}")
            expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=60_000)
            shoot(page, store.label, place, name)
        page.set_viewport_size({"width": 1280, "height": 640})
        page.goto(f"{home}/runs?experiments={newest_sweep(store)}")
        expect(page.locator('[data-testid="stDataFrame"]')).to_be_visible(timeout=60_000)
        shoot(page, store.label, place, "runs.png")
        window.close()


def comparison(store: Store) -> str:
    """The address of Compare with trials of the demo's newest sweep: the loss by epoch, named by what differs."""
    trials = {trial.number: trial for trial in latest(find_study(store, newest_sweep(store)).trials)}
    fields = [f"runs={trials[number].run_ids[-1]}" for number in COMPARED]
    return "compare?" + "&".join([*fields, "chart=loss", "x=epoch", "by=same_config", "smooth=0.7"])


def newest_sweep(store: Store) -> str:
    """The name of the demo's newest sweep.

    Raises ConfigError when there is none.
    """
    names = [name for name in study_names(store) if name.startswith(SWEEP)]
    if not names:
        raise ConfigError(f"no sweep '{SWEEP}1' in the store; fill it with: taolu demo")
    return names[-1]


@contextmanager
def dashboard(store: Store) -> Iterator[str]:
    """The address of a dashboard over the store, on a free port, ended afterwards."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "dashboard", "--store", store.url, "--store_dir", str(store.folder)]
    server = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL)
    home = f"http://127.0.0.1:{port}"
    try:
        wait_for(server, f"{home}/_stcore/health")
        yield home
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(server: subprocess.Popen[bytes], address: str) -> None:
    """Returns when the server answers.

    Raises ConfigError when it ends or a minute passes.
    """
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.1)
    raise ConfigError(f"the dashboard did not start (exit status {server.poll()}); try: taolu dashboard")


def shoot(page: Page, label: str, place: str, name: str) -> None:
    """Writes docs/pictures/NAME once the page has come to rest."""
    page.wait_for_timeout(2_000)  # charts and the table's canvas are drawn after they are there
    page.evaluate(
        """([label, place]) => {
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (texts.nextNode())
            texts.currentNode.nodeValue = texts.currentNode.nodeValue.replaceAll(label, place);
        }""",
        [label, place],
    )
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, name)
        top, height = CLIPS.get(name, (0, 0))
        width, whole = page.evaluate("[innerWidth, innerHeight]")
        page.screenshot(path=raw, clip={"x": 0, "y": top, "width": width, "height": height or whole})
        save(raw, PICTURES / name)


def save(source: Path, target: Path) -> None:
    """A PNG of at most 256 colours, which these pictures hardly exceed.

    Raises ConfigError when it is still larger than a README should load.
    """
    Image.open(source).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    if size > LARGEST:
        raise ConfigError(f"{target}: {size:,} bytes, at most {LARGEST:,} are allowed; make its page smaller")


if __name__ == "__main__":
    sys.exit(main())
