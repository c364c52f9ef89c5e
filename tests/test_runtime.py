"""Devices, precision, folders."""

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ganlib._runtime import device as runtime
from helpers import ROOT


def test_an_unknown_or_absent_device_gets_a_sentence():
    assert runtime.device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="no device 'gpu' here; this machine has: .*cpu"):
        runtime.device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no device 'cuda:1' here"):
            runtime.device("cuda:1")


def test_bf16_only_for_big_networks_on_hardware_that_has_it(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda _: True)
    assert runtime.choose_precision(cpu, 10_000_000) == torch.bfloat16
    assert runtime.choose_precision(cpu, 100_000) == torch.float32
    assert runtime.choose_precision(cpu, 10_000_000, "fp32") == torch.float32
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda _: False)
    assert runtime.choose_precision(cpu, 10_000_000) == torch.float32
    assert runtime.choose_precision(cpu, 100_000, "bf16") == torch.bfloat16
    with pytest.raises(ValueError, match="precision is 'half'"):
        runtime.choose_precision(cpu, 1, "half")


def test_fast_bf16_on_a_cpu_is_amx(monkeypatch):
    cpu = torch.device("cpu")
    for has_amx in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has_amx: {"amx_bf16": has}, raising=False)
        assert runtime.has_fast_bf16(cpu) is has_amx
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert runtime.has_fast_bf16(cpu) is True


def test_seeding_a_step_draws_the_same_numbers_and_leaves_nothing_behind():
    def queued():  # what waits for a GPU to be there, each with the stack of who asked for it
        return len(getattr(torch.cuda, "_queued_calls", ()))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        wanted, before = torch.rand(3), queued()
        runtime.seed_all(7, torch.device("cpu"))
        assert torch.equal(torch.rand(3), wanted)
        assert queued() == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have rules of their own")
def test_memory_is_kept_in_the_block_and_given_back_behind_it():
    # In a process of its own: in one that has run for long the heap may have no room to grow, and nothing is kept.
    program = """
import contextlib, os, torch
from ganlib import runtime

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

size, before = 300 * 2**20, resident()
for inside in (True, False):
    with runtime.kept_memory() if inside else contextlib.nullcontext():
        big = torch.ones(size // 4)
        assert resident() - before > 0.9 * size
        del big
        assert (resident() - before > 0.9 * size) == inside
    assert resident() - before < 0.1 * size
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_eval_mode_restores_the_mode_even_after_an_error():
    model = nn.BatchNorm1d(2).train()
    with pytest.raises(RuntimeError), runtime.eval_mode(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        raise RuntimeError
    assert model.training
    assert torch.is_grad_enabled()


def test_eval_mode_leaves_what_was_in_eval_mode_there():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).train()
    model[0].eval()
    with runtime.eval_mode(model):
        assert not model[1].training
    assert model.training and model[1].training and not model[0].training


def test_a_second_run_gets_a_folder_of_its_own(tmp_path):
    first = runtime.new_run_folder(tmp_path / "runs" / "demo")
    (first / "samples.png").write_text("mine")
    assert runtime.new_run_folder(tmp_path / "runs" / "demo").name == "demo-2"
    assert runtime.new_run_folder(tmp_path / "runs" / "demo").name == "demo-2"  # still empty: nothing to lose
    (tmp_path / "runs" / "demo-2" / "x").write_text("")
    assert runtime.new_run_folder(tmp_path / "runs" / "demo").name == "demo-3"
    assert (first / "samples.png").read_text() == "mine"


def test_no_permission_to_write_gets_a_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere, so a mode alone proves nothing
    with pytest.raises(PermissionError, match="Cannot write in .*Permission denied.*choose another output folder"):
        runtime.new_run_folder(tmp_path / "demo")


def test_a_kill_while_a_folder_is_probed_leaves_nothing_in_it(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(os, "unlink", killed)  # at which a file with a name would still be there
    with contextlib.suppress(Killed):
        runtime.check_writable(tmp_path)
    try:
        unnamed = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    except (AttributeError, OSError):
        pytest.skip("this file system knows no files without a name")
    os.close(unnamed)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_gets_a_sentence(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(NotADirectoryError, match="Cannot write in .*[Nn]ot a directory.*choose another"):
        runtime.new_run_folder(tmp_path / "runs" / "demo")


def test_data_roots_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("GANLIB_DATA", os.path.join("..", "elsewhere"))
    roots = runtime.data_roots(tmp_path)
    assert roots[0] == tmp_path
    assert roots[1] == runtime.project_root() / ".." / "elsewhere"
    assert roots[2] == runtime.project_root() / "data"


def test_generators_do_not_touch_the_global_one():
    before = torch.random.get_rng_state()
    a, b = (torch.randn(3, generator=runtime.rng(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_seed_of_too_many_bits_gets_a_sentence():
    assert runtime.rng(-(2**63)) and runtime.rng(2**64 - 1)
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match="is no number of 64 bits; take a smaller one"):
            runtime.rng(seed)


def test_a_new_file_takes_the_first_free_name(tmp_path):
    assert runtime.new_file(tmp_path / "new" / "a.gif") == tmp_path / "new" / "a.gif"
    assert (tmp_path / "new").is_dir() and not any((tmp_path / "new").iterdir())
    for name in ("a.gif", "a-2.png"):
        (tmp_path / name).touch()
    assert runtime.new_file(tmp_path / "a.gif") == tmp_path / "a-2.gif"
    assert runtime.new_file(tmp_path / "a.gif", ".png") == tmp_path / "a-3.gif"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Cannot write in '.*file'"):
        runtime.new_file(tmp_path / "file" / "a.gif")
