"""The report in a real browser: it renders, sorts, filters, prints, in the dark and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from djops.errors import InstallError
from djops.report.audit import as_html
from djops.systems.apt import AptError
from tests.support.audits import HOSTILE, audit
from tests.support.browser import Browser, browser

FINDINGS = "[...document.querySelectorAll('#findings-table tbody tr')]"
CONTRAST = """\
(() => {
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (one) => { for (; one; one = one.parentElement) {
    const c = parts(getComputedStyle(one).backgroundColor); if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const worst = [];
  for (const one of document.querySelectorAll("p, td, th, h1, h2, h3, small, .tag, a, code, dt, dd, summary, b, span:not(.skip), label")) {
    if (!one.textContent.trim() || !one.getClientRects().length || one.closest(".skip")) continue;
    const a = light(parts(getComputedStyle(one).color).slice(0, 3)), b = light(ground(one));
    worst.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.tagName + "." + one.className + " " + one.textContent.slice(0, 30)]);
  }
  return worst.sort((x, y) => x[0] - y[0])[0];
})()"""  # noqa: E501


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        with browser(tmp_path_factory.mktemp("browser")) as found:
            yield found
    except (InstallError, AptError) as error:
        pytest.skip(f"no browser can be had here: {error}")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "audit.html"
    path.write_text(as_html(audit()))
    return path


def test_it_renders_alone_and_runs_nobody_elses_script(chromium: Browser, page: Path) -> None:
    chromium.log.clear()
    chromium.open(page)
    assert chromium.run("document.title") == "Access audit of lab, 2030-01-31"
    assert chromium.log == [f"request {page.as_uri()}"]
    assert chromium.run("document.querySelector('#findings-table tbody th').textContent").startswith(
        "</td><s"
    )
    assert len(chromium.picture()) > 20_000


def test_it_sorts(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    head = "document.querySelector('#access-table thead tr').cells[1]"
    first = "document.querySelector('#access-table tbody tr').cells[0].textContent.trim()"
    assert chromium.run(f"{head}.getAttribute('aria-sort')") == "none"
    chromium.run(f"{head}.querySelector('button').click()")
    assert chromium.run(f"[{head}.getAttribute('aria-sort'), {first}]")[0] == "ascending"
    chromium.run(f"{head}.querySelector('button').click()")
    assert chromium.run(f"{head}.getAttribute('aria-sort')") == "descending"
    assert chromium.run(first).startswith("zoe")
    severity = "document.querySelector('#findings-table thead button')"
    order = f"{FINDINGS}.map((row) => row.dataset.choice)"
    chromium.run(f"{severity}.click()")
    assert chromium.run(order) == ["high", "medium", "low", "note"]
    chromium.run(f"{severity}.click()")
    assert chromium.run(order) == ["note", "low", "medium", "high"]


def test_it_filters(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    shown = f"{FINDINGS}.filter((row) => row.getClientRects().length).length"
    typed = """(() => { const box = document.querySelector('[data-table=findings-table] input');
        box.value = %r; box.dispatchEvent(new Event('input')); })()"""
    chosen = """(() => { const box = document.querySelector('[data-table=findings-table] select');
        box.value = %r; box.dispatchEvent(new Event('change')); })()"""
    assert chromium.run(shown) == 4
    chromium.run(typed % "zoe ADOPT")
    assert chromium.run(shown) == 1
    assert (
        chromium.run("document.querySelector('[data-table=findings-table] output').textContent")
        == "1 of 4 shown"
    )
    chromium.run(typed % "")
    chromium.run(chosen % "high")
    assert chromium.run(shown) == 1
    chromium.open(page, width=375, height=800)
    chromium.run(chosen % "low")
    assert chromium.run(shown) == 1


def test_it_prints_on_paper(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    paper = chromium.paper()
    assert paper.startswith(b"%PDF-") and paper.count(b"/Type /Page\n") >= 2
    chromium.ask("Emulation.setEmulatedMedia", media="print")
    assert chromium.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert chromium.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    chromium.run("window.dispatchEvent(new Event('beforeprint'))")
    assert chromium.run("[...document.querySelectorAll('details')].every((one) => one.open)")
    chromium.ask("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read(chromium: Browser, page: Path, dark: bool) -> None:
    chromium.open(page, dark=dark)
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 22, 28)" if dark else "rgb(246, 247, 249)"
    )
    ratio, where = chromium.run(CONTRAST)
    assert ratio >= 4.5, where


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_it_never_overflows(chromium: Browser, page: Path, width: int) -> None:
    assert len(HOSTILE) > 40
    chromium.open(page, width=width, height=800)
    assert chromium.run("document.documentElement.scrollWidth") <= width


def test_a_screen_reader_gets_tables_and_names(chromium: Browser, page: Path) -> None:
    chromium.open(page, width=375, height=800)
    tree = chromium.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in tree if not node.get("ignored")]
    assert {"main", "navigation", "banner", "contentinfo", "region"} <= set(roles)
    assert roles.count("table") >= 6
    assert {"columnheader", "rowheader", "cell"} <= set(roles)
    unnamed = [
        node for node in tree
        if not node.get("ignored") and node["role"]["value"] in ("button", "searchbox", "combobox", "link")
        and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert not unnamed
