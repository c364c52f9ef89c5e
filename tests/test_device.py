"""Devices, precision, memory, folders; and that tests ask nothing of the network."""

import contextlib
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ganlib._runtime import device as runtime
from helpers import ROOT

CPU = torch.device("cpu")


def test_an_unknown_or_absent_device_gets_a_sentence():
    assert runtime.device("cpu") == CPU
    for name in ("gpu", "cuda:99", "meta"):
        with pytest.raises(ValueError, match=f"no device '{name}' here.*cpu"):
            runtime.device(name)


@pytest.mark.parametrize(
    ("fast", "parameters", "asked", "wanted"),
    [
        (True, 1_000_000, "auto", torch.bfloat16),
        (True, 999_999, "auto", torch.float32),
        (False, 10_000_000, "auto", torch.float32),
        (True, 10_000_000, "fp32", torch.float32),
        (False, 1, "bf16", torch.bfloat16),
    ],
)
def test_bf16_only_for_big_networks_on_hardware_that_has_it(monkeypatch, fast, parameters, asked, wanted):
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda _: fast)
    assert runtime.choose_precision(CPU, parameters, asked) == wanted
    with runtime.autocast(CPU, wanted):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == wanted
    with pytest.raises(ValueError, match="'half'.*'bf16'"):
        runtime.choose_precision(CPU, 1, "half")


@pytest.mark.parametrize("has_amx", [True, False])
def test_fast_bf16_on_a_cpu_is_amx(monkeypatch, has_amx):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_amx}, raising=False)
    assert runtime.has_fast_bf16(CPU) is has_amx
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    assert runtime.has_fast_bf16(CPU) is has_amx


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have rules of their own")
def test_memory_is_kept_in_the_block_and_given_back_behind_it():
    # In a process of its own: in one that has run for long the heap may have no room to grow, and nothing is kept.
    program = """
import contextlib, os, torch
from ganlib._runtime.device import kept_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

size, before = 300 * 2**20, resident()
for inside in (True, False):
    with kept_memory() if inside else contextlib.nullcontext():
        big = torch.ones(size // 4)
        assert resident() - before > 0.9 * size
        del big
        assert (resident() - before > 0.9 * size) == inside
    assert resident() - before < 0.1 * size
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_eval_mode_gives_every_layer_its_own_mode_back_even_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).train()
    model[0].eval()
    with pytest.raises(RuntimeError), runtime.eval_mode(model):
        assert not model.training and not model[1].training and not torch.is_grad_enabled()
        raise RuntimeError
    assert torch.is_grad_enabled()
    assert model.training and model[1].training and not model[0].training


def test_a_run_and_a_file_take_the_first_free_name(tmp_path):
    def made():
        return runtime.new_run_folder(tmp_path / "runs" / "demo-0.5")

    (made() / "samples.png").write_text("mine")
    assert made() == made() == tmp_path / "runs" / "demo-0.5-2"  # still empty: nothing to lose
    (made() / "x").touch()
    assert made().name == "demo-0.5-3" and (tmp_path / "runs/demo-0.5/samples.png").read_text() == "mine"
    assert runtime.new_file(tmp_path / "new" / "a.gif") == tmp_path / "new" / "a.gif"
    assert (tmp_path / "new").is_dir() and not any((tmp_path / "new").iterdir())
    for name in ("a.gif", "a-2.png"):
        (tmp_path / name).touch()
    assert runtime.new_file(tmp_path / "a.gif") == tmp_path / "a-2.gif"
    assert runtime.new_file(tmp_path / "a.gif", ".png") == tmp_path / "a-3.gif"


def test_where_nothing_can_be_written_there_is_a_sentence_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for make in (runtime.new_run_folder, runtime.new_file):
        with pytest.raises(OSError, match="'.*file.*choose another"):
            make(tmp_path / "file" / "demo")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere, so a mode alone proves nothing
    with pytest.raises(PermissionError, match="demo.*choose another"):
        runtime.new_run_folder(tmp_path / "demo")


def test_a_kill_while_a_folder_is_probed_leaves_nothing_in_it(tmp_path, monkeypatch):
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except (AttributeError, OSError):
        pytest.skip("this file system knows no files without a name")

    def killed(*_, **__):
        raise SystemExit

    monkeypatch.setattr(os, "unlink", killed)  # at which a file with a name would still be there
    with contextlib.suppress(SystemExit):
        runtime.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_data_roots_and_the_cache_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("GANLIB_DATA", os.path.join("..", "elsewhere"))
    home = [Path.home() / ".cache" / "ganlib"]
    assert runtime.data_roots(tmp_path) == [tmp_path, ROOT / ".." / "elsewhere", ROOT / "data", *home]
    monkeypatch.delenv("GANLIB_DATA")
    assert runtime.data_roots() == [ROOT / "data", *home]
    monkeypatch.setenv("GANLIB_CACHE", "~/mine")
    assert runtime.cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("GANLIB_CACHE")
    assert runtime.cache_dir() == ROOT / "data" / "prepared"
    monkeypatch.setattr(runtime, "project_root", lambda: None)
    assert runtime.data_roots() == home and runtime.cache_dir() == home[0] / "prepared"


def test_tests_run_offline():
    far = ("192.0.2.1", 80)  # an address for documentation: nothing answers there, and nothing may be asked
    for ask in (socket.create_connection, socket.socket().connect_ex, lambda _: socket.getaddrinfo("example.org", 80)):
        with pytest.raises(OSError, match="offline"):
            ask(far)
