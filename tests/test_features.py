"""What a net sees, batch by batch: how samples and reals are drawn for it, what is kept of them, what makes it new."""

import math

import pytest
import torch

from ganlib._runtime.randomness import rng
from ganlib.data import to_float
from ganlib.metrics import extract, features, generate
from ganlib.metrics.features import BATCH, KEEP, fake_batches, reference_for
from ganlib.metrics.nets import digit_net, new_cifar_net
from helpers import Colours, noise, pictures, small_generator


def colours(pixels):
    """A feature net of one line: mean and spread of each channel."""
    x = pixels.float().flatten(2)
    return torch.cat([x.mean(2), x.std(2)], 1)


@pytest.mark.parametrize("n", [1, 7, 2 * BATCH + 37])
def test_statistics_of_a_stream_are_those_of_all_features(n):
    pixels = noise(n, 3)
    found, every = extract(colours, pixels), colours(pixels).double()
    assert found.statistics.n == n and found.logits is None
    assert torch.allclose(found.features, colours(pixels), atol=1e-4)
    assert torch.allclose(found.statistics.mean, every.mean(0), rtol=1e-6)
    assert torch.allclose(found.statistics.cov, every.T.cov() if n > 1 else torch.zeros(6, 6).double(), rtol=1e-6)


def test_only_so_many_features_are_kept_but_all_count(monkeypatch):
    monkeypatch.setattr(features, "KEEP", 250)
    found, every = extract(colours, noise(400, 3)), colours(noise(400, 3))
    assert KEEP == 10_000 and torch.allclose(found.features, every[:250], atol=1e-4) and found.statistics.n == 400
    monkeypatch.setattr(features, "KEEP", 5)
    found = extract(digit_net(), noise(7, 1, 28))  # a net that classifies gives logits, too
    assert found.features.shape == (5, 64) and found.logits.shape == (5, 10)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_generator_is_drawn_from_by_the_seed_and_stays_as_it_is(mode):
    generator = small_generator()
    generator[1].eval()  # some users freeze a layer
    state, before = torch.random.get_rng_state(), {k: v.clone() for k, v in generator.state_dict().items()}
    first = generate(generator, 170, seed=1, mode=mode)
    assert first.dtype == torch.uint8 and first.shape == (170, 3, 8, 8)
    assert torch.equal(first, generate(generator, 170, seed=1, mode=mode))
    assert torch.equal(first[:50], generate(generator, 50, seed=1, mode=mode))
    for seed, other in ((2, mode), (1, "eval" if mode == "train" else "train")):
        assert not torch.equal(first, generate(generator, 170, seed, other))
    assert generator.training and not generator[1].training
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_in_eval_mode_samples_are_those_of_the_generator_itself():
    generator = small_generator().eval()
    with torch.no_grad():
        want = generator(torch.randn(BATCH, 3, generator=rng(4)))
    assert torch.equal(generate(generator, BATCH, seed=4), features.as_uint8(want))


def test_images_are_taken_as_a_png_would_keep_them_and_a_choice_follows_the_seed_but_not_that_of_the_reals():
    pixels = noise(130, 3)
    for given, n in ((pixels, 130), (pixels, 999), (to_float(pixels), 130)):
        assert torch.equal(torch.cat(list(fake_batches(given, n))), pixels)
    pixels = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1).expand(200, 3, 8, 8)
    mine, again, other = (generate(pixels, 50, seed)[:, 0, 0, 0] for seed in (0, 0, 1))
    assert torch.equal(mine, again) and not torch.equal(mine, other) and len(set(mine.tolist())) == 50
    theirs = torch.randperm(200, generator=rng(0))[:50]  # what reference_for takes first
    assert (mine == theirs).sum() < 10 and len(set(mine.tolist()) & set(theirs.tolist())) < 30


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: generate(torch.full((5, 3, 8, 8), math.nan), 5), "NaN"),
        (lambda: generate(torch.full((5, 3, 8, 8), 3.0), 5), r"\[-1, 1\]"),
        (lambda: generate(torch.zeros(5, 3, 8, 8, dtype=torch.int64), 5), "uint8 or float"),
        (lambda: generate(lambda z: z, 5), "no whole number 'z_dim'"),
        (lambda: generate(small_generator(), 5, mode="test"), "mode is 'test'.* eval, train"),
        (lambda: extract(colours, noise(5, 3), "nearest"), "resizer is 'nearest'.* none, bicubic"),
        (lambda: extract(colours, noise(5, 3), "bicubic"), "custom .*image_shape"),
        (lambda: extract(new_cifar_net().eval(), noise(5, 1, 32)), r"colour 32×32 .*\[5, 1, 32, 32\].*channels=3"),
        (lambda: extract(colours, []), "no images"),
        (lambda: extract(lambda pixels: colours(pixels)[:1], noise(5, 3)), "custom gave 1 rows .* for 5 images"),
        (lambda: extract(lambda pixels: colours(pixels) / 0, noise(5, 3)), "NaN"),
    ],
)
def test_what_cannot_be_judged_gets_a_sentence(do, message):
    with pytest.raises(ValueError, match=message):
        do()


def test_a_resizer_brings_images_to_the_size_of_the_net():
    net = new_cifar_net().eval()
    flat, pixels = torch.full((3, 3, 64, 64), 77, dtype=torch.uint8), noise(3, 3, 32)
    small = flat[:, :, :32, :32]
    assert torch.allclose(extract(net, flat, "bicubic").features, extract(net, small).features, atol=1e-4)
    assert torch.equal(extract(net, pixels, "bicubic").features, extract(net, pixels).features)


# --- the reals, and what is kept of them ----------------------------------------------------------


def looked_at(images, n, net=None, **how):
    """The reference for ``n`` fakes, and which of the images were looked at."""
    net = net or Colours()
    return reference_for(net, images, n, **how), net.shown


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty cache; and a score compares with at most 100 reals."""
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "KEEP", 100)
    return tmp_path / "scores"


@pytest.mark.parametrize(
    ("total", "n", "seen", "is_split", "n_floor"),
    [
        (60, 20, 60, True, (20, 40)),  # all of few, and there are no others
        (60, 500, 60, True, (30, 30)),
        (100, 20, 100, True, (20, 80)),
        (130, 50, 130, True, (50, 80)),  # almost enough
        (149, 50, 149, True, (50, 99)),
        (150, 50, 150, False, (50, 100)),  # enough for others that are disjoint and as many as the fakes
        (256, 50, 150, False, (50, 100)),
        (256, 157, 200, True, (100, 100)),
    ],
)
def test_which_reals_are_looked_at_and_how_many_the_floor_compares(folder, total, n, seen, is_split, n_floor):
    numbered = torch.arange(total, dtype=torch.uint8).view(-1, 1, 1, 1).expand(total, 3, 8, 8).contiguous()
    made, shown = looked_at(numbered, n)
    assert len(shown) == len(set(shown)) == seen and shown != sorted(shown)
    torch.manual_seed(n)  # the choice depends on the seed only
    assert looked_at(numbered, n, Colours(1.0))[1] == shown != looked_at(numbered, n, seed=1)[1]
    assert (made.is_split, made.n_floor) == (is_split, n_floor)
    assert made.real.statistics.n == min(total, 100) and sum(o.statistics.n for o in made.others) == max(seen - 100, 0)
    pairs = list(made.pairs(0))
    assert len(pairs) == (features.FLOOR_SPLITS if is_split else 1)
    for real, fake in pairs:
        assert (fake.statistics.n, real.statistics.n) == (len(fake.features), len(real.features)) == n_floor
        together = torch.cat([real.features, fake.features])[:, 0] * 64
        assert together.sort().values.tolist() == sorted(shown)
        assert torch.equal(fake.logits, fake.features[:, :3] * 3)


def same(a, b):
    tensors = zip((*a[:2], *a.statistics[:2]), (*b[:2], *b.statistics[:2]), strict=True)
    return a.statistics.n == b.statistics.n and all(torch.equal(x, y) and x.dtype == y.dtype for x, y in tensors)


def test_what_was_seen_is_not_looked_at_again_and_a_damaged_file_is_computed_anew(folder):
    net, pixels = Colours(), pictures(250)
    first, shown = looked_at(pixels, 50, net)
    again, _ = looked_at(pixels.clone(), 50, net)
    assert len(shown) == 150 and first.key == again.key and len(list(folder.iterdir())) == 2
    assert same(first.real, again.real) and same(first.others[0], again.others[0])
    path = folder / first.key.partition("-")[0]
    intact = path.read_bytes()
    cut, flipped = intact[: len(intact) // 2], intact[:-1] + bytes([intact[-1] ^ 1])
    for damaged in (b"", b"\0", b"not a tensor", b"\xff" * 64, cut, intact[:-1], flipped, intact + b"x", intact[32:]):
        path.write_bytes(damaged)
        shown.clear()
        assert same(looked_at(pixels, 50, net)[0].real, first.real) and len(shown) == 100, damaged[:20]
        assert path.read_bytes() == intact
    pixels.zero_()  # in place
    assert not same(looked_at(pixels, 50, net)[0].real, first.real)


def test_other_reals_seeds_counts_resizers_and_nets_have_another_key(folder):
    class Edited(Colours):
        def forward(self, pixels):
            x, logits = super().forward(pixels)
            return x.square(), logits

    Edited.__name__ = "Colours"  # as when a notebook's cell is changed and run again
    pixels, heavier, renamed = pictures(250), Colours(), Colours()
    heavier.scale += 1
    renamed.name = "other"
    changed = pixels.clone()
    changed[249, 0, 3, 3] ^= 1  # whichever half it is in, or neither
    made = [
        *(reference_for(Colours(), some, 150) for some in (pixels, changed, pixels.view(250, 3, 4, 16))),
        *(reference_for(Colours(), pixels, *how) for how in ((150, 1), (100,), (150, 0, "bicubic"))),
        *(reference_for(net, pixels, 150) for net in (heavier, renamed, Colours(0.5), Edited())),
    ]
    assert None not in {one.key for one in made} and len({one.key for one in made}) == len(made)
    assert torch.allclose(made[-1].real.features, made[0].real.features.square())


def test_a_function_a_full_disk_and_a_folder_that_cannot_be_written_are_no_errors(folder, monkeypatch):
    made = reference_for(lambda pixels: pixels.float().flatten(1), pictures(60), 20)
    assert made.key is None and made.real.logits is None and not folder.exists()  # a function may change any time

    def fail(path, content):
        raise OSError("No space left on device")

    def kept_in_memory(seed):
        net = Colours()
        first, again = (looked_at(pictures(60, seed), 20, net)[0] for _ in range(2))
        return same(first.real, again.real) and len(net.shown) == 60

    with monkeypatch.context() as full:
        full.setattr(features.durable, "write", fail)
        assert kept_in_memory(1)
    folder.rmdir()
    folder.write_text("a file where the folder would be")
    assert kept_in_memory(2)
