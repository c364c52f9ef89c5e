"""The book as a reader has it: opened from its folder, in Chromium, with nothing else to reach (`make test-site`)."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
PAGES = ["index", "glossary", *(f"notebooks/{chapter}" for chapter in CHAPTERS)]


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """A folder with the book, built without a warning and moved to another place."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "doctrees", "-b", "html"]
    subprocess.run([*build, ROOT / "site", folder / "built"], check=True)
    return (folder / "built").rename(folder / "a book")


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(book, chromium):
    """``opened(page, width, ...)`` is a page of the book in a window; nothing may go wrong or leave the folder."""
    wrong = []

    def open_page(name, width=1200, asked=None, **options):
        page = chromium.new_page(viewport={"width": width, "height": 800}, **options)
        if asked is not None:
            page.on("request", lambda request: asked.add(request.url))
        page.on("request", lambda request: None if own(request.url) else wrong.append(f"asked for {request.url}"))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((book / f"{name}.html").as_uri())
        page.wait_for_load_state("networkidle")
        return page

    def own(url):
        return url.startswith(("data:", "blob:")) or url.startswith(book.as_uri())

    yield open_page
    assert not wrong


def test_it_is_small(book):
    files = [path for path in book.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert {f"{page}.html" for page in PAGES} <= {str(path.relative_to(book)) for path in files}
    for chapter in CHAPTERS:  # to download: the notebook as it is in the repository
        mine = book / "notebooks" / f"{chapter}.ipynb"
        assert mine.read_bytes() == (ROOT / "notebooks" / mine.name).read_bytes()


def test_the_first_page_weighs_little_and_leads_to_all_chapters(opened):
    asked = set()
    page = opened("index", asked=asked)
    sizes = [Path(unquote(urlsplit(url).path)).stat().st_size for url in asked if url.startswith("file:")]
    assert 0.5e6 < sum(sizes) < 1.5e6  # with the moving strip
    links = page.eval_on_selector_all(".sidebar-tree a", "all => all.map(link => link.getAttribute('href'))")
    assert [f"notebooks/{chapter}.html" for chapter in CHAPTERS] == [link for link in links if "notebooks" in link]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_everywhere(opened, book, name):
    page = opened(name)
    pictures = page.eval_on_selector_all("img", "all => all.map(image => [image.alt, image.naturalWidth])")
    assert all(len(alt) > 11 and width for alt, width in pictures)
    if name.startswith("notebooks"):
        assert len(pictures) > 8 and page.locator("mjx-container").count() > 3
        assert not page.locator("mjx-merror").count() and page.locator("article details").count() >= 3
        colab, download = (page.locator(f"article a:text-matches('{text}')").first for text in ("Colab", "^download"))
        assert re.search(rf"github/[^/]+/[^/]+/blob/main/{name}.ipynb$", colab.get_attribute("href"))
        assert download.get_attribute("href") == f"{Path(name).name}.ipynb" and (book / f"{name}.ipynb").is_file()
    for width, zoom in ((360, 1), (1200, 2)):  # at 200% a window of 1,200 pixels shows 600
        narrow = opened(name, width // zoom, device_scale_factor=zoom)
        assert narrow.evaluate("document.documentElement.scrollWidth") <= width // zoom


def test_films_move(opened):
    moving = opened("notebooks/00_gan_in_2d").locator("img[src^='data:image/webp']")
    assert moving.count() >= 2
    first = moving.first
    first.scroll_into_view_if_needed()
    seen = {first.screenshot() for _ in range(8) if first.page.wait_for_timeout(300) is None}
    assert len(seen) > 2


def test_the_search_finds_what_is_in_a_chapter(opened):
    page = opened("index")
    page.locator("input[name=q]").first.fill("saturating")
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li a")
    found = page.eval_on_selector_all("ul.search li a", "all => all.map(link => link.textContent)")
    assert any(text.startswith("00") for text in found)


def test_light_and_dark_and_keys(opened):
    grounds = set()
    for scheme in ("light", "dark"):
        page = opened("notebooks/01_dcgan_mnist", color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    stops = []
    for _ in range(12):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name"))
    assert any("Skip to content" in stop for stop in stops) and "q" in stops
    answer = page.locator("article details summary").first
    answer.focus()
    page.keyboard.press("Enter")
    assert answer.evaluate("summary => summary.parentElement.open")


def test_the_map_answers_a_drag_without_a_kernel(opened):
    page = opened("notebooks/01_dcgan_mnist")
    sheet = page.locator("img[style*=crosshair]")
    sheet.scroll_into_view_if_needed()
    box, seen = sheet.bounding_box(), set()
    for x, y in ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        seen.add(sheet.evaluate("image => image.nextElementSibling.dataset.tile"))
    assert seen == {"2, 2", "2, 18", "18, 10"}


def test_no_page_of_a_notebook_has_lost_a_picture(book):
    for chapter in CHAPTERS:
        cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text())["cells"]
        pages = ["".join(out.get("data", {}).get("text/html", "")) for cell in cells for out in cell.get("outputs", ())]
        shown = sum("<img" in page for page in pages)
        assert (book / "notebooks" / f"{chapter}.html").read_text().count("<img") >= shown
