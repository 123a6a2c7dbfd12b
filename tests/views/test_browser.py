"""Reports and comparisons as a reader sees them: in a browser, wide and on a phone, light and dark.

Screenshots are kept in the folder that TFRECIPES_ARTEFACTS names, else in build/screenshots.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.contracts.tree import ROOT
from tests.views.runs import full_run
from tfrecipes.runs.folder import Run
from tfrecipes.views.compare import Comparison, comparison_html
from tfrecipes.views.report import report_html

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
)
WIDTHS = {"desktop": 1280, "phone": 360, "small-phone": 320}
LONG = "a_metric_with_a_name_that_is_longer_than_any_phone_is_wide_and_has_no_place_to_break_it"


def hostile_run():
    """Long names without a place to break, markup, hundreds of layers, NaN, many findings."""
    run = full_run(steps=3000, epochs=60, layers=300, name="<b>$x_{y}$</b>" + "long" * 30)
    rows = run.epochs["loss"].size
    values = np.where(np.arange(rows) % 7 == 3, np.nan, np.linspace(1, 2, rows))
    findings = [
        {
            "rule": LONG,
            "severity": ("error", "warning", "info")[i % 3],
            "evidence": f"`{LONG}` rose at step {100 + 7 * i}.",
            "cause": "<script>document.title = 'hacked'</script>",
            "advice": f"Run `tfrecipes train --set {LONG}=1`.",
        }
        for i in range(12)
    ]
    return replace(
        run,
        epochs=run.epochs | {LONG: values, f"val_{LONG}": values + 1},
        environment={LONG: LONG, "<img src=x onerror=alert(1)>": "'\"><script>x</script>"},
        recipe_text=f"{LONG} = '{LONG}'  # {LONG}\n" * 5,
        findings=findings,
        problems=("steps.csv could not be read: " + LONG,),
    )


def broken_run():
    """A run that was killed after it went bad, with every loss NaN."""
    run = full_run(steps=40, epochs=1, layers=1)
    nan = {"loss": np.full(40, np.nan), "grad_norm": np.full(40, np.nan)}
    epochs = {"loss": np.array([np.nan]), "val_loss": np.array([np.nan])}
    return replace(run, steps=run.steps | nan, epochs=epochs, state={"status": "running"})


def pages():
    full, hostile = full_run(), hostile_run()
    history = Run(epochs={"loss": np.array([2.0, 1.0, 0.7]), "val_loss": np.array([2.1, 1.4, 1.3])})
    one_step = full_run(steps=1, epochs=1, layers=3)
    other = full_run(seed=1, epochs=8)
    compared = (full, other, hostile)
    return {
        "report": report_html(full, full.findings),
        "hostile": report_html(hostile, hostile.findings),
        "history": report_html(history, []),
        "one-step": report_html(one_step, one_step.findings),
        "broken": report_html(broken_run(), full.findings),
        "compare": comparison_html(
            Comparison(("default-7", "default-8", "long" * 30), compared, "Said.", ())
        ),
    }


# Everything that is asked of a page, in one call.
LOOK = """
const inside = (a, b, by) => a.left >= b.left - by && a.right <= b.right + by
                          && a.top >= b.top - by && a.bottom <= b.bottom + by;
const shown = e => e.getBoundingClientRect().width > 0;
const figures = [...document.querySelectorAll('figure')].map(figure => {
  const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const paths = [...svg.querySelectorAll('path')];
  const lines = paths.filter(p => (p.getAttribute('d') || '').length > 3);
  const over = [];
  texts.forEach(([word, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
      over.push([word, other]);
  }));
  return {
    id: figure.id, width: box.width, height: box.height, lines: lines.length,
    drawn: lines.some(p => { const b = p.getBBox(); return b.width > 10 && b.height > 10; }),
    cut: texts.filter(([_, t]) => !inside(t, box, 1.5)).map(([word]) => word),
    over: over,
    smallest: Math.min(...[...svg.querySelectorAll('text')].map(
      t => parseFloat(getComputedStyle(t).fontSize) * box.width / svg.viewBox.baseVal.width)),
  };
});
const cut = [...document.querySelectorAll('main *:not(svg *)')].filter(e =>
  e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible'
  && getComputedStyle(e).display !== 'inline').map(e => e.outerHTML.slice(0, 200));
const luminance = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => {
    v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b;
};
const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + .05) / (y + .05); };
const behind = e => { while (e && /rgba?\\(0, 0, 0, 0\\)/.test(getComputedStyle(e).backgroundColor))
  e = e.parentElement; return getComputedStyle(e || document.body).backgroundColor; };
const faint = [];
for (const e of document.querySelectorAll('main *:not(svg *)'))
  if (shown(e) && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) {
    const c = contrast(getComputedStyle(e).color, behind(e));
    if (c < 4.5) faint.push([e.outerHTML.slice(0, 100), c]);
  }
for (const t of document.querySelectorAll('figure svg text'))
  if (!t.closest('[id^=finding-]')) {
    const c = contrast(getComputedStyle(t).fill, getComputedStyle(document.body).backgroundColor);
    if (c < 4.5) faint.push([t.textContent, c]);
  }
return {
  title: document.title, figures: figures, cut: cut, faint: faint,
  page: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
  height: document.documentElement.scrollHeight,
  tables: [...document.querySelectorAll('table')].filter(
    t => t.getBoundingClientRect().right > innerWidth + 1 && !t.closest('.scroll')).length,
  paper: luminance(getComputedStyle(document.body).backgroundColor),
  fetched: performance.getEntriesByType('resource').map(r => r.name),
};
"""


@pytest.fixture(scope="module")
def artefacts():
    folder = Path(os.environ.get("TFRECIPES_ARTEFACTS") or ROOT / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.fail(
            "tests/views/test_browser.py needs chromium and chromedriver. "
            "Install them: apt-get install chromium chromium-driver"
        )
    options = Options()
    options.binary_location = program
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for name, text in pages().items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


def visit(browser, page, width, scheme="light", height=800):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get(page.as_uri())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "hostile", "history", "one-step", "broken", "compare"])
def test_a_page_is_whole_readable_and_silent(name, width, scheme, site, browser, artefacts):
    visit(browser, site / f"{name}.html", WIDTHS[width], scheme)
    seen = browser.execute_script(LOOK)
    visit(browser, site / f"{name}.html", WIDTHS[width], scheme, height=min(seen["height"], 16_000))
    browser.save_screenshot(str(artefacts / f"{name}-{width}-{scheme}.png"))
    assert browser.get_log("browser") == []
    assert seen["fetched"] == []
    assert seen["title"] != "hacked"
    assert seen["page"][0] <= seen["page"][1] == WIDTHS[width]
    assert seen["cut"] == []
    assert seen["tables"] == 0
    assert seen["faint"] == []
    assert (seen["paper"] < 0.05) == (scheme == "dark")
    assert seen["figures"]
    for figure in seen["figures"]:
        assert figure["width"] > 250, figure
        assert figure["height"] > 100, figure
        assert figure["lines"] > 3, figure
        assert figure["drawn"], figure
        assert figure["cut"] == [], figure
        assert figure["over"] == [], figure
        assert figure["smallest"] > 7, figure


@pytest.mark.parametrize("width", ["desktop", "phone"])
@pytest.mark.parametrize("name", ["report", "hostile"])
def test_a_finding_leads_to_a_mark_that_can_be_seen_and_back(name, width, site, browser):
    visit(browser, site / f"{name}.html", WIDTHS[width])
    links = browser.execute_script(
        "return [...document.querySelectorAll('.finding a')].map(a => a.getAttribute('href'))"
    )
    assert len(links) == len(browser.execute_script("return document.querySelectorAll('.finding')"))
    for link in links:
        seen = browser.execute_script(
            """
            document.querySelector(`.finding a[href="${arguments[0]}"]`).click();
            const mark = document.querySelector(':target'), box = mark.getBoundingClientRect();
            const on = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            const figure = mark.closest('figure').getBoundingClientRect();
            return {id: '#' + mark.id, hit: mark.contains(on), width: box.width, top: box.top,
                    tall: innerHeight, plot: figure.bottom - box.top,
                    back: mark.querySelector('a').getAttribute('href') || mark.querySelector('a')
                      .getAttributeNS('http://www.w3.org/1999/xlink', 'href')};
            """,
            link,
        )
        assert seen["id"] == link
        assert seen["hit"], seen
        assert seen["width"] > 8
        assert 0 <= seen["top"] < seen["tall"] - 40, seen
        assert seen["back"] == f"{link}-text"
    browser.find_element("css selector", ":target a text").click()
    assert browser.current_url.endswith(f"{links[-1]}-text")
    assert browser.get_log("browser") == []
