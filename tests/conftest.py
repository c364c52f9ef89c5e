"""What every test gets: one thread, a cache of its own, no network, and none of the user's settings."""

import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")  # figures are drawn to files; a machine without a screen must do

import pytest
import torch

from ganlib import models, steps, train
from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib.data import loading as data
from ganlib.data import sets
from ganlib.metrics import Numbers
from ganlib.runs import Run, cli

torch.set_num_threads(1)  # tests share the cores; two threads each would stop one another

CLOSED = "http://127.0.0.1:9/"  # nothing listens there: refused at once

PROXIES = [name for low in ("http_proxy", "https_proxy", "all_proxy") for name in (low, low.upper())]


def _is_local(host) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host)
    return host is None or name in ("", "localhost", "::1", "0.0.0.0", "::") or name.startswith("127.")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    """One prepared-data cache for the whole test session, empty at its start."""
    return tmp_path_factory.mktemp("ganlib-cache")


@pytest.fixture(autouse=True)
def isolated(monkeypatch, session_cache):
    """The same test on every machine: no data of the user's, no profile, no network where there is one."""
    monkeypatch.setenv("GANLIB_CACHE", str(session_cache))
    for name in ("GANLIB_DATA", "GANLIB_PROFILE", "GANLIB_DOWNLOAD", *PROXIES):
        monkeypatch.delenv(name, raising=False)

    # The same device everywhere, too: bit for bit equality is promised on the CPU only.
    find = runtime.device
    monkeypatch.setattr(runtime, "device", lambda name=None: find(name or "cpu"))

    def only_local(ask, host):
        def asked(*args, **kwargs):
            if not _is_local(host(*args)):
                raise OSError("tests run offline")
            return ask(*args, **kwargs)

        return asked

    def host_of(_, address):  # Unix sockets have a path for an address; internet addresses begin with the host
        return address[0] if isinstance(address, tuple) else None

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, only_local(getattr(socket.socket, name), host_of))
    monkeypatch.setattr(socket, "getaddrinfo", only_local(socket.getaddrinfo, lambda host, *_: host))


def closed(files):
    """The downloads of a dataset from a server that is not there."""
    return lambda split: [(name, CLOSED + name, md5) for name, _, md5 in files(split)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The only data root: empty. The cache is empty as well, and there are no mirrors and no system folders."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(runtime, "data_roots", lambda extra=None: [Path(extra), root] if extra else [root])
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_refused", set())
    monkeypatch.setattr(sets, "STAND_IN_COUNT", 200)
    monkeypatch.setattr(sets, "SYSTEM", tmp_path / "system")
    for name, dataset in sets.SETS.items():
        monkeypatch.setitem(sets.SETS, name, replace(dataset, files=dataset.files and closed(dataset.files)))
    return root


@pytest.fixture
def quickly(monkeypatch):
    """No test is run through a power cut, so none waits for the disk."""
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)


RUN_IMAGES = {"image_size": 28, "channels": 1, "n": 300}  # generated shapes: they need neither files nor a network


def small_run(out, images, seed=0, lr=0.05, **changed):
    """A real run of a few milliseconds: six steps, three snapshots, two scores, two checkpoints."""
    size = (images.image_size, images.channels)
    networks = models.dcgan_generator(*size, 2, 4, seed=seed), models.dcgan_discriminator(*size, 2, seed=seed + 1)
    optimisers = [torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.999)) for network in networks]
    scores = iter((9.0, 12.5))
    gan = steps.GAN(*networks, *optimisers, 4, seed, device="cpu")
    arguments = {"steps": 6, "batch_size": 8, "watchers": (), "snapshot_every": 3, "score_every": {3, 6}}
    arguments["score"] = lambda generator: Numbers({"fd": next(scores), "sure": 0.5}, ("fd", "lowest"))
    run = Run(out, checkpoint_every=3)
    train.fit(gan, steps.dcgan_step, images, run=run, **arguments | changed)
    return out


def trained_by_command(folder, *words):
    """The same of ``ganlib train`` with these words, in one step."""
    how = ["--steps=1", "--batch-size=4", "--z-dim=4", "--g-width=2", "--d-width=2", "--score-every=0", "--out"]
    assert cli.main(["train", *how, str(folder), *map(str, words)]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run, to be read only."""
    return small_run(tmp_path_factory.mktemp("runs") / "shapes", data.load("fake", **RUN_IMAGES))


@pytest.fixture
def run(trained, tmp_path):
    """The folder of a run, to do with as one likes."""
    return shutil.copytree(trained, tmp_path / "run")
