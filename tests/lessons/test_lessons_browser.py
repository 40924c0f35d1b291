"""Every lesson in a real headless Chromium: formulas, sliders by keyboard, pictures, no request elsewhere, no error.

One server (the command itself) and one browser serve all tests. `pytest --basetemp DIR` keeps the pictures in DIR.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("torch", reason="torch is not installed: the lessons need the extra nets")
pytest.importorskip("marimo", reason="marimo is not installed: the lessons need the extra teach")

from lessons import LESSONS
from lessons._chromium import chromium, find_chromium
from lessons._pages import FORMULAS, PICTURE, PICTURES, SLIDERS, cells_of, wait_for_lesson

ROOT = Path(__file__).resolve().parents[2]

try:
    find_chromium()
except ValueError as missing:
    pytest.skip(str(missing), allow_module_level=True)

# A busy machine may take many times the five seconds of a quiet one, which the test prints.
PATIENCE = 120


@pytest.fixture(scope="module")
def address():
    """The address of `python -m lessons`."""
    command = [sys.executable, "-m", "lessons", "--no-browser", "--port", "0"]
    server = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = server.stdout.readline()
        assert line.startswith("Lessons at http://127.0.0.1:"), line + server.stderr.read()
        yield line.split()[2]
    finally:
        # As Ctrl-C: the pages' threads must not keep it.
        server.send_signal(signal.SIGINT)
        try:
            _, errors = server.communicate(timeout=PATIENCE)
        finally:
            server.kill()
    assert server.returncode in (0, 130, -signal.SIGINT), errors
    assert not errors, errors


@pytest.fixture(scope="module")
def page():
    with chromium() as page:
        yield page


@pytest.fixture(scope="module")
def keep(tmp_path_factory):
    """Keep a screenshot, to be looked at."""
    directory = tmp_path_factory.mktemp("pictures")
    return lambda name, picture: (directory / name).write_bytes(picture)


def nothing_is_wrong(page, name):
    hosts = {urlsplit(url).hostname for url in page.requests if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('.marimo-cell').length") == cells_of(name), "a cell failed"


def test_index_leads_to_every_lesson(page, address, keep):
    page.look(1280)
    page.open(address)
    page.wait_for("document.readyState === 'complete'")
    links = page.evaluate(
        "[...document.querySelectorAll('li a')].map(link => [link.textContent.trim(), link.pathname])"
    )
    root = urlsplit(address).path
    assert links == [[f"{i}. {lesson.title}", f"{root}/{lesson.name}/"] for i, lesson in enumerate(LESSONS, 1)]
    assert page.evaluate("[...document.querySelectorAll('li a img')].every(image => image.naturalWidth > 200)")
    text = page.evaluate("document.body.innerText")
    assert all(lesson.summary in text for lesson in LESSONS)
    # By keyboard: the first link is the first stop.
    page.press("Tab")
    assert page.evaluate("document.activeElement.pathname") == f"{root}/{LESSONS[0].name}/"
    keep("index.png", page.picture())
    assert {urlsplit(url).hostname for url in page.requests if not url.startswith("data:")} == {"127.0.0.1"}
    assert page.complaints == []


# One by default, that draws and computes least: each takes a dozen seconds.
@pytest.mark.parametrize(
    "name", [pytest.param(each.name, marks=[] if i == 1 else pytest.mark.slow) for i, each in enumerate(LESSONS)]
)
def test_lesson_in_the_browser(page, address, keep, name, capsys):
    page.look(1280)
    begin = time.perf_counter()
    page.open(f"{address}/{name}/")
    page.wait_for(PICTURE, seconds=PATIENCE)
    seconds = time.perf_counter() - begin
    wait_for_lesson(page, name, seconds=PATIENCE)
    with capsys.disabled():
        print(f"\n{name}: first picture after {seconds:.1f} s (load {os.getloadavg()[0]:.1f})", end=" ")

    formulas = page.evaluate(FORMULAS)
    assert len(formulas) >= 3 and set(formulas) == {"shown"}
    # A formula that Markdown took for something else, a list say, shows its dollars.
    assert "$" not in page.evaluate("""[...document.querySelectorAll('.markdown')].map(element => {
        const text = element.cloneNode(true);
        text.querySelectorAll('pre, code').forEach(code => code.remove());
        return text.textContent;
    }).join('')""")
    # What a reader who sees no picture, and one who only has keys, need.
    assert page.evaluate("[...document.querySelectorAll('[role=img]')].every(e => e.ariaLabel.length > 20)")
    assert page.evaluate("[...document.querySelectorAll('img')].every(i => i.naturalWidth >= 1.4 * i.width)")
    assert page.evaluate("[...document.querySelectorAll('img')].every(i => i.closest('[role=img]'))")
    assert page.evaluate(f"{SLIDERS}.every(slider => slider.tabIndex === 0)")

    # The first slider by keyboard: Tab reaches it from the top, and an arrow moves it.
    # Not every panel depends on the first slider.
    page.evaluate(f"window.before = ({PICTURES}).join()")
    value = page.evaluate(f"{SLIDERS}[0].getAttribute('aria-valuenow')")
    page.evaluate("document.activeElement.blur()")
    for _ in range(20):
        page.press("Tab")
        if page.evaluate(f"{SLIDERS}[0].matches(':focus')"):
            break
    assert page.evaluate(f"{SLIDERS}[0].matches(':focus')"), "Tab does not reach the slider"
    page.press("ArrowRight")
    page.wait_for(f"{SLIDERS}[0].getAttribute('aria-valuenow') !== '{value}'")
    page.wait_for(f"({PICTURES}).join() !== window.before", seconds=PATIENCE)
    nothing_is_wrong(page, name)

    # 200 % zoom of a window of 1280: half as many, twice as large pixels. Code may scroll in its box, the page not.
    for scheme in ("light", "dark"):
        page.look(640, scale=2, scheme=scheme)
        page.wait_for(f"document.body.classList.contains('{scheme}')")
        wide = page.evaluate("""[document.documentElement, document.getElementById('App')].map(
            element => element.scrollWidth - element.clientWidth)""")
        assert max(wide) <= 0, f"{max(wide)} pixels to the right of a window of 640"
        assert contrast(page) >= 4.5
        keep(f"{name}-{scheme}.png", page.picture())
    nothing_is_wrong(page, name)


def contrast(page):
    """The contrast of text and page, of WCAG 2: 4.5 or more is readable."""
    colours = page.evaluate("""(() => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const rgb = colour => {
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const style = getComputedStyle(document.querySelector('.markdown .paragraph'));
        return [style.color, getComputedStyle(document.getElementById('App')).backgroundColor].map(rgb);
    })()""")
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_panels_stand_below_each_other_on_a_phone(page, address, keep):
    page.look(390, height=844)
    page.open(f"{address}/{LESSONS[1].name}/")
    wait_for_lesson(page, LESSONS[1].name, seconds=PATIENCE)
    # Letters have 10 points at 150 dots per inch of the bitmap.
    least = page.evaluate("Math.min(...[...document.querySelectorAll('img')].map(i => i.width / i.naturalWidth))")
    assert least * 150 * 10 / 72 >= 9
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    keep("phone.png", page.picture())


@pytest.mark.parametrize(
    "path",
    ["", "/residual_block_is_euler_step/", "/%2e%2e/etc/passwd", "/wrong-token/", "/a%00b", "/" + 5000 * "a"],
)
def test_without_the_token_there_is_nothing(address, path):
    import http.client

    host = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(host.hostname, host.port, timeout=PATIENCE)) as connection:
        connection.request("GET", path or "/")
        assert connection.getresponse().status == 404


def test_websocket_of_another_origin_is_refused(address):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    url = f"{address.replace('http', 'ws', 1)}/{LESSONS[0].name}/ws?session_id=s_stranger&file=x"
    with pytest.raises(InvalidStatus), connect(url, origin="http://evil.com"):
        pass


def test_no_page_of_elsewhere_gets_in(address):
    import http.client

    host = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(host.hostname, host.port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/", headers={"Host": "elsewhere.example"})
        assert connection.getresponse().status == 400


@pytest.mark.slow
def test_a_lesson_prints_to_pdf(page, address, tmp_path):
    # As --handout prints it.
    page.look(718)
    page.open(f"{address}/{LESSONS[1].name}/")
    wait_for_lesson(page, LESSONS[1].name, seconds=PATIENCE)
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    # Two pictures of 1350 pixels, and more than one page: nothing was cut off below the first.
    assert pdf.count(b"/Subtype /Image") >= 2 and pdf.count(b"/Type /Page\n") >= 2


def test_gallery_of_figures_opens_from_disk(page, keep, tmp_path):
    from matplotlib.figure import Figure

    from figures import gallery
    from figures._registry import FIGURES

    name = next(iter(FIGURES))
    Figure().savefig(tmp_path / f"{name}.png")
    page.look(640, scale=2)
    page.open(gallery.write(tmp_path).as_uri())
    page.wait_for("document.readyState === 'complete'")
    assert page.evaluate("[...document.images].filter(image => image.naturalWidth > 0 && image.alt).length") >= 1
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert {urlsplit(url).scheme for url in page.requests} <= {"file", "data"}
    assert page.complaints == []
    keep("gallery.png", page.picture())
