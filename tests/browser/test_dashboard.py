"""The dashboard as a visitor sees it, in a real Chromium: every page on an empty, a filled and a hostile store."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboard.app import PAGES
from experiments.store.location import Store, locate
from tests.conftest import Writer, fill
from tests.dashboard.hostile import SCRIPT, hostile
from tests.dashboard.test_launch import write_schema

CHROMIUM = shutil.which("chromium") or shutil.which("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
TABLE = '[data-testid="stDataFrame"]'
NAMES = [name for section in PAGES.values() for name in section]
STORES: dict[str, Callable[[Writer], object]] = {"empty": lambda writer: None, "filled": fill, "hostile": hostile}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),  # one Chromium, one server a store
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium"),
]


@dataclass
class Visit:
    """A visitor with an empty page, and what went wrong while it was open."""

    page: Page
    home: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def open(self, address: str) -> Page:
        """The page at this address, after it was run."""
        self.page.goto(f"{self.home}/{address}")
        return self.settled()

    def settled(self) -> Page:
        """The page, when its server has nothing more to send."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
        expect(self.page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=30_000)
        return self.page

    def check(self) -> None:
        """Nothing failed, no script of a user ran, and nothing was asked for outside of the dashboard."""
        assert self.errors == []
        assert self.outside == []
        assert self.page.title() != "owned"
        assert self.page.get_by_test_id("stException").count() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def homes(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Kind of store -> the address of its dashboard, which is started when first asked for."""
    root, servers = tmp_path_factory.mktemp("stores"), ExitStack()
    write_schema(root / "cache")
    found: dict[str, str] = {}

    def home(kind: str) -> str:
        if kind not in found:
            writer = new_store(root / kind, template_database)
            STORES[kind](writer)
            found[kind] = servers.enter_context(serve(writer.store, {"XDG_CACHE_HOME": str(root / "cache")}))
        return found[kind]

    with servers:
        yield home


def new_store(folder: Path, template: Path) -> Writer:
    from mlflow import MlflowClient

    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    store = locate(str(folder))
    return Writer(store, MlflowClient(store.url))


@contextmanager
def serve(store: Store, variables: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """The address of a dashboard over the store."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "dashboard", "--store", str(store.folder), "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], env={**os.environ, **variables}, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(server, f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"
    finally:
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


@contextmanager
def visit(browser: Browser, home: str, width: int = 1360) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": width, "height": 900})
    found = Visit(context.new_page(), home)
    _watch(found, context)
    yield found
    found.check()
    context.close()


def _watch(found: Visit, context: BrowserContext) -> None:
    context.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: found.errors.append(str(error.error)))
    context.on("dialog", lambda dialog: found.errors.append(f"dialog {dialog.message}"))
    context.on("request", lambda request: None if _is_inside(found, request.url) else found.outside.append(request.url))


def _is_inside(found: Visit, url: str) -> bool:
    return url.startswith((found.home, found.home.replace("http", "ws"), "data:", "blob:"))


@pytest.mark.parametrize("kind", STORES)
def test_every_page_opens(browser: Browser, homes: Callable[[str], str], kind: str) -> None:
    with visit(browser, homes(kind)) as found:
        for name in NAMES:
            page = found.open("" if name == NAMES[0] else name)
            expect(page.locator("h1")).to_be_visible(timeout=30_000)
            assert page.title().endswith("taolu")
            found.check()


@pytest.mark.parametrize("name", ["files", SCRIPT])
def test_every_tab_of_a_bad_run_shows_text_as_text(browser: Browser, homes: Callable[[str], str], name: str) -> None:
    with visit(browser, homes("hostile")) as found:
        page = found.open(f"run?run={quote(name)}")
        expect(page).to_have_title(f"{name} · taolu")
        for tab in page.get_by_role("tab").all():
            tab.click()
            found.settled()
            found.check()
        assert not Path("/tmp/owned").exists()


def test_every_tab_compares_bad_runs(browser: Browser, homes: Callable[[str], str]) -> None:
    with visit(browser, homes("hostile")) as found:
        page = found.open("compare")
        for tab in page.get_by_role("tab").all():
            tab.click()
            found.settled()
            found.check()


def test_a_visitor_finds_a_run_its_curves_and_its_images(browser: Browser, homes: Callable[[str], str]) -> None:
    with visit(browser, homes("filled")) as found:
        page = found.open("run?run=steady")
        expect(page.get_by_role("heading", name="steady")).to_be_visible(timeout=30_000)
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=30_000)
        expect(page).to_have_title("steady · taolu")
        page.get_by_role("tab", name="Images").click()
        expect(page.get_by_test_id("stImage").locator("img").first).to_be_visible(timeout=30_000)


def test_a_copied_link_restores_page_tab_and_language(browser: Browser, homes: Callable[[str], str]) -> None:
    with visit(browser, homes("filled")) as found:
        page = found.open("run?run=broken&lang=zh&tab=config")
        expect(page.get_by_role("heading", name="broken")).to_be_visible(timeout=30_000)
        expect(page.get_by_role("tab", name="配置")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_text("失败原因")).to_be_visible()
        page.get_by_role("link", name="健康").click()
        expect(page.get_by_role("heading", name="健康")).to_be_visible(timeout=30_000)  # and the language stays
        assert "lang=zh" in page.url


def test_a_choice_stands_in_the_address_and_back_undoes_it(browser: Browser, homes: Callable[[str], str]) -> None:
    with visit(browser, homes("filled")) as found:
        page = found.open("health")
        page.get_by_text("Look now").click()
        counted = page.get_by_text("Folders of no run")
        expect(counted).to_be_visible(timeout=60_000)
        assert page.url.endswith("/health?gc=1")
        page.go_back()
        expect(counted).to_have_count(0, timeout=30_000)
        assert page.url.endswith("/health")
        page.go_forward()
        expect(counted).to_be_visible(timeout=30_000)


def test_ticked_runs_stand_in_the_address_and_are_compared(browser: Browser, homes: Callable[[str], str]) -> None:
    with visit(browser, homes("filled")) as found:
        table = found.open("runs?lang=zh").locator(TABLE)
        expect(table).to_be_visible(timeout=30_000)
        compare = found.page.get_by_role("button", name="比较 2 次运行")
        for row in range(2):  # the table is drawn on a canvas: its header is 36 pixels high, a row 35
            table.click(position={"x": 15, "y": 55 + 35 * row})
            expect(found.page.get_by_role("button", name=f"比较 {row + 1} 次运行")).to_be_visible(timeout=30_000)
        fields = sorted(found.page.url.partition("?")[2].split("&"))
        assert [field.partition("=")[0] for field in fields] == ["lang", "runs", "runs"]
        compare.click()
        expect(found.page.get_by_role("heading", name="比较").first).to_be_visible(timeout=30_000)
        there = f"{found.home}/compare"  # its fields reach the address after the page is drawn
        found.page.wait_for_function(
            "([path, fields]) => location.href.split('?')[0] === path &&"
            " location.search.slice(1).split('&').sort().join('&') === fields",
            arg=[there, "&".join(fields)],
            timeout=30_000,
        )
        found.page.go_back()
        expect(compare).to_be_visible(timeout=30_000)
        table.click(position={"x": 15, "y": 55})
        expect(compare).to_have_count(0, timeout=30_000)
        found.page.go_back()
        expect(compare).to_be_visible(timeout=30_000)


def test_a_table_is_seen_at_the_width_of_a_phone(browser: Browser, homes: Callable[[str], str]) -> None:
    with visit(browser, homes("filled"), width=390) as found:
        for name in ("", "runs"):
            page = found.open(name)
            expect(page.locator("h1")).to_be_visible(timeout=30_000)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_when_the_database_goes_the_last_data_stay_under_a_banner(
    browser: Browser, template_database: Path, tmp_path: Path
) -> None:
    writer = new_store(tmp_path / "mlruns", template_database)
    writer.run("steady", metrics={"val/elbo": [1.0, 2.0]})
    with serve(writer.store) as home, visit(browser, home) as found:
        expect(found.open("runs").locator(TABLE)).to_be_visible(timeout=30_000)
        (writer.store.folder / "mlflow.db").rename(tmp_path / "away.db")
        page = found.open("runs?status=FINISHED")
        expect(page.get_by_text("Shown is what was read last")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("its database is gone")).to_be_visible()
        expect(page.locator(TABLE)).to_be_visible()
        (tmp_path / "away.db").rename(writer.store.folder / "mlflow.db")
        expect(found.open("runs").get_by_text("Shown is what was read last")).to_have_count(0)
