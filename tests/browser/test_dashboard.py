"""The dashboard as a visitor sees it: a real process, a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Position, expect, sync_playwright

from experiments.store.location import Store
from tests.conftest import Writer

CHROMIUM = shutil.which("chromium") or shutil.which("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
TABLE = '[data-testid="stDataFrame"]'
FIRST_ROW: Position = {"x": 250, "y": 55}  # the table is drawn on a canvas; its header is 36 pixels high

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium"),
]


@dataclass
class Visit:
    """A page of the dashboard, and what went wrong while it was open."""

    page: Page
    home: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing was logged as an error and nothing asked for outside of the dashboard."""
        assert self.errors == []
        assert self.outside == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def visit(browser: Browser, store: Store) -> Iterator[Visit]:
    """A dashboard over the store and a visitor with an empty page."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "dashboard", "--store", str(store.folder), "--port", str(port)]
    server = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ, stdout=subprocess.DEVNULL)
    home = f"http://127.0.0.1:{port}"
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    try:
        _wait_for(server, f"{home}/_stcore/health")
        found = Visit(page, home)
        page.on("console", lambda message: _note_error(found, message.type, message.text, message.location["url"]))
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("dialog", lambda dialog: found.errors.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: _note_request(found, request.url))
        yield found
    finally:
        page.close()
        server.terminate()
        server.wait(timeout=20)


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the dashboard did not start (exit status {server.poll()})")


def _note_error(found: Visit, kind: str, text: str, url: str) -> None:
    # on a copied link Streamlit (1.67) looks for its server below the page's own path first: two harmless 404
    if kind == "error" and "/run/_stcore/" not in url:
        found.errors.append(f"{text} {url}")


def _note_request(found: Visit, url: str) -> None:
    if not url.startswith((found.home, found.home.replace("http", "ws"), "data:", "blob:")):
        found.outside.append(url)


def test_a_visitor_finds_a_run_its_curves_and_its_images(browser: Browser, filled_store: Store) -> None:
    with visit(browser, filled_store) as found:
        page = found.page
        page.goto(f"{found.home}/?q=steady")
        expect(page.get_by_text("1 of 3 runs")).to_be_visible(timeout=30_000)
        expect(page.locator("canvas td", has_text="steady")).to_be_attached(timeout=30_000)  # what a screen reader sees
        page.wait_for_timeout(500)  # the canvas is drawn after the table is there
        page.locator(TABLE).click(position=FIRST_ROW)
        expect(page.get_by_role("heading", name="steady")).to_be_visible(timeout=30_000)
        expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=30_000)
        assert "run=" in page.url
        expect(page).to_have_title("steady · taolu")
        page.get_by_role("tab", name="Images").click()
        expect(page.get_by_test_id("stImage").locator("img")).to_be_visible(timeout=30_000)
        found.check()


def test_a_copied_link_restores_run_tab_and_language(browser: Browser, filled_store: Store) -> None:
    with visit(browser, filled_store) as found:
        found.page.goto(f"{found.home}/run?run=broken&lang=zh&tab=配置")
        expect(found.page.get_by_role("heading", name="broken")).to_be_visible(timeout=30_000)
        expect(found.page.get_by_role("tab", name="配置")).to_have_attribute("aria-selected", "true")
        expect(found.page.get_by_text("失败原因")).to_be_visible()
        found.check()


def test_a_forks_parent_opens_by_its_name(browser: Browser, writer: Writer) -> None:
    model = writer.run("model [1]")
    writer.run("child", start=1, tags={"taolu.parent": model, "taolu.fork": '{"from_step": 7}'})
    with visit(browser, writer.store) as found:
        found.page.goto(f"{found.home}/run?run=child&lang=zh")
        link = found.page.get_by_role("link", name="model [1]")
        expect(link).to_be_visible(timeout=30_000)
        with found.page.context.expect_page() as opened:  # Streamlit opens links of its Markdown in a tab of their own
            link.click()
        expect(opened.value.get_by_role("heading", name="model [1]")).to_be_visible(timeout=30_000)
        expect(opened.value.get_by_text("分叉：child (步 7)")).to_be_visible()
        found.check()


def test_hostile_names_run_no_script_and_reach_no_other_host(browser: Browser, writer: Writer) -> None:
    bad = "<img src=x onerror=\"document.title='owned'\"> ![x](http://evil.invalid/x.png)"
    tags = {"mlflow.note.content": bad, "taolu.kind": bad}
    run_id = writer.run(bad, experiment=bad, status="FAILED", params={"p": bad}, metrics={"a/b": [1, 2]}, tags=tags)
    for name in ("traceback.txt", "command.txt", "console.log", "config.yaml"):
        writer.file(run_id, name, bad)
    writer.file(run_id, "media/a ![x](http:)/00000001.png", "<svg onload='alert(1)'/>")
    with visit(browser, writer.store) as found:
        found.page.goto(found.home)
        expect(found.page.locator(TABLE)).to_be_visible(timeout=30_000)
        for tab in ("Curves", "Config", "Images", "Console", "Files"):
            found.page.goto(f"{found.home}/run?run={run_id}&tab={tab}")
            expect(found.page.get_by_role("tab", name=tab)).to_be_visible(timeout=30_000)
            found.page.wait_for_timeout(300)
            assert found.page.title().startswith("<img src=x onerror")
        found.check()
