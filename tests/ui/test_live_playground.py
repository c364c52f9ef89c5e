"""The playground of notebook 00: its clock ticks in the browser, and the game answers."""

import re

from playwright.sync_api import expect

CELL = """
import torch
from ganlib import GAN, viz
from ganlib.data import toys
from ganlib.models import mlp_discriminator, mlp_generator
from ganlib.steps import dcgan_step

def make_gan(seed):
    generator, discriminator = mlp_generator(width=8, seed=seed), mlp_discriminator(width=8, seed=seed + 1)
    optimisers = [torch.optim.Adam(net.parameters(), 1e-3) for net in (generator, discriminator)]
    return GAN(generator, discriminator, *optimisers, z_dim=2)

def step(gan, batches, g_loss_of, n_d):
    return dcgan_step(gan, batches)

viz.playground(make_gan, step, {"ring": toys.ring, "moons": toys.two_moons})
"""


FRAMES = """() => new Promise(done => {
    let frames = 0;
    new MutationObserver(seen => { frames += seen.length }).observe(
        document.querySelector(".jp-OutputArea img"), { attributes: true, attributeFilter: ["src"] });
    setTimeout(() => done(frames / 5), 5000);
})"""


def test_the_playground_makes_one_step_and_plays(notebook, measured):
    book = notebook(CELL)
    book.run_all()
    note = book.cell(0).locator(".widget-html-content", has_text="step")
    expect(note).to_have_text("step 0", timeout=60_000)
    book.page.get_by_role("button", name="one step").click()
    expect(note).to_have_text(re.compile(r"^step 1\b"))
    play = book.cell(0).locator(".jupyter-widget-play button, .widget-play button, .widget-play a").first
    play.click()
    expect(note).to_have_text(re.compile(r"step \d{3,}"), timeout=30_000)
    frames = book.page.evaluate(FRAMES)
    assert frames > 0
    measured("the playground's frames a second", f"{frames:.1f}")
