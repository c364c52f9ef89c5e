"""``fit``: what it records, what it guarantees, and what it says when something is wrong."""

import math
import signal

import pytest
import torch
from test_steps import small_gan

from ganlib import models, steps, train
from ganlib import models as variants
from ganlib.data.loading import Batches, ImageSet
from ganlib.runs import checkpoint
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


def with_dropout():
    generator, discriminator = models.dcgan_generator(28, 1, 4, 8), variants.pooled_discriminator()
    sgd = [torch.optim.SGD(m.parameters(), 1e-3) for m in (generator, discriminator)]
    return steps.GAN(generator, discriminator, *sgd, z_dim=8)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_in_float32_fit_is_the_plain_loop_of_the_example(images, norm):
    """DataLoader's order and z given, three steps of PyTorch's DCGAN example: sigmoid, BCELoss, every gradient."""

    def players():
        generator = models.dcgan_generator(28, 1, 8, 16)
        discriminator = models.dcgan_discriminator(28, 1, 8, norm=norm)
        adam = [torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (generator, discriminator)]
        return steps.GAN(generator, discriminator, *adam, z_dim=16)

    ours, plain = players(), players()
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


def test_dropout_follows_the_seed_and_leaves_the_global_generator_alone(images):
    losses = []
    for other in (1, 2):
        torch.manual_seed(other)
        gan = with_dropout()
        before = torch.random.get_rng_state()
        losses.append(quick(gan, images, steps=2).losses)
        assert torch.equal(before, torch.random.get_rng_state())
        losses[-1]["d_loss"] += quick(gan, images, steps=2).losses["d_loss"]
    assert losses[0] == losses[1]
    gan = with_dropout()
    assert quick(gan, images, steps=4).losses["d_loss"] == losses[0]["d_loss"]  # two calls are one long call


def test_flip_mirrors_about_half_of_the_reals_and_only_when_asked(images):
    def seen(flip):
        batches_seen = []

        def spying(gan, batches):
            batches_seen.append(next(batches))
            return dcgan_step(gan, iter(batches_seen[-1:]))

        quick(small_gan(), images, spying, flip=flip)
        return torch.cat(batches_seen)

    plain, flipped = seen(False), seen(True)
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert 8 <= mirrored.sum() <= 24  # of 32
    assert torch.equal(flipped[~mirrored], plain[~mirrored])


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
        if gan.steps_done == 4:
            signal.raise_signal(signal.SIGINT)
        return dcgan_step(gan, batches)

    before = signal.getsignal(signal.SIGINT)
    history = quick(gan, images, interrupted, steps=100, out=tmp_path)
    assert history.steps == gan.steps_done == 5  # the step in which it came is finished
    assert history.stopped == "interrupted after 5 steps"
    assert signal.getsignal(signal.SIGINT) is before
    assert "nothing is lost" in capsys.readouterr().out
    assert all(p.requires_grad for p in gan.discriminator.parameters())
    assert torch.equal(checkpoint.load_generator(tmp_path, "generator")[0].weight, gan.generator[0].weight)
    uninterrupted = small_gan()
    quick(uninterrupted, images, steps=7)
    assert quick(gan, images, steps=2).steps == 2
    assert same(state(gan), state(uninterrupted))


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

    with pytest.raises(Diverged, match=rf"g_loss became {bad} at step 3; .*lower learning rate") as caught:
        quick(small_gan(), images, breaks, steps=9)
    assert caught.value.history.steps == 2


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "returned nothing .is there a return.*it must return a dict of scalars"),
        ({}, "returned a dict: {}; it must"),
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
    with pytest.raises(ValueError, match="steps=0 .*must be at least 1"):
        quick(small_gan(), images, steps=0)
    with pytest.raises(ValueError, match="checkpoint_every=0"):
        quick(small_gan(), images, checkpoint_every=0)
    with pytest.raises(ValueError, match="ema_decay=1.5"):
        quick(small_gan(), images, ema_decay=1.5)
    with pytest.raises(ValueError, match=r"fixed_z has shape \[4, 9\], but must be \[n, 8\]"):
        quick(small_gan(), images, fixed_z=torch.zeros(4, 9))


def test_bf16_trains_close_to_fp32(images):
    histories = []
    for precision in ("fp32", "bf16"):
        histories.append(quick(small_gan(), images, precision=precision, steps=2))
    assert histories[1].precision == "bfloat16"
    assert histories[0].losses["d_loss"] != histories[1].losses["d_loss"]
    assert histories[0].losses["d_loss"][0] == pytest.approx(histories[1].losses["d_loss"][0], abs=0.02)


def test_checkpoints_are_written_on_the_way(images, tmp_path):
    quick(small_gan(), images, steps=5, out=tmp_path, checkpoint_every=2)
    assert checkpoint.steps_in(tmp_path) == [2, 4, 5]


def test_a_second_run_into_the_same_folder_is_refused_and_going_on_is_not(images, tmp_path):
    def content():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    first = small_gan()
    quick(first, images, out=tmp_path)
    before = content()
    with pytest.raises(FileExistsError, match="holds another run.*choose another folder.*resume=True"):
        quick(small_gan(), images, out=tmp_path)
    stranger = small_gan()
    quick(stranger, images)  # as many steps as the first had
    with pytest.raises(FileExistsError, match="another run"):
        quick(stranger, images, out=tmp_path)
    assert content() == before
    assert quick(first, images, out=tmp_path).steps == 8  # the history is that of the folder
    assert checkpoint.steps_in(tmp_path) == [4, 8]
    before = content()
    quick(first, images)  # somewhere else in between
    with pytest.raises(FileExistsError, match="after 8 steps, but by now they have made 12.*resume=True"):
        quick(first, images, out=tmp_path)
    assert content() == before


def test_an_output_that_cannot_be_written_is_told_before_the_first_step(images, tmp_path):
    (tmp_path / "file").write_text("")
    gan = small_gan()
    with pytest.raises(OSError, match="Cannot write in .*choose another output folder"):
        quick(gan, images, out=tmp_path / "file" / "run")
    assert gan.steps_done == 0


def test_the_average_is_clean_when_a_loss_is_not_a_number(images):
    gan = small_gan()

    def breaks(gan, batches):
        record = dcgan_step(gan, batches)
        if gan.steps_done == 2:
            gan.generator[0].weight.data.fill_(math.nan)
            record["g_loss"] = record["g_loss"] * math.nan
        return record

    with pytest.raises(Diverged):
        quick(gan, images, breaks)
    assert all(torch.isfinite(v).all() for v in gan.ema_generator.state_dict().values())


def test_losses_read_late_are_the_same_losses(images, monkeypatch):
    at_once = quick(small_gan(), images, steps=7)
    monkeypatch.setattr(train, "READ_EVERY", 3)
    monkeypatch.setattr(train.runtime, "device", lambda name: torch.device("meta"))  # any type but cpu reads late
    monkeypatch.setattr(train, "_set_the_stage", lambda gan, where: None)
    monkeypatch.setattr(train, "Batches", lambda images, n, where, *more, **k: Batches(images, n, "cpu", *more, **k))
    late = quick(small_gan(), images, steps=7)
    assert late.losses["d_loss"] == pytest.approx(at_once.losses["d_loss"], rel=1e-3)
    assert late.steps == 7


def test_a_step_may_take_several_batches(images):
    def greedy(gan, batches):
        next(batches)
        return dcgan_step(gan, batches)

    assert quick(small_gan(), images, greedy, steps=10).steps_per_epoch == 2.5


def test_every_update_of_a_step_sees_the_weights_of_the_one_before(images):
    """Autocast may not keep casts of weights that an update inside the step has changed."""

    def many(gan, batches):
        real, found = next(batches), {}
        for k in range(3):
            loss = gan.discriminator(real).float().mean()
            gan.d_opt.zero_grad()
            loss.backward()
            gan.d_opt.step()
            found[f"update {k}"] = loss
        return found

    losses = quick(small_gan(), images, many, steps=1, precision="bf16").losses
    assert losses["update 0"] != losses["update 1"] != losses["update 2"]


def test_optimiser_state_from_before_is_laid_out_anew(images):
    one, two = small_gan(), small_gan()
    for gan in (one, two):
        for _ in range(2):  # plain steps: state in the layout of plain weights
            dcgan_step(gan, iter(Batches(images, 8)))
    quick(one, images, steps=3)
    slow = Batches(images, 8)
    for _ in range(3):
        dcgan_step(two, slow)
    for a, b in zip(one.generator.parameters(), two.generator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


def test_names_of_losses_may_not_change(images):
    def fickle(gan, batches):
        return dcgan_step(gan, batches) | ({"extra": 1.0} if gan.steps_done == 2 else {})

    with pytest.raises(ValueError, match=r"returned \['d_loss', 'extra', 'g_loss'\], but earlier"):
        quick(small_gan(), images, fickle)


def test_the_bar_shows_losses_and_score(images, capsys):
    quick(small_gan(), images, progress=True, score=lambda g: {"fd": 12.25}, score_at=[2])
    bar = capsys.readouterr().err
    assert "4/4" in bar
    for name in ("d_loss=", "g_loss=", "fd=12.2"):
        assert name in bar.splitlines()[-1] or name in bar
