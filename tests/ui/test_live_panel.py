"""The live panel while its cell trains: what the reader presses arrives at once, and nothing of it stays."""

import json
import re
import subprocess
import sys

import nbformat
from lab import write_notebook
from playwright.sync_api import expect

# `note` is a watcher: it writes down which learning rates training sees in each step.
PLAYERS = """
import json, time
import torch
from ganlib import GAN, fit, load, models, viz
from ganlib.steps import dcgan_step

images = load("fake", image_size=28, channels=1, n=300)

def players():
    generator = models.dcgan_generator(28, 1, 8, 16, seed=0)
    discriminator = models.dcgan_discriminator(28, 1, 8, seed=1)
    optimisers = [torch.optim.Adam(net.parameters(), 2e-4) for net in (generator, discriminator)]
    return GAN(generator, discriminator, *optimisers, z_dim=16, device="cpu")

def tell(**facts):
    with open("NAME.jsonl", "a") as file:
        print(json.dumps({"time": time.time(), **facts}), file=file, flush=True)

def note(history):
    tell(steps=gan.steps_done, rates=[opt.param_groups[0]["lr"] for opt in (gan.g_opt, gan.d_opt)])

gan = players()
"""
FIT = "history = fit(gan, dcgan_step, images, LIMIT, watchers=[viz.panel(gan, dcgan_step), note])\n"
FIT += "tell(end=True, steps=history.steps, losses=len(history.losses['g_loss']), stopped=history.stopped)"
LONG, SHORT = FIT.replace("LIMIT", "steps=1_000_000"), FIT.replace("LIMIT", "steps=60")
THEN = "tell(cell={0}, of=gan.steps_done)"


def slider(book, name):
    whole = book.page.locator(".widget-slider", has_text=name)
    return whole.locator(".noUi-handle, .ui-slider-handle")  # ipywidgets 8, 7


def button(book, name):
    return book.page.locator(".jupyter-button", has_text=re.compile(f"^{name}$"))


def press(book, name):
    """Press a button of the panel; gives when."""
    button(book, name).click()
    return book.pressed()


def started(book):
    """Wait until the panel is shown and training has made some steps."""
    book.until(lambda: steps(book) > 3, 60)
    expect(slider(book, "G's learning rate")).to_be_visible()


def steps(book):
    return max((fact["steps"] for fact in book.facts() if "rates" in fact), default=0)


def ended(book):
    return next((fact for fact in book.facts() if "end" in fact), None)


def move(book, name, key, which):
    """Press a key on a slider and wait until training has its new rate; gives the seconds between."""
    before = book.facts()[-1]["rates"][which]
    slider(book, name).press(key)
    at = book.pressed()

    def arrived():
        return next((f for f in book.facts() if "rates" in f and f["time"] > at and f["rates"][which] != before), None)

    book.until(arrived)
    assert book.state(1) == "[*]:" and not ended(book)  # not after the cell
    return arrived()["time"] - at


def test_a_moved_slider_reaches_the_optimiser_while_the_cell_runs(notebook, measured):
    book = notebook(PLAYERS, LONG)
    book.run_all()
    started(book)
    for which, name in enumerate(("G's learning rate", "D's learning rate")):
        waits = [move(book, name, key, which) for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowRight")]
        measured(f"{name}, milliseconds until the optimiser has it", [round(1000 * wait) for wait in waits])
    g_rate, d_rate = book.facts()[-1]["rates"]
    assert g_rate > 2e-4 and d_rate > 2e-4
    press(book, "stop")
    book.wait(1)


def test_stop_ends_the_cell_and_the_queue_and_keeps_the_history(notebook, measured):
    book = notebook(PLAYERS, LONG, THEN.format(2), THEN.format(3))
    book.run_all()
    started(book)
    at = press(book, "stop")
    book.wait(1)
    end = ended(book)
    measured("stop, milliseconds until fit has returned", round(1000 * (end["time"] - at)))
    assert end["steps"] == end["losses"] > 3 and "interrupted" in end["stopped"]
    book.idle()
    assert not [fact for fact in book.facts() if "cell" in fact] and book.state(2) == "[ ]:" == book.state(3)
    book.run(2)  # the history and the players are usable
    book.wait(2)
    assert book.facts()[-1]["of"] == end["steps"]


def test_pause_one_step_and_go_on(notebook):
    book = notebook(PLAYERS, LONG)
    book.run_all()
    started(book)
    press(book, "pause")
    expect(button(book, "go on")).to_be_visible()
    book.until(book.still)
    held = steps(book)
    for one_more in (held + 1, held + 2):
        press(book, "one step")
        book.until(lambda: steps(book) >= one_more)  # noqa: B023
        assert book.still() and steps(book) == one_more
    press(book, "go on")
    book.until(lambda: steps(book) > held + 10)
    press(book, "pause")
    expect(button(book, "go on")).to_be_visible()
    press(book, "stop")  # while it is paused
    book.wait(1)
    assert ended(book)["steps"] == ended(book)["losses"]


def test_queued_cells_keep_their_turn_while_controls_are_used(notebook):
    training = FIT.replace("LIMIT", "seconds=8")
    book = notebook(PLAYERS, training, *(THEN.format(n) for n in (2, 3, 4)))
    book.run_all()
    started(book)
    for key in ("ArrowRight", "ArrowLeft") * 4:
        move(book, "G's learning rate", key, 0)
    book.wait(4)
    order = [fact.get("cell", "fit") for fact in book.facts() if "cell" in fact or "end" in fact]
    assert order == ["fit", 2, 3, 4] and [book.state(n) for n in range(5)] == [f"[{n}]:" for n in range(1, 6)]
    assert "time limit" in ended(book)["stopped"]  # it was not cut short


def residue(book):
    """What a saved notebook has of widgets: it should be nothing."""
    kinds = {kind for cell in book.cells for output in cell.outputs for kind in output.get("data", {})}
    return {kind for kind in kinds if "widget" in kind} | (
        {"metadata.widgets"} & {f"metadata.{k}" for k in book.metadata}
    )


def pictures(book, cell=1):
    """The alt texts of a cell's pictures."""
    shown = [output.data.get("text/html", "") for output in book.cells[cell].outputs if "data" in output]
    return re.findall(r'<img[^>]*alt="([^"]+)"', "".join("".join(html) for html in shown))


def test_the_saved_notebook_has_pictures_and_no_widgets(notebook):
    book = notebook(PLAYERS, LONG)
    book.run_all()
    started(book)
    move(book, "G's learning rate", "ArrowRight", 0)
    press(book, "stop")
    book.wait(1)
    rate = f"{book.facts()[-2]['rates'][0]:.2g}"
    saved = book.save()
    assert not residue(saved) and pictures(saved)
    assert "G's learning rate" in json.dumps(saved) and rate in json.dumps(saved.cells[1])
    book.page.reload()
    book.ready()
    expect(book.cell(1).locator("img").first).to_be_visible()
    assert rate in book.cell(1).inner_text()


def test_without_a_reader_it_is_silent(lab):
    path = write_notebook(lab, "headless", [PLAYERS, SHORT])
    words = ["nbconvert", "--to", "notebook", "--execute", "--inplace", str(path)]
    ran = subprocess.run([sys.executable, "-m", *words], env=lab.env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    saved = nbformat.read(path, as_version=4)
    assert not residue(saved)
    assert not [output for cell in saved.cells for output in cell.outputs if output.get("name") == "stderr"]
