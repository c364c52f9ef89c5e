"""What ganlib does with a notebook's kernel, in a real one, spoken to as a front end would."""

import os
import queue

import pytest

from helpers import ROOT

manager = pytest.importorskip("jupyter_client.manager")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kernel():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running, client = manager.start_new_kernel(env=environment)
    running.ask = lambda code, **how: ask(client, code, **how)
    running.client_ = client
    assert running.ask(
        """
import torch
from ganlib import GAN, fit, progress
from ganlib._runtime import notebook
from ganlib.data.images import ImageSet
from ganlib.models import dcgan_discriminator, dcgan_generator
from ganlib.steps import dcgan_step

def players():
    g, d = dcgan_generator(28, 1, 4, 8), dcgan_discriminator(28, 1, 4)
    return GAN(g, d, *(torch.optim.Adam(net.parameters(), 2e-3) for net in (g, d)), z_dim=8, device="cpu")

images = ImageSet(torch.randint(256, (80, 1, 28, 28), dtype=torch.uint8), None, (), "noise", "noise")
"""
    ) == ("ok", "")
    yield running
    client.stop_channels()
    running.shutdown_kernel(now=True)


def ask(client, code, allow_stdin=True):
    """Run a cell: its status and what it printed."""
    printed = []

    def hear(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, allow_stdin=allow_stdin, output_hook=hear, timeout=60)
    return reply["content"]["status"], "".join(printed)


def test_it_is_known_whether_someone_is_there(kernel):
    assert kernel.ask("print(notebook.someone_there())") == ("ok", "True\n")
    assert kernel.ask("print(notebook.someone_there())", allow_stdin=False) == ("ok", "False\n")  # as nbconvert asks


@pytest.mark.parametrize(
    "training",
    [
        "history = fit(players(), dcgan_step, images, steps=10**6)",
        "for done in progress(range(10**9)): time.sleep(0.01)",
    ],
)
def test_stop_ends_the_training_and_the_queue_but_not_its_own_cell(kernel, training):
    client = kernel.client_
    client.allow_stdin = True
    cells = f"import time; began = time.time()\n{training}\nafter = time.time()", "never = True", "never = True"
    while client.iopub_channel.msg_ready():
        client.get_iopub_msg()
    asked = [client.execute(cell) for cell in cells]
    while client.get_iopub_msg(timeout=60)["msg_type"] != "display_data":  # the bar, or the picture
        pass
    kernel.interrupt_kernel()
    status = {}
    while len(status) < 3:
        try:
            reply = client.get_shell_msg(timeout=60)
        except queue.Empty:
            break
        if (parent := reply["parent_header"].get("msg_id")) in asked:
            status[parent] = reply["content"]["status"]
    assert [status.get(cell) for cell in asked] == ["error", "aborted", "aborted"]
    assert kernel.ask("print('never' in globals(), after > began)") == ("ok", "False True\n")
    if "fit" in training:
        assert kernel.ask("history.total = history.steps + 2\nprint(history.go_on().stopped)")[1].endswith("None\n")
    assert kernel.ask("raise ValueError")[0] == "error" and kernel.ask("print('well')") == ("ok", "well\n")
