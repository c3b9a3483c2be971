"""The dashboard as a visitor sees it, in a real Chromium: every page on an empty, a filled and a hostile store."""

from __future__ import annotations

import io
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

import optuna
import pandas as pd
import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from pyarrow import parquet

from dashboard.app import PAGES
from experiments.store.heartbeat import heartbeat
from experiments.store.location import Store, locate
from experiments.store.questions import QUESTIONS, Language, answer
from experiments.store.read import find_run, runs_table
from experiments.store.studies import study_url
from experiments.store.verdicts import write_catalogue
from tests.conftest import Writer, fill
from tests.dashboard.hostile import SCRIPT, hostile, hostile_findings
from tests.dashboard.test_claims import document, write
from tests.dashboard.test_launch import write_schema
from tests.dashboard.test_lexicon import mined as lexicon
from tests.dashboard.test_rules import BASKETS
from tests.dashboard.test_rules import mined as rules
from tests.dashboard.test_sweeps import sweep_pairs

CHROMIUM = shutil.which("chromium") or shutil.which("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
TABLE = '[data-testid="stDataFrame"]'
NAMES = [name for section in PAGES.values() for name in section]
QUESTION = QUESTIONS["5655-batch"]  # "Is a larger batch better?"


def full(writer: Writer) -> None:
    """What every page shows something of: runs, a sweep, claims, a lexicon and rules; none goes on."""
    fill(writer)
    writer.client.set_terminated(find_run(writer.store, "going"))  # a page drawn anew every two seconds loses clicks
    tags = {"taolu.kind": "sweep", "taolu.heartbeat": heartbeat(1, None)}
    sweep_pairs(writer, writer.run("pairs", experiment="pairs", tags=tags))
    for clause in QUESTION.clauses:
        write(writer, clause.claim, "holds")
    write_catalogue(writer.store, [document(clause.claim) for clause in QUESTION.clauses])
    lexicon(writer, "words", "greedy")
    rules(writer, "baskets", BASKETS)


def bad(writer: Writer) -> None:
    """Everything as bad as it can be."""
    hostile(writer)
    hostile_findings(writer)


STORES: dict[str, Callable[[Writer], object]] = {"empty": lambda writer: None, "full": full, "hostile": bad}

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


@dataclass(frozen=True)
class Home:
    """A dashboard.

    Args:
        address: of it.
        writer: writes into its store.
    """

    address: str
    writer: Writer


Homes = Callable[[str], Home]


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One window for all visits: Streamlit's scripts are fetched and compiled once."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium.new_context(accept_downloads=True)
        chromium.close()


@pytest.fixture(scope="module")
def homes(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """Kind of store -> its dashboard, which is started when first asked for."""
    root, servers = tmp_path_factory.mktemp("stores"), ExitStack()
    write_schema(root / "cache")
    found: dict[str, Home] = {}

    def home(kind: str) -> Home:
        if kind not in found:
            writer = new_store(root / kind, template_database)
            STORES[kind](writer)
            address = servers.enter_context(serve(writer.store, {"XDG_CACHE_HOME": str(root / "cache")}))
            found[kind] = Home(address, writer)
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
def visit(browser: BrowserContext, home: Home, width: int = 1360) -> Iterator[Visit]:
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    found = Visit(page, home.address)
    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("dialog", lambda dialog: found.errors.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: None if _is_inside(found, request.url) else found.outside.append(request.url))
    yield found
    found.check()
    page.close()


def _is_inside(found: Visit, url: str) -> bool:
    return url.startswith((found.home, found.home.replace("http", "ws"), "data:", "blob:"))


@pytest.mark.parametrize("kind", ["empty", "hostile"])
def test_every_page_opens_by_its_link_and_every_tab_of_it(browser: BrowserContext, homes: Homes, kind: str) -> None:
    with visit(browser, homes(kind)) as found:
        page = found.open("")
        for name in NAMES:
            if name != NAMES[0]:
                page.get_by_test_id("stSidebarNav").locator(f'a[href$="/{name}"]').click()
                page.wait_for_url(f"**/{name}*")
                found.settled()
            expect(page.locator("h1")).to_be_visible(timeout=30_000)
            assert page.title().endswith("taolu")
            found.check()
            _open_every_tab(found)


def test_every_page_opens_by_its_address_in_chinese_and_fits_a_phone(browser: BrowserContext, homes: Homes) -> None:
    with visit(browser, homes("full"), width=390) as found:
        for name in NAMES:
            page = found.open(f"{'' if name == NAMES[0] else name}?lang=zh")
            expect(page.locator("h1")).to_be_visible(timeout=30_000)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            found.check()


@pytest.mark.parametrize("name", ["files", SCRIPT])
def test_every_tab_of_a_bad_run_shows_text_as_text(browser: BrowserContext, homes: Homes, name: str) -> None:
    with visit(browser, homes("hostile")) as found:
        page = found.open(f"run?run={quote(name)}")
        expect(page).to_have_title(f"{name} · taolu")
        _open_every_tab(found)
        assert not Path("/tmp/owned").exists()


def _open_every_tab(found: Visit) -> None:
    """Each tab after the first, which is open."""
    for tab in found.page.get_by_role("tab").all()[1:]:
        tab.click()
        found.settled()
        found.check()


@pytest.mark.parametrize(("language", "link"), [("en", "Claims"), ("zh", "命题")])
def test_a_stranger_finds_whether_a_larger_batch_is_better_in_one_click(
    browser: BrowserContext, homes: Homes, language: Language, link: str
) -> None:
    with visit(browser, homes("full")) as found:
        page = found.open("" if language == "en" else "?lang=zh")
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=link).click()
        asked = QUESTION.text if language == "en" else QUESTION.text_zh
        expect(page.get_by_text(asked)).to_be_in_viewport(timeout=30_000)
        said = answer(QUESTION, {clause.claim: "holds" for clause in QUESTION.clauses}, language)
        expect(page.get_by_text(said)).to_be_in_viewport()


def test_a_sweeps_page_follows_its_trials(browser: BrowserContext, homes: Homes) -> None:
    home = homes("full")
    study = optuna.load_study(study_name="pairs", storage=study_url(home.writer.store))
    sweep = find_run(home.writer.store, "pairs")
    home.writer.client.update_run(sweep, status="RUNNING")
    with visit(browser, home) as found:
        counted = found.open("sweeps").get_by_test_id("stMetricValue").first
        before = len(study.trials)
        expect(counted).to_have_text(str(before), timeout=30_000)
        study.add_trial(study.trials[0])
        expect(counted).to_have_text(str(before + 1), timeout=30_000)  # nothing was clicked
    home.writer.client.set_terminated(sweep)


def test_what_is_downloaded_is_what_is_listed(browser: BrowserContext, homes: Homes) -> None:
    home = homes("full")
    runs = {row["kind"]: row["run_id"] for row in runs_table(home.writer.store).to_dict("records")}
    words = parquet.read_table(home.writer.store.run_folder(runs["lexicon"]) / "words.parquet")
    found_rules = parquet.read_table(home.writer.store.run_folder(runs["rules"]) / "rules.parquet")
    with visit(browser, home) as found:
        found.open("lexicon?count=100")
        common = [row for row in words.to_pylist() if row["count"] >= 100]
        assert 0 < len(common) < words.num_rows
        listed = pd.read_csv(io.BytesIO(_downloaded(found, f"CSV of {len(common)} rows")), encoding="utf-8-sig")
        assert listed["word"].tolist() == [row["word"] for row in common]
        lines = _downloaded(found, "User dictionary of jieba").decode().splitlines()
        assert lines == [f"{row['word']} {row['count']}" for row in common]
        found.open("rules?confidence=1.0&sort_rules=-support")
        sure = [row for row in found_rules.to_pylist() if row["confidence"] == 1]
        listed = pd.read_csv(io.BytesIO(_downloaded(found, f"CSV of {len(sure)} rows")), encoding="utf-8-sig")
        assert sorted(listed["support"]) == pytest.approx(sorted(row["support"] for row in sure))
        kept = parquet.read_table(io.BytesIO(_downloaded(found, "Parquet"))).to_pylist()
        assert sorted(kept, key=str) == sorted(sure, key=str)


def _downloaded(found: Visit, button: str) -> bytes:
    with found.page.expect_download(timeout=30_000) as caught:
        found.page.get_by_role("button", name=button).click()
    return caught.value.path().read_bytes()


def test_a_visitor_finds_a_run_its_curves_and_its_images(browser: BrowserContext, homes: Homes) -> None:
    with visit(browser, homes("full")) as found:
        page = found.open("run?run=steady")
        expect(page.get_by_role("heading", name="steady")).to_be_visible(timeout=30_000)
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=30_000)
        expect(page).to_have_title("steady · taolu")
        page.get_by_role("tab", name="Images").click()
        expect(page.get_by_test_id("stImage").locator("img").first).to_be_visible(timeout=30_000)


def test_a_copied_link_restores_page_tab_and_language(browser: BrowserContext, homes: Homes) -> None:
    with visit(browser, homes("full")) as found:
        page = found.open("run?run=broken&lang=zh&tab=config")
        expect(page.get_by_role("heading", name="broken")).to_be_visible(timeout=30_000)
        expect(page.get_by_role("tab", name="配置")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_text("失败原因")).to_be_visible()
        page.get_by_role("link", name="健康").click()
        expect(page.get_by_role("heading", name="健康")).to_be_visible(timeout=30_000)  # and the language stays
        assert "lang=zh" in page.url


def test_a_choice_stands_in_the_address_and_back_undoes_it(browser: BrowserContext, homes: Homes) -> None:
    with visit(browser, homes("full")) as found:
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


def test_ticked_runs_stand_in_the_address_and_are_compared(browser: BrowserContext, homes: Homes) -> None:
    with visit(browser, homes("full")) as found:
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


def test_when_the_database_goes_the_last_data_stay_under_a_banner(
    browser: BrowserContext, homes: Homes, tmp_path: Path
) -> None:
    home = homes("full")
    database = home.writer.store.folder / "mlflow.db"
    with visit(browser, home) as found:
        expect(found.open("runs").locator(TABLE)).to_be_visible(timeout=30_000)
        database.rename(tmp_path / "away.db")
        page = found.open("runs?status=FINISHED")
        expect(page.get_by_text("Shown is what was read last")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("its database is gone")).to_be_visible()
        expect(page.locator(TABLE)).to_be_visible()
        (tmp_path / "away.db").rename(database)
        expect(found.open("runs").get_by_text("Shown is what was read last")).to_have_count(0)
