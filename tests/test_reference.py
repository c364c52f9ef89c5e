"""The reals of a score: which they are, what is kept of them, what makes it new, and what real against real gives."""

import pytest
import torch
from torch import nn

from ganlib._runtime.randomness import rng
from ganlib.metrics import extract, frechet_distance, inception_score, kernel_distance, reference
from ganlib.metrics.reference import METRICS, cached, floors, reference_for, values_of


class Means(nn.Module):
    """Means of the quarters of grey 4×4 images, and two logits; remembers what it was shown."""

    name, image_shape = "means", (1, 4, 4)

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
    return torch.randint(256, (n, 1, 4, 4), generator=rng(seed)).to(torch.uint8)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache; and a score compares with at most 100 reals."""
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(reference, "KEEP", 100)
    return tmp_path / "scores"


def looked(total, n, net=None, **how):
    """The reference of images whose every pixel is their number, and which of them were looked at."""
    net = net or Means()
    numbered = torch.arange(total, dtype=torch.uint8).view(-1, 1, 1, 1).expand(total, 1, 4, 4).contiguous()
    return reference_for(net, numbered, n, **how), net.shown


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
def test_which_reals_are_looked_at_and_how_many_the_floor_compares(total, n, seen, is_split, n_floor):
    made, shown = looked(total, n)
    assert len(shown) == len(set(shown)) == seen and shown != sorted(shown)
    torch.manual_seed(n)  # the choice depends on the seed only
    assert looked(total, n, Means(1.0))[1] == shown != looked(total, n, seed=1)[1]
    assert (made.is_split, made.n_floor) == (is_split, n_floor)
    assert made.real.statistics.n == min(total, 100) and sum(o.statistics.n for o in made.others) == max(seen - 100, 0)
    pairs = list(made.pairs(0))
    assert len(pairs) == (reference.FLOOR_SPLITS if is_split else 1)
    for real, fake in pairs:
        assert (fake.statistics.n, real.statistics.n) == (len(fake.features), len(real.features)) == n_floor
        together = torch.cat([real.features, fake.features])[:, 0] * 64
        assert together.sort().values.tolist() == sorted(shown)
        assert torch.equal(fake.logits, fake.features[:, :2])
    assert not is_split or not torch.equal(pairs[0][1].features, pairs[1][1].features)


def test_what_was_seen_is_not_looked_at_again_and_comes_back_the_same():
    net, pixels = Means(), images(250)
    first = reference_for(net, pixels, 50)
    assert len(net.shown) == 150
    again = reference_for(net, pixels.clone(), 50)
    assert len(net.shown) == 150 and first.key == again.key
    for a, b in ((first.real, again.real), (first.others[0], again.others[0])):
        assert torch.equal(a.features, b.features) and torch.equal(a.logits, b.logits)
        assert all(map(torch.equal, a.statistics[:2], b.statistics[:2])) and a.statistics.n == b.statistics.n
    pixels.zero_()  # in place
    assert not torch.equal(reference_for(net, pixels, 50).real.features, first.real.features)


def test_other_reals_seeds_counts_resizers_and_nets_have_another_key():
    class Edited(Means):
        def forward(self, pixels):
            features, logits = super().forward(pixels)
            return features.square(), logits

    Edited.__name__ = "Means"  # as when a notebook's cell is changed and run again
    pixels, heavier, renamed = images(250), Means(), Means()
    heavier.weight += 1
    renamed.name = "other"
    changed = pixels.clone()
    changed[249, 0, 3, 3] ^= 1  # whichever half it is in, or neither
    made = [
        *(reference_for(Means(), some, 150) for some in (pixels, changed, pixels.view(250, 1, 2, 8))),
        *(reference_for(Means(), pixels, *how) for how in ((150, 1), (100,), (150, 0, "bicubic"))),
        *(reference_for(net, pixels, 150) for net in (heavier, renamed, Means(0.5), Edited())),
    ]
    assert None not in {one.key for one in made} and len({one.key for one in made}) == len(made)
    assert torch.allclose(made[-1].real.features, made[0].real.features.square())


def test_with_a_function_nothing_is_kept(folder):
    made = reference_for(lambda pixels: pixels.float().flatten(1), images(60), 20)
    assert made.key is None and made.real.logits is None
    assert floors(made, ("fd",))["fd"] > 0 and not folder.exists()


def test_the_floor_is_that_of_the_other_reals_where_there_are_enough():
    pixels, order = images(250), torch.randperm(250, generator=rng(0))
    real, other = (extract(Means(), pixels[rows]) for rows in (order[:100], order[100:180]))
    found = floors(reference_for(Means(), pixels, 80), METRICS)
    assert found["fd"] == pytest.approx(frechet_distance(real.features, other.features))
    assert (found["kid"], found["kid_error"]) == pytest.approx(kernel_distance(real.features, other.features))
    assert found["is"] == pytest.approx(inception_score(other.logits))
    assert set(found) == {*METRICS, "kid_error"}


def test_the_floor_of_few_reals_is_the_mean_over_the_splits_and_computed_once(monkeypatch):
    made = reference_for(Means(), images(90), 30)
    each = [values_of(real, fake, ("kid", "coverage"), 3, 12) for real, fake in made.pairs(3)]
    found = floors(made, ("kid", "coverage"), seed=3)
    for metric in ("kid", "kid_error", "coverage"):
        assert found[metric] == pytest.approx(sum(one[metric] for one in each) / 8)
    assert floors(made, ("coverage",), seed=4)["coverage"] != found["coverage"]
    # The same reals on both sides and the same counts, once as one pair and once as eight splits.
    enough, too_few = (reference_for(Means(), images(200), n) for n in (100, 150))
    assert enough.key == too_few.key and enough.n_floor == too_few.n_floor == (100, 100)
    one, several = floors(enough, ("fd",)), floors(too_few, ("fd",))
    monkeypatch.setattr(reference, "values_of", None)
    assert (floors(enough, ("fd",)), floors(too_few, ("fd",))) == (one, several) and one != several


def test_too_few_reals_get_a_sentence():
    with pytest.raises(ValueError, match=r"too few reals for a floor, 3 v 3: .* 4 features"):
        floors(reference_for(Means(), images(6), 20), ("fd",))


def computing(value=1.0):
    """A function that counts its calls, and what it gives: not contiguous, of several types, one without dimensions."""
    calls = []
    tensors = {"x": torch.full((3, 2), value).T, "n": torch.tensor(7), "d": torch.tensor([0.1]).double()}
    return lambda: calls.append(1) or tensors, calls


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_a_key_is_computed_once_and_a_damaged_file_anew_wherever_the_damage_is(folder):
    compute, calls = computing()
    good = compute()
    for _ in range(2):
        assert same(cached("a", compute), good) and len(calls) == 2
    cached("b", compute), cached(None, compute)
    assert len(calls) == 4 and len(list(folder.iterdir())) == 2
    for path in folder.iterdir():
        intact = path.read_bytes()
        flipped, half = intact[:-1] + bytes([intact[-1] ^ 1]), intact[: len(intact) // 2]
        no_hash = reference.save({name: torch.zeros_like(tensor).contiguous() for name, tensor in good.items()})
        for damaged in (
            b"",
            b"\0",
            b"not safetensors",
            b"\xff" * 64,
            half,
            intact[:-1],
            flipped,
            intact + b"x",
            no_hash,
        ):
            path.write_bytes(damaged)
            calls.clear()
            assert same(cached("a", compute), good) and same(cached("b", compute), good) and len(calls) == 1, damaged[
                :20
            ]
            assert path.read_bytes() == intact


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_no_errors(folder, monkeypatch):
    def fail(path, content):
        raise OSError("No space left on device")

    compute, calls = computing()
    with monkeypatch.context() as full:
        full.setattr(reference.durable, "write", fail)
        assert same(cached("a", compute), compute()) and same(cached("a", compute), compute()) and len(calls) == 3
    folder.rmdir()
    folder.write_text("a file where the folder would be")
    assert same(cached("b", compute), compute()) and same(cached("b", compute), compute()) and len(calls) == 6
    folder.unlink()
    with pytest.raises(ZeroDivisionError):  # an error while computing keeps nothing
        cached("c", lambda: 1 / 0)
    assert not folder.exists()
