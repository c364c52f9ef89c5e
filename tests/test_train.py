"""``fit``: what it records, what it guarantees, and what it says when something is wrong."""

import math
import signal

import pytest
import torch
from test_steps import small_gan

from ganlib import checkpoint, models, steps, train
from ganlib.data import ImageSet
from ganlib.steps import dcgan_step
from ganlib.train import Diverged, fit


@pytest.fixture(scope="module")
def images():
    pixels = torch.randint(0, 256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet(pixels, None, (), "noise", "noise")


def quick(gan, images, step=dcgan_step, **kwargs):
    return fit(gan, step, images, **{"steps": 4, "batch_size": 8, "progress": False, **kwargs})


def state(gan):
    return [v.clone() for m in (gan.generator, gan.discriminator, gan.ema_generator) for v in m.state_dict().values()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_history_records_every_step(images):
    history = quick(small_gan(), images, steps=7)
    assert history.steps == 7
    assert set(history.losses) == {"d_loss", "g_loss"}
    assert all(len(v) == 7 and all(map(math.isfinite, v)) for v in history.losses.values())
    assert history.steps_per_epoch == 5
    assert history.seconds > 0
    assert history.stopped is None
    assert "7 steps" in repr(history)


def test_the_step_sees_real_images_in_range_and_fit_moves_the_weights(images):
    gan, seen = small_gan(), []
    before = state(gan)

    def spying(gan, batches):
        return dcgan_step(gan, iter([seen.append(next(batches)) or seen[-1]]))

    quick(gan, images, spying)
    batch = torch.cat(seen)
    assert batch.dtype == torch.float32
    assert batch.shape == (32, 1, 28, 28)
    assert batch.min() == -1
    assert batch.max() == 1
    assert not same(before, state(gan))


def test_same_seed_same_run_other_seed_another(images):
    runs = []
    for seed in (0, 0, 1):
        gan = small_gan()
        history = quick(gan, images, seed=seed, snapshot_at=[4])
        runs.append((state(gan), history))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1].losses == runs[1][1].losses
    assert torch.equal(runs[0][1].snapshots[0][1], runs[1][1].snapshots[0][1])
    assert not same(runs[0][0], runs[2][0])


def test_dropout_follows_the_seed_and_leaves_the_global_generator_alone(images):
    losses = []
    for other in (1, 2):
        torch.manual_seed(other)
        generator, discriminator = models.dcgan_generator(28, 1, 4, 8), models.pooled_discriminator()
        sgd = [torch.optim.SGD(m.parameters(), 1e-3) for m in (generator, discriminator)]
        before = torch.random.get_rng_state()
        losses.append(quick(steps.GAN(generator, discriminator, *sgd, z_dim=8), images, steps=2).losses)
        assert torch.equal(before, torch.random.get_rng_state())
    assert losses[0] == losses[1]


def test_two_calls_are_one_long_call(images):
    long, short = small_gan(), small_gan()
    whole = quick(long, images, steps=7)
    halves = [quick(short, images, steps=3), quick(short, images, steps=4)]
    assert same(state(long), state(short))
    assert whole.losses["g_loss"] == halves[0].losses["g_loss"] + halves[1].losses["g_loss"]
    assert short.steps_done == 7


def test_training_goes_on_with_other_images_and_batches(images):
    gan = small_gan()
    quick(gan, images)
    assert quick(gan, images.take(20), batch_size=5).steps_per_epoch == 4
    assert gan.steps_done == 8


def test_snapshots_come_from_the_running_average_on_the_same_z(images):
    gan, z = small_gan(), torch.randn(5, 8)
    history = quick(gan, images, snapshot_at=range(0, 5, 2), fixed_z=z)
    assert [s for s, _ in history.snapshots] == [0, 2, 4]
    assert history.snapshots[0][1].shape == (5, 1, 28, 28)
    assert history.snapshots[0][1].dtype == torch.uint8
    assert torch.equal(history.snapshots[-1][1], train.sample(gan.ema_generator, z))


def test_scores_are_taken_when_asked(images):
    history = quick(small_gan(), images, score=lambda g: {"width": g[0].out_channels}, score_at=[0, 3])
    assert history.scores == [(0, {"width": 16}), (3, {"width": 16})]


def test_ema_is_the_average_it_claims_to_be():
    average, model = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    model.weight.data.fill_(3.0)
    model.running_mean.fill_(5.0)
    model.num_batches_tracked.fill_(9)
    train.update_ema(average, model, decay=0.9, step=10**6)
    assert average.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert average.running_mean.item() == pytest.approx(0.5)
    assert average.num_batches_tracked.item() == 9
    train.update_ema(average, model, decay=0.9, step=0)  # warm-up: the first step keeps a tenth
    assert average.weight.item() == pytest.approx(0.1 * 1.2 + 0.9 * 3)


def test_time_limit_stops_the_run(images):
    history = quick(small_gan(), images, steps=10**6, seconds=0.05)
    assert 0 < history.steps < 10**6
    assert "time limit of 0.05 s" in history.stopped


def test_the_bar_counts_towards_the_time_limit(images, capsys):
    history = quick(small_gan(), images, steps=10**6, seconds=0.2, progress=True)
    assert f"{history.steps}/{history.steps} " in capsys.readouterr().err


def test_an_interrupt_returns_the_history_and_usable_players(images, tmp_path, capsys):
    gan = small_gan()

    def interrupted(gan, batches):
        record = dcgan_step(gan, batches)
        if gan.steps_done == 5:
            signal.raise_signal(signal.SIGINT)
        return record

    history = quick(gan, images, interrupted, steps=100, out=tmp_path)
    assert history.steps == 5
    assert history.stopped == "interrupted after 5 steps"
    assert "nothing is lost" in capsys.readouterr().out
    assert all(p.requires_grad for p in gan.discriminator.parameters())
    assert torch.equal(checkpoint.load_generator(tmp_path, "generator")[0].weight, gan.generator[0].weight)
    assert quick(gan, images, steps=2).steps == 2


def test_an_interrupt_inside_the_generators_update_thaws_the_discriminator(images):
    gan = small_gan()

    def interrupted(gan, batches):
        with steps.frozen(gan.discriminator):
            raise KeyboardInterrupt

    assert quick(gan, images, interrupted).steps == 0
    assert all(p.requires_grad for p in gan.discriminator.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_stops_with_step_loss_and_advice(images, bad):
    def breaks(gan, batches):
        record = dcgan_step(gan, batches)
        return {**record, "g_loss": record["g_loss"] * (bad if gan.steps_done == 2 else 1)}

    with pytest.raises(Diverged, match=rf"g_loss became {bad} at step 3 .*lower learning rate") as caught:
        quick(small_gan(), images, breaks, steps=9)
    assert caught.value.history.steps == 2


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "returned NoneType; it must return a dict of scalars"),
        ({}, "returned an empty dict"),
        ({"d_loss": torch.zeros(8)}, r"'d_loss' has shape \[8\].*take its mean"),
        ({"d_loss": "low"}, "'d_loss' is of type str"),
    ],
)
def test_a_step_that_returns_the_wrong_thing_gets_a_sentence(images, returned, sentence):
    with pytest.raises(ValueError, match=sentence):
        quick(small_gan(), images, lambda gan, batches: returned)


def test_wrong_sizes_get_a_sentence(images):
    with pytest.raises(ValueError, match="batch_size=1 cannot work with BatchNorm"):
        quick(small_gan(), images, batch_size=1)
    with pytest.raises(ValueError, match="40.*64"):
        quick(small_gan(), images, batch_size=64)
    with pytest.raises(ValueError, match="steps=0"):
        quick(small_gan(), images, steps=0)


def test_bf16_trains_close_to_fp32(images):
    histories = []
    for precision in ("fp32", "bf16"):
        histories.append(quick(small_gan(), images, precision=precision, steps=2))
    assert histories[1].precision == "bfloat16"
    assert histories[0].losses["d_loss"] != histories[1].losses["d_loss"]
    assert histories[0].losses["d_loss"][0] == pytest.approx(histories[1].losses["d_loss"][0], abs=0.02)


def test_checkpoints_are_written_on_the_way(images, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda gan, out: saved.append(gan.steps_done))
    quick(small_gan(), images, steps=5, out=tmp_path, checkpoint_every=2)
    assert saved == [2, 4, 5]


def test_the_bar_shows_losses_and_score(images, capsys):
    quick(small_gan(), images, progress=True, score=lambda g: {"fd": 12.25}, score_at=[2])
    bar = capsys.readouterr().err
    assert "4/4" in bar
    for name in ("d_loss=", "g_loss=", "fd=12.2"):
        assert name in bar.splitlines()[-1] or name in bar
