"""Training in two processes: the same players in both, the gradients of the whole batch, and going on exactly."""

import multiprocessing
import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_games import tiny
from test_resuming import alike
from test_running import TINY, made, result, resume  # noqa: F401 - a fixture

from ganlib.data.loading import load
from ganlib.runs import build as games
from ganlib.runs import checkpoint, cli, parallel
from ganlib.steps import GAN, rpgan_step
from ganlib.train import fit

pytestmark = [pytest.mark.usefixtures("quickly"), pytest.mark.slow]


def plain_gan():
    """Players without BatchNorm, to whom it is all one whether a batch comes in one piece or in two."""
    torch.manual_seed(0)
    generator = torch.nn.Sequential(torch.nn.Linear(4, 192), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 8, 8)))
    discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))
    sgd = [torch.optim.SGD(model.parameters(), 0.1) for model in (generator, discriminator)]
    return GAN(generator, discriminator, *sgd, z_dim=4)


def part(rank, folder):
    """One of two processes: two games, each left in a folder of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/place", rank=rank, world_size=2)
    images, how = load("fake", n=40, image_size=8), dict(steps=4, batch_size=8, device="cpu", progress=False)
    config = tiny(loss="wgan", augment=("colour",), norm="batch", image_size=16)
    gan = games.players(config)
    wide = load("fake", n=40, image_size=16)
    history = fit(gan, parallel.together(gan, games.step(config)), wide, **how)
    checkpoint.save(gan, folder / f"game-{rank}")
    torch.save(history.losses, folder / f"losses-{rank}.pth")
    gan = plain_gan()
    fit(gan, parallel.together(gan, rpgan_step), images, **how)
    torch.save(gan.generator.state_dict(), folder / f"plain-{rank}.pth")
    dist.barrier()  # gloo ends badly where one leaves while the other is still at work
    dist.destroy_process_group()
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]  # of threads; Linux only
    assert not [name for name in names if "gloo" in name]  # one that outlives its group can abort Python's end


def test_both_keep_the_same_players_and_see_the_whole_batch(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=part, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (one, facts), (two, other) = (checkpoint.read(tmp_path / f"game-{rank}") for rank in (0, 1))
    for name in one:
        if name != "random":
            assert all(torch.equal(one[name][key], two[name][key]) for key in one[name]), name
    assert torch.equal(one["random"]["z"], two["random"]["z"]) and facts["data_position"] == other["data_position"]
    losses = [torch.load(tmp_path / f"losses-{rank}.pth", weights_only=True) for rank in (0, 1)]
    assert losses[0] == losses[1] and len(losses[0]["g_loss"]) == 4

    alone = plain_gan()
    begun = alone.generator[0].weight.clone()
    fit(alone, rpgan_step, load("fake", n=40, image_size=8), steps=4, batch_size=8, device="cpu", progress=False)
    shared = torch.load(tmp_path / "plain-1.pth", weights_only=True)["0.weight"]
    assert torch.allclose(alone.generator[0].weight, shared, atol=1e-6)
    assert (begun - shared).abs().max() > 1e-3


def test_a_run_in_two_processes_goes_on_exactly(made, tmp_path, capfd):  # noqa: F811
    words = ["train", *TINY, "--processes", "2"]
    assert cli.main([*words, "--steps", "4", "--out", str(tmp_path / "straight")]) == 0
    straight = made[-1]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert alike(result(resume(made, tmp_path / "run", "--steps", "4")), result(straight))
    assert cli.main(["train", *TINY, "--steps", "4", "--out", str(tmp_path / "alone")]) == 0
    assert not alike(result(made[-1]), result(straight))  # BatchNorm sees half a batch
    assert re.search("processes was 2 and is 1 now", refused(tmp_path / "run", capfd))


def refused(folder, capfd):
    assert cli.main(["train", "--resume-path", str(folder), "--processes", "1"]) == 2
    return capfd.readouterr().err
