"""What every test gets: two threads, a cache of its own, no network, and none of the user's settings."""

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
from ganlib.data import download as downloads
from ganlib.data import loading as data
from ganlib.data import sets

torch.set_num_threads(2)

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

    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse_far(address):
        # Unix sockets have a path for an address; internet addresses are tuples that begin with the host.
        if isinstance(address, tuple) and not _is_local(address[0]):
            raise OSError("tests run offline")

    def local_connect(self, address):
        refuse_far(address)
        return connect(self, address)

    def local_connect_ex(self, address):
        refuse_far(address)
        return connect_ex(self, address)

    def local_resolve(host, *args, **kwargs):
        refuse_far((host,))
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", local_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", local_resolve)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The only data root: empty. The cache is empty as well, and there are no mirrors and no system folders."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(runtime, "data_roots", lambda extra=None: [Path(extra), root] if extra else [root])
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_refused", set())
    monkeypatch.setattr(sets, "STAND_IN_COUNT", 200)
    monkeypatch.setattr(downloads, "DRIVE", CLOSED)
    for name, recipe in sets.SETS.items():
        if hasattr(recipe, "url"):
            monkeypatch.setitem(sets.SETS, name, replace(recipe, system=(), url=CLOSED))
    return root


@pytest.fixture
def quickly(monkeypatch):
    """No test is run through a power cut, so none waits for the disk; and for tiny networks one thread is fastest."""
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


RUN_IMAGES = {"image_size": 28, "channels": 1, "n": 300}  # generated shapes: they need neither files nor a network


FEW = 2000  # a tenth of them in each class


def small_run(out, images, seed=0, lr=0.05, **changed):
    """A real run of a few milliseconds: six steps, three snapshots, two scores, two checkpoints."""
    size = (images.image_size, images.channels)
    networks = models.dcgan_generator(*size, 2, 4, seed=seed), models.dcgan_discriminator(*size, 2, seed=seed + 1)
    optimisers = [torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.999)) for network in networks]
    scores = iter((9.0, 12.5))
    arguments = {
        **{"steps": 6, "batch_size": 8, "device": "cpu", "checkpoint_every": 3, "seed": seed, "progress": False},
        **{"snapshot_at": [0, 3, 6], "score": lambda generator: {"fd": next(scores), "sure": 0.5}, "score_at": [3, 6]},
    }
    train.fit(steps.GAN(*networks, *optimisers, 4), steps.dcgan_step, images, out=out, **arguments | changed)
    return out


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run, to be read only."""
    return small_run(tmp_path_factory.mktemp("runs") / "shapes", data.load("fake", **RUN_IMAGES))


@pytest.fixture
def run(trained, tmp_path):
    """The folder of a run, to do with as one likes."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="session")
def by_class(tmp_path_factory):
    """The folder of a run with one generator a class, to be read only."""
    folder, images = tmp_path_factory.mktemp("runs") / "classes", data.load("fake", **RUN_IMAGES | {"n": FEW})
    for seed, name in enumerate(images.classes[:3]):
        small_run(folder / name, images.of_class(name), seed)
    (folder / "classes.json").write_text("{}")
    return folder
