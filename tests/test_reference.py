"""The reals of a score: which they are, what makes them new ones, and what real against real gives."""

import pytest
import torch
from torch import nn

from ganlib.metrics import featurecache, reference
from ganlib.metrics.distances import frechet_distance, inception_score, kernel_distance
from ganlib.metrics.features import extract
from ganlib.metrics.reference import METRICS, floors, look_at_reals, measure


class Means(nn.Module):
    """Means of the quarters of grey 4×4 images, and two logits; remembers what it was shown."""

    name = "means"

    def __init__(self, shift=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.shift, self.shown = shift, []

    def forward(self, pixels):
        if len(pixels) > 2:  # two are looked at each time, to know the net
            self.shown += pixels[:, 0, 0, 0].tolist()
        x = nn.functional.avg_pool2d(pixels.float(), 2).flatten(1) * self.weight / 64 + self.shift
        return x, x[:, :2]


def images(n, seed=0):
    """uint8 [n, 1, 4, 4]."""
    return torch.randint(256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def numbered(n):
    """Images whose every pixel is the number of the image."""
    return torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(n, 1, 4, 4).contiguous()


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(featurecache, "_kept", {})
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))


@pytest.fixture
def keep(monkeypatch):
    """Compare with at most this many reals."""
    monkeypatch.setattr(reference, "KEEP", 100)
    return 100


def looked(net, pixels, n, **kw):
    """The reference, and the first pixels of the images it took."""
    start = len(net.shown)
    made = look_at_reals(net, pixels, n, **kw)
    return made, net.shown[start:]


def test_all_of_few_reals_are_seen_and_there_are_no_others(keep):
    made, shown = looked(Means(), numbered(60), 20)
    assert sorted(shown) == list(range(60))
    assert made.real.n == 60 and made.others is None
    assert made.is_split and made.n_floor == (20, 40)
    assert look_at_reals(Means(), numbered(60), 500).n_floor == (30, 30)


def test_of_many_reals_the_floors_are_disjoint_and_as_many_as_the_fakes(keep):
    made, shown = looked(Means(), numbered(256), 50)
    assert len(shown) == len(set(shown)) == 150
    assert (made.real.n, made.others.n) == (100, 50)
    assert not made.is_split and made.n_floor == (50, 100)
    ((real, other),) = made.pairs(0)
    assert real is made.real and other is made.others


def test_where_there_are_almost_enough_reals_all_are_split(keep):
    made, shown = looked(Means(), numbered(130), 50)
    assert sorted(shown) == list(range(130))
    assert made.is_split and made.n_floor == (50, 80)
    pairs = list(made.pairs(0))
    assert len(pairs) == reference.FLOOR_SPLITS
    every = torch.cat([made.real.features, made.others.features])[:, 0].sort().values
    for real, fake in pairs:
        assert (len(real.features), len(fake.features), real.n, fake.n) == (80, 50, 80, 50)
        assert torch.equal(torch.cat([real.features, fake.features])[:, 0].sort().values, every)
        assert torch.equal(fake.logits, fake.features[:, :2])
    assert not torch.equal(pairs[0][1].features, pairs[1][1].features)


def test_the_choice_is_random_and_depends_on_the_seed_only(keep):
    torch.manual_seed(1)
    _, first = looked(Means(), numbered(256), 10)
    torch.manual_seed(2)
    featurecache._kept.clear()
    assert looked(Means(1.0), numbered(256), 10)[1] == first != sorted(first)
    assert set(looked(Means(), numbered(256), 10, seed=1)[1]) != set(first)


def test_what_was_seen_is_not_looked_at_again_and_comes_back_the_same(keep):
    net, pixels = Means(), images(250)
    first, shown = looked(net, pixels, 50)
    assert len(shown) == 150
    again, shown = looked(net, pixels.clone(), 50)
    featurecache._kept.clear()  # as after a restart
    from_disk, shown_later = looked(net, pixels, 50)
    assert shown == shown_later == [] and first.key == again.key == from_disk.key
    for a, b in ((first.real, from_disk.real), (first.others, from_disk.others)):
        assert torch.equal(a.features, b.features) and torch.equal(a.logits, b.logits) and a.n == b.n
        assert torch.equal(a.statistics.mean, b.statistics.mean) and torch.equal(a.statistics.cov, b.statistics.cov)


def test_other_reals_seeds_counts_resizers_and_nets_have_another_key(keep):
    pixels = images(250)

    def sized():
        net = Means()
        net.image_shape = (1, 4, 4)
        return net

    changed = pixels.clone()
    changed[249, 0, 3, 3] ^= 1  # whichever half it is in, or neither
    heavier = Means()
    heavier.weight += 1
    keys = [
        look_at_reals(Means(), pixels, 150).key,
        look_at_reals(Means(), changed, 150).key,
        look_at_reals(Means(), pixels.view(250, 1, 2, 8), 150).key,
        look_at_reals(Means(), pixels, 150, seed=1).key,
        look_at_reals(Means(), pixels, 100).key,
        look_at_reals(sized(), pixels, 150, resizer="bicubic").key,
        look_at_reals(heavier, pixels, 150).key,
    ]
    assert None not in keys and len(set(keys)) == len(keys)


def test_a_net_that_sees_otherwise_has_another_key_though_its_weights_are_the_same(keep):
    class Edited(Means):
        def forward(self, pixels):
            features, logits = super().forward(pixels)
            return features.square(), logits

    Edited.__name__ = "Means"  # as when a notebook's cell is changed and run again
    plain, shifted, edited = (look_at_reals(net, images(60), 20) for net in (Means(), Means(0.5), Edited()))
    assert len({plain.key, shifted.key, edited.key}) == 3
    assert torch.allclose(shifted.real.features, plain.real.features + 0.5)
    assert torch.allclose(edited.real.features, plain.real.features.square())


def test_written_to_in_place_reals_are_seen_anew(keep):
    pixels = images(60)
    before = look_at_reals(Means(), pixels, 20).real.features
    pixels.zero_()
    assert not torch.equal(look_at_reals(Means(), pixels, 20).real.features, before)


def test_with_a_function_nothing_is_kept(keep):
    made = look_at_reals(lambda pixels: pixels.float().flatten(1), images(60), 20)
    assert made.key is None and made.real.logits is None
    assert floors(made, ("fd",))["fd"] > 0
    assert not featurecache._kept


def test_the_floor_is_that_of_the_other_reals_where_there_are_enough(keep):
    pixels = images(250)
    made = look_at_reals(Means(), pixels, 80)
    order = torch.randperm(250, generator=torch.Generator().manual_seed(0))
    real, other = (extract(Means(), pixels[rows]) for rows in (order[:100], order[100:180]))
    found = floors(made, METRICS)
    assert found["fd"] == pytest.approx(frechet_distance(real.features, other.features))
    assert (found["kid"], found["kid_error"]) == pytest.approx(kernel_distance(real.features, other.features))
    assert found["is"] == pytest.approx(inception_score(other.logits))
    assert set(found) == {*METRICS, "kid_error"}


def test_the_floor_of_few_reals_is_the_mean_over_the_splits(keep):
    made = look_at_reals(Means(), images(90), 30)
    each = [measure(real, fake, ("fd", "coverage")) for real, fake in made.pairs(3)]
    found = floors(made, ("fd", "coverage"), seed=3)
    for metric in ("fd", "coverage"):
        assert found[metric] == pytest.approx(sum(one[metric] for one in each) / len(each))
    assert floors(made, ("fd",), seed=4)["fd"] != found["fd"]


def test_a_floor_is_computed_once_and_for_its_own_counts(keep, monkeypatch):
    computed = []
    real = reference.measure
    monkeypatch.setattr(reference, "measure", lambda *args: computed.append(args[2]) or real(*args))
    pixels = images(200)
    enough, too_few = look_at_reals(Means(), pixels, 100), look_at_reals(Means(), pixels, 150)
    # The same reals on both sides and the same counts, once as one pair and once as eight splits.
    assert enough.key == too_few.key and enough.n_floor == too_few.n_floor == (100, 100)
    one, several = floors(enough, ("fd",)), floors(too_few, ("fd",))
    assert len(computed) == 1 + reference.FLOOR_SPLITS and one != several
    assert (floors(enough, ("fd",)), floors(too_few, ("fd",))) == (one, several)
    featurecache._kept.clear()
    assert floors(enough, ("fd",)) == one
    assert len(computed) == 1 + reference.FLOOR_SPLITS
    floors(enough, ("precision",))
    floors(enough, ("recall",))  # came with the other
    assert len(computed) == 2 + reference.FLOOR_SPLITS


def test_too_few_reals_and_wrong_ones_get_a_sentence(keep):
    with pytest.raises(ValueError, match=r"too few reals for a floor, 3 v 3: A Fréchet distance of 4 features needs"):
        floors(look_at_reals(Means(), images(6), 20), ("fd",))
    for wrong, message in (
        (images(9).float(), r"Reals must be uint8 \[N, C, H, W\], not torch.float32 \[9, 1, 4, 4\]"),
        (images(9)[:, 0], r"Reals must be uint8 \[N, C, H, W\], not torch.uint8 \[9, 4, 4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            look_at_reals(Means(), wrong, 3)
