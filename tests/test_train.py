"""``fit``: what it records, what it guarantees, and what it says when something is wrong."""

import math
import signal

import pytest
import torch

from ganlib import models, steps, train
from ganlib.data.images import Batches, ImageSet
from ganlib.runs import Run, checkpoint, folder
from ganlib.steps import GAN, dcgan_step
from ganlib.train import Diverged, History, due, fit
from helpers import noise


def players(seed=0, width=4, lr=2e-3, **more):
    """A small DCGAN for 28 grey pixels."""
    generator = models.dcgan_generator(28, 1, width, 8, seed=seed)
    discriminator = models.dcgan_discriminator(28, 1, width, seed=seed + 1)
    adam = [torch.optim.Adam(m.parameters(), lr, betas=(0.5, 0.999)) for m in (generator, discriminator)]
    return GAN(generator, discriminator, *adam, z_dim=8, **more)


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


def quick(gan, images, step=dcgan_step, **more):
    more = {"batch_size": 8, "watchers": (), **more}
    return fit(gan, step, images, **({} if "seconds" in more else {"steps": 4}) | more)


def state(gan):
    return [v.clone() for m in (gan.generator, gan.discriminator, gan.ema_generator) for v in m.state_dict().values()]


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_history_records_every_step(images):
    history = quick(players(), images, steps=7)
    assert history.steps == 7 and set(history.losses) == {"d_loss", "g_loss"}
    assert all(len(v) == 7 and all(map(math.isfinite, v)) for v in history.losses.values())
    assert (history.steps_per_epoch, history.batches, history.first_step) == (5, 7, 0)
    assert (history.device, history.precision, history.batch_size) == ("cpu", "float32", 8)
    assert history.seconds > 0 and history.stopped is None and history.intact and not history.running


def test_the_step_sees_real_images_in_range_and_weights_and_average_move(images):
    gan, seen = players(), []
    before = state(gan)

    def spying(gan, batches):
        assert gan.generator.training and gan.discriminator.training
        return dcgan_step(gan, iter([seen.append(next(batches)) or seen[-1]]))

    gan.generator.eval()
    quick(gan, images, spying)
    batch = torch.cat(seen)
    assert batch.dtype == torch.float32 and batch.shape == (32, 1, 28, 28)
    assert batch.min() == -1 and batch.max() == 1
    assert not any(
        torch.equal(a, b) for a, b in zip(before[:1] + before[-3:-1], state(gan)[:1] + state(gan)[-3:-1], strict=True)
    )


def test_same_seed_same_run_other_seed_another(images):
    one, two, other = players(), players(), players()
    other.seed = 1  # of the order of the images alone, here
    histories = [quick(gan, images, snapshot_every={4}) for gan in (one, two, other)]
    assert same(state(one), state(two)) and histories[0].losses == histories[1].losses
    assert torch.equal(histories[0].snapshots[0][1], histories[1].snapshots[0][1])
    assert not same(state(one), state(other))


@pytest.fixture
def two_threads():
    """Sums in the order of a usual run: with one thread one weight in thousands differs by 1.5e-5."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_in_float32_fit_is_the_plain_loop_of_the_example(images, norm):
    """DataLoader's order and z given, three steps of PyTorch's DCGAN example: sigmoid, BCELoss, every gradient."""

    def pair():
        networks = models.dcgan_generator(28, 1, 8, 16), models.dcgan_discriminator(28, 1, 8, norm=norm)
        adam = [torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in networks]
        return GAN(*networks, *adam, z_dim=16)

    ours, plain = pair(), pair()
    quick(ours, images, steps=3, precision="fp32")
    probability, bce = torch.nn.Sequential(plain.discriminator, torch.nn.Sigmoid()), torch.nn.BCELoss()
    ones, zeros = torch.ones(8), torch.zeros(8)
    for _, real in zip(range(3), Batches(images, 8), strict=False):
        plain.discriminator.zero_grad()
        bce(probability(real), ones).backward()
        fake = plain.generator(plain.sample_z(8))
        bce(probability(fake.detach()), zeros).backward()
        plain.d_opt.step()
        plain.generator.zero_grad()
        bce(probability(fake), ones).backward()
        plain.g_opt.step()
    for name in ("generator", "discriminator"):
        pairs = zip(getattr(ours, name).parameters(), getattr(plain, name).parameters(), strict=True)
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5, check_stride=False)


def test_every_global_generator_follows_the_seed_and_is_given_back(images):
    import random

    import numpy as np

    def drawing(gan, batches):  # and dropout draws from torch's
        real = next(batches) * (1 + 0.1 * random.random()) * (1 + 0.1 * float(np.random.random()))  # noqa: NPY002
        return dcgan_step(gan, iter([real.clamp(-1, 1)]))

    def with_dropout():
        networks = models.dcgan_generator(28, 1, 4, 8), models.pooled_discriminator()
        return GAN(*networks, *(torch.optim.SGD(m.parameters(), 1e-3) for m in networks), z_dim=8)

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002

    losses = []
    for other in (1, 2):
        torch.manual_seed(other)
        random.seed(other)
        gan, before = with_dropout(), states()
        first = quick(gan, images, drawing, steps=2).losses
        assert states() == before
        losses.append(first["d_loss"] + quick(gan, images, drawing, steps=2).losses["d_loss"])
    assert losses[0] == losses[1]
    assert quick(with_dropout(), images, drawing, steps=4).losses["d_loss"] == losses[0]  # two calls are one long one
    assert quick(with_dropout(), images, steps=4).losses["d_loss"] != losses[0]


def test_two_calls_are_one_long_call_and_other_images_may_follow(images):
    long, short = players(), players()
    through = quick(long, images, steps=7)
    halves = [quick(short, images, steps=3), quick(short, images, steps=4)]
    assert same(state(long), state(short)) and short.steps_done == 7
    assert through.losses["g_loss"] == halves[0].losses["g_loss"] + halves[1].losses["g_loss"]
    assert (halves[1].first_step, halves[1].total, halves[1].batches) == (3, 4, 4)
    assert quick(long, images, steps=2).batches == 2  # from the second epoch on
    assert quick(short, images.take(20), batch_size=5).steps_per_epoch == 4 and short.steps_done == 11


@pytest.mark.parametrize(
    ("every", "steps"),
    [(None, []), (0, []), (2, [0, 2, 4]), (1, [0, 1, 2, 3, 4]), (5, [0]), ({3, 9}, [3]), (range(1, 5, 3), [1, 4])],
)
def test_due_takes_a_number_or_a_set(every, steps):
    assert [step for step in range(5) if due(step, every)] == steps


def test_snapshots_come_from_the_running_average_on_the_same_z(images):
    z = torch.randn(5, 8)
    gan = players(fixed_z=z)
    history = quick(gan, images, snapshot_every=2)
    assert [step for step, _ in history.snapshots] == [0, 2, 4]
    assert history.snapshots[0][1].shape == (5, 1, 28, 28) and history.snapshots[0][1].dtype == torch.uint8
    assert torch.equal(history.snapshots[-1][1], train.sample(gan.ema_generator, z))
    assert torch.equal(train.sample(gan.ema_generator, z, batch_size=2), history.snapshots[-1][1])
    quick(gan, images, steps=1, snapshot_every=4)  # step 0 was in an earlier call
    assert gan.fixed_z is z and players().fixed_z.shape == (64, 8)


def test_scores_are_taken_when_asked(images):
    history = quick(players(), images, score=lambda g: {"width": torch.tensor(g[0].out_channels)}, score_every={0, 3})
    assert history.scores == [(0, {"width": 16}), (3, {"width": 16})] and type(history.scores[0][1]["width"]) is int
    assert quick(players(), images, score_every=1).scores == []


class Found(dict):
    """A score that says what is best and which way."""

    best = ("modes", "highest")


def test_the_score_says_what_is_best_and_which_way(images):
    values = iter([{"modes": 50, "kl": 9}, {"modes": 10, "kl": 5}, {"modes": 30, "kl": 7}, {"modes": 30, "kl": 1}])
    history = quick(players(), images, score=lambda g: Found(next(values)), score_every=1, steps=3)
    assert history.best_by == ("modes", "highest") and history.best == 2  # step 0 does not count; the first of equals
    history.best_by = ("kl", "lowest")
    assert history.best == 3
    history.scores.append((4, {"kl": math.nan}))
    assert history.best == 3
    history.best_by = None
    assert history.best is None and History(8, 5, "cpu", "float32").best is None


def test_ema_is_the_average_it_claims_to_be():
    average, model = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    model.weight.data.fill_(3.0)
    model.running_mean.fill_(5.0)
    model.num_batches_tracked.fill_(9)
    steps.update_ema(average, model, decay=0.9, step=10**6)
    assert average.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert average.running_mean.item() == pytest.approx(0.5) and average.num_batches_tracked.item() == 9
    steps.update_ema(average, model, decay=0.9, step=0)  # warm-up: the first step keeps a tenth
    assert average.weight.item() == pytest.approx(0.1 * 1.2 + 0.9 * 3)
    average.weight.data.fill_(0.0)
    steps.update_ema(average, model, decay=0.9, step=2)  # (1 + 2) / (10 + 2)
    assert average.weight.item() == pytest.approx(0.75 * 3)


def test_the_average_warms_up_with_the_steps_and_takes_the_players_decay(images):
    gan, seen = players(ema_decay=0.0), []
    quick(gan, images, lambda gan, batches: seen.append(gan.steps_done) or dcgan_step(gan, batches))
    weights = zip(gan.ema_generator.parameters(), gan.generator.parameters(), strict=True)
    assert all(torch.allclose(a, b) for a, b in weights) and seen == [0, 1, 2, 3]


def test_a_time_limit_stops_alone_or_beside_steps(images):
    history = quick(players(), images, seconds=0.05)
    assert history.steps > 0 and "time limit of 0.05 s after" in history.stopped and history.total is None
    assert quick(players(), images, steps=2, seconds=60).stopped is None
    gan = players()
    quick(gan, images, seconds=0.05)
    assert quick(gan, images, seconds=0.05).steps > 0  # it counts anew in each call


def test_limits_count_from_the_beginning_of_a_run_or_of_a_call():
    history = History(8, 5, "cpu", "float32", first_step=10, seconds=7.0)
    history.start(4, 2.0, done=13, from_the_beginning=False)
    assert (history.seconds_before, history.total, history.limit) == (7.0, 7, 2.0)
    assert not history.over(16) and history.over(17) and history.over(18)
    history.seconds = 8.9
    assert not history.over(16)
    history.seconds = 9.0
    assert history.over(11)
    history.finish(16, per_epoch=5)
    assert history.stopped == "time limit of 2 s after 6 steps" and not history.running
    history.start(4, None, done=13, from_the_beginning=True)
    assert (history.seconds_before, history.total, history.limit) == (0.0, 4, None)
    assert history.over(14) and not history.over(13)
    history.start(None, 10.0, done=13, from_the_beginning=True)
    assert history.total is None and not history.over(10**9)
    history.stopped, history.limit = None, None
    history.finish(17, per_epoch=5)
    assert history.stopped is None


def test_training_time_adds_up(images):
    seen = []
    history = quick(players(), images, steps=7, watchers=[lambda h: seen.append(h.seconds)])
    assert seen[0] > 0 and seen[:7] == sorted(set(seen)) and seen[-1] == history.seconds


def test_precision_is_chosen_for_both_players_on_their_device(images, monkeypatch):
    gan, asked = players(width=8, device="cpu"), []
    choose = train.runtime.choose_precision
    monkeypatch.setattr(train.runtime, "choose_precision", lambda *given: asked.append(given) or choose(*given))
    quick(gan, images)
    size = models.count_parameters(gan.generator) + models.count_parameters(gan.discriminator)
    assert asked == [(torch.device("cpu"), size, "auto", (gan.g_opt, gan.d_opt))]
    gan.device = "tpu"
    with pytest.raises(ValueError, match="tpu"):
        quick(gan, images)
    with pytest.raises(ValueError, match="64.*40"):
        fit(players(), dcgan_step, images, steps=1)


def test_batches_come_laid_out_for_the_device():
    seen, colour = [], ImageSet(noise(40, 3, 28), None, (), "noise", "noise")
    quick(players(), colour, lambda gan, batches: seen.append(next(batches)) or {"loss": 0.0})
    assert seen[0].is_contiguous(memory_format=torch.channels_last) and not seen[0].is_contiguous()


def test_watchers_see_every_step_and_the_end(images, capsys):
    seen = []
    quick(players(), images, watchers=[lambda h: seen.append((h.steps, h.running))])
    assert seen == [(1, True), (2, True), (3, True), (4, True), (4, False)]
    with pytest.raises(Diverged):
        quick(players(), images, lambda *_: {"loss": math.nan}, watchers=[lambda h: seen.append(h.running)])
    assert seen[-1] is False
    assert capsys.readouterr().err == ""
    quick(players(), images, watchers=None, score=lambda g: {"fd": 12.25}, score_every={2})
    bar = capsys.readouterr().err
    assert "4/4" in bar and all(name in bar for name in ("d_loss=", "g_loss=", "fd=12.2"))
    history = quick(players(), images, seconds=0.2, watchers=None)
    assert f"{history.steps}/{history.steps} " in capsys.readouterr().err


def test_an_interrupt_finishes_the_step_and_training_continues(images, tmp_path, capsys):
    gan = players()

    def interrupted(gan, batches):
        if gan.steps_done == 4:
            signal.raise_signal(signal.SIGINT)
        return dcgan_step(gan, batches)

    before = signal.getsignal(signal.SIGINT)
    history = quick(gan, images, interrupted, steps=100, run=Run(tmp_path))
    assert history.steps == gan.steps_done == 5 and history.intact
    assert history.stopped == "interrupted after 5 steps" and "history.go_on() continues" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.equal(checkpoint.load_generator(tmp_path, "generator")[0].weight, gan.generator[0].weight)
    uninterrupted = players()
    quick(uninterrupted, images, steps=7)
    assert quick(gan, images, steps=2).steps == 2 and same(state(gan), state(uninterrupted))


@pytest.mark.parametrize("how", ["alone", "in a folder", "resumed"])
def test_one_call_goes_on_from_an_interruption_to_the_end(images, tmp_path, how):
    def interrupted(gan, batches):
        if gan.steps_done in stops:
            stops.remove(gan.steps_done)
            signal.raise_signal(signal.SIGINT)
        return dcgan_step(gan, batches)

    stops, gan, straight, seen = [2, 5], players(), players(), []
    where = {} if how == "alone" else {"run": Run(tmp_path, resume=how == "resumed")}
    history = quick(gan, images, interrupted, steps=9, snapshot_every=2, watchers=[lambda h: seen.append(h)], **where)
    assert history.steps == 3 and history.go_on() is history and history.steps == 6
    assert history.go_on().steps == 9 and history.stopped is None and {id(h) for h in seen} == {id(history)}
    expected = quick(straight, images, steps=9, snapshot_every=2)
    assert same(state(gan), state(straight)) and history.losses == expected.losses
    assert [at for at, _ in history.snapshots] == [0, 2, 4, 6, 8] and history.batches == expected.batches
    with pytest.raises(ValueError, match="was not interrupted"):
        history.go_on()
    stops.append(9)
    timed = quick(gan, images, interrupted, seconds=0.3)
    assert timed.steps == 1 and timed.go_on().steps > 1 and "time limit" in timed.stopped and timed.seconds < 0.6


def test_a_second_interrupt_breaks_the_step_off_and_thaws_the_discriminator(images):
    def interrupted(gan, batches):
        with steps.frozen(gan.discriminator):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    gan = players()
    history = quick(gan, images, interrupted)
    assert history.steps == 0 and not history.intact and "interrupted" in history.stopped
    assert all(p.requires_grad for p in gan.discriminator.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_stops_before_the_average_with_step_loss_and_advice(images, bad):
    def breaks(gan, batches):
        record = dcgan_step(gan, batches)
        if gan.steps_done == 2:
            gan.generator[0].weight.data.fill_(math.nan)
        return {**record, "g_loss": record["g_loss"] * (bad if gan.steps_done == 2 else 1)}

    gan = players()
    with pytest.raises(Diverged, match=rf"g_loss became {bad} at step 3.*learning rate") as caught:
        quick(gan, images, breaks, steps=9)
    assert caught.value.history.steps == 2
    assert all(torch.isfinite(v).all() for v in gan.ema_generator.state_dict().values())


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "nothing.*return.*dict of scalars"),
        ({}, "dict: {}"),
        (torch.zeros(()), "Tensor"),
        ({"d_loss": torch.zeros(8)}, r"d_loss.*\[8\].*mean"),
        ({"d_loss": "low"}, "d_loss.*str"),
    ],
)
def test_a_step_that_returns_the_wrong_thing_gets_a_sentence(images, returned, sentence):
    with pytest.raises(ValueError, match=sentence):
        quick(players(), images, lambda gan, batches: returned)
    assert quick(players(), images, lambda gan, batches: {"one": torch.ones(1), "two": 2}).losses["two"] == [2.0] * 4


def test_names_of_losses_may_not_change(images):
    def fickle(gan, batches):
        return dcgan_step(gan, batches) | ({"extra": 1.0} if gan.steps_done == 2 else {})

    with pytest.raises(ValueError, match=r"\['d_loss', 'extra', 'g_loss'\], but earlier \['d_loss', 'g_loss'\]"):
        quick(players(), images, fickle)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"batch_size": 1}, "batch_size=1.*BatchNorm"),
        ({"batch_size": 64}, "64.*40"),
        ({"steps": 0}, "steps=0"),
        ({"seconds": -1}, "seconds=-1"),
        ({"steps": None}, "steps=.*seconds="),
        ({"precision": "fp8"}, "precision.*fp8.*bf16"),
    ],
)
def test_wrong_arguments_get_a_sentence(images, wrong, sentence):
    gan = players()
    with pytest.raises(ValueError, match=sentence):
        quick(gan, images, **wrong)
    assert gan.steps_done == 0


def test_a_batch_of_one_is_fine_without_batch_norm(images):
    networks = (
        torch.nn.Sequential(torch.nn.Linear(8, 784), torch.nn.Unflatten(1, (1, 28, 28))),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 1), torch.nn.Flatten(0)),
    )
    sgd = [torch.optim.SGD(m.parameters(), 1e-3) for m in networks]
    assert quick(GAN(*networks, *sgd, z_dim=8), images, batch_size=1, steps=1).steps == 1


def test_bf16_trains_close_to_fp32_and_every_update_sees_new_weights(images):
    """Autocast may not keep casts of weights that an update inside the step has changed."""
    histories = [quick(players(), images, precision=precision, steps=2) for precision in ("fp32", "bf16")]
    assert [h.precision for h in histories] == ["float32", "bfloat16"]
    first = [h.losses["d_loss"][0] for h in histories]
    assert first[0] != first[1] and first[0] == pytest.approx(first[1], abs=0.02)

    def many(gan, batches):
        real, found = next(batches), {}
        for k in range(3):
            found[f"update {k}"] = loss = gan.discriminator(real).float().mean()
            gan.d_opt.zero_grad()
            loss.backward()
            gan.d_opt.step()
        return found

    losses = quick(players(), images, many, steps=1, precision="bf16").losses
    assert losses["update 0"] != losses["update 1"] != losses["update 2"]


def test_losses_read_late_are_the_same_losses(images, monkeypatch):
    at_once = quick(players(), images, steps=7)
    buffer = train._Losses
    monkeypatch.setattr(train, "_Losses", lambda history, every, average: buffer(history, 3, average))
    late = quick(players(), images, steps=7)
    assert late.losses == at_once.losses and late.steps == 7


def test_losses_are_read_before_anything_depends_on_them(images, monkeypatch):
    buffer, seen = train._Losses, []
    monkeypatch.setattr(train, "_Losses", lambda history, every, average: buffer(history, 100, average))
    looks = dict(snapshot_every={2}, score=lambda g: {"x": 1}, score_every={5})
    quick(players(), images, steps=7, **looks, watchers=[lambda h: seen.append(h.steps)])
    assert seen == [0, 2, 2, 2, 5, 5, 7, 7]
    history = quick(players(), images, seconds=0.05)  # losses not yet read when the time is over are read at the end
    assert len(history.losses["d_loss"]) == history.steps > 0


def test_a_history_tells_its_rate_and_its_last_losses():
    history = History(8, 5, "cpu", "float32", losses={"d_loss": [3.0, 0.5], "g_loss": [1.0, 0.25]}, seconds=4.0)
    assert repr(history) == "2 steps in 4 s (0.5 a second, cpu, float32) · d_loss 0.500 · g_loss 0.250"
    assert repr(History(8, 5, "cpu", "bfloat16")) == "0 steps in 0 s (0.0 a second, cpu, bfloat16) · "


def test_a_step_may_take_several_batches(images):
    def greedy(gan, batches):
        next(batches)
        return dcgan_step(gan, batches)

    history = quick(players(), images, greedy, steps=10)
    assert history.steps_per_epoch == 2.5 and history.batches == 20


def test_optimiser_state_from_before_is_laid_out_anew(images):
    one, two = players(), players()
    for gan in (one, two):
        for _ in range(2):  # plain steps: state in the layout of plain weights
            dcgan_step(gan, iter(Batches(images, 8)))
    quick(one, images, steps=3)
    slow = Batches(images, 8)
    for _ in range(3):
        dcgan_step(two, slow)
    for a, b in zip(one.generator.parameters(), two.generator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


def timed(gan, images, until, **how):
    """A run whose time never ends, stopped after so many steps."""

    def watch(history):
        if history.running and gan.steps_done >= until:
            history.stop()

    return quick(gan, images, seconds=1e9, watchers=[watch], **how)


def test_a_fast_machine_takes_no_more_snapshots(images, monkeypatch, tmp_path, quickly):
    monkeypatch.setattr(train, "MOST_SNAPSHOTS", 4)
    for steps_made, wanted in {5: [0, 1, 2, 3, 4], 6: [0, 2, 4, 6], 9: [0, 2, 4, 6, 8], 25: [0, 8, 16, 24]}.items():
        gan, run = players(), Run(tmp_path / str(steps_made))
        kept = timed(gan, images, steps_made, snapshot_every=1, run=run).snapshots
        assert [at for at, _ in kept] == wanted == [at for at, _ in folder.snapshots_in(run.folder)]
    assert [at for at, _ in quick(players(), images, steps=6, snapshot_every=1).snapshots] == [*range(7)]
    assert [at for at, _ in timed(players(), images, 7, snapshot_every=range(7)).snapshots] == [*range(7)]
    for until in (6, 25):  # 0, 2, 4 and 6 are there when it is resumed
        resumed = timed(players(), images, until, snapshot_every=1, run=Run(tmp_path / "parts", resume=True)).snapshots
    assert [at for at, _ in resumed] == wanted == [at for at, _ in folder.snapshots_in(tmp_path / "parts")]
    assert all(torch.equal(mine, others) for (_, mine), (_, others) in zip(resumed, kept, strict=True))
    second = timed(gan, images, 33, snapshot_every=1).snapshots  # counts its own steps
    assert [at for at, _ in second] == [26, 28, 30, 32]
