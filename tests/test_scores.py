"""Scores move the right way and say their protocol, their floor and what is best; memory does not grow with them."""

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ganlib._runtime.randomness import rng
from ganlib.data import ImageSet, load
from ganlib.metrics import DigitScore, distances, extract, features, score, score_digits, scores, stack, stacked_modes
from ganlib.metrics.features import reference_for
from ganlib.metrics.scores import METRICS, floors, values_of
from helpers import Colours, noise, pictures, small_generator

PROTOCOL = {"split", "resizer", "mode", "ema", "seed", "features", "n_fake", "n_real", "n_floor", "n_images"}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def halves():
    """Two disjoint sets of 1,000 digits: (pixels, labels) of each, in random order."""
    digits = load("mnist", download=False)
    rows = torch.randperm(len(digits), generator=rng(0))[:2000].split(1000)
    return [(digits.pixels[some], digits.labels[some]) for some in rows]


def test_values_are_those_of_the_distances():
    real, fake = pictures(400), pictures(300, 1, 50)
    report = score(fake, real, Colours())
    x, y = extract(Colours(), real).features, extract(Colours(), fake).features
    assert report["fd"].value == pytest.approx(distances.frechet_distance(x, y), rel=1e-4)
    pairs = *distances.precision_recall(x, y), *distances.density_coverage(x, y)
    assert tuple(report[name].value for name in METRICS[3:]) == pytest.approx(pairs, abs=1e-6)
    mean, deviation = distances.kernel_distance(x, y, seed=0)
    assert report["kid"].value == pytest.approx(mean, abs=3 * deviation + 1e-6)
    assert report["kid"].error > 0 and report["fd"].error is None


def test_the_lines_say_their_protocol_once_and_json_keeps_it():
    real = ImageSet(pictures(400), None, (), "noise", "noise", split="test")
    report = score(pictures(200, 1), real, Colours())
    lines = str(report).splitlines()
    assert lines.pop() == "  200 samples v 400 of 400 test images · given images · seed 0" and len(lines) == 7
    fd = report["fd"]
    assert lines[0] == f"FD(colours) {fd.value:.3g} · floor {fd.floor:.3g} (200 v 200 real)"
    assert str(fd).splitlines() == [lines[0], "  200 samples v 400 of 400 test images · given images · seed 0"]
    assert lines[1].startswith(f"KID(colours) {report['kid'].value:.3g} ± {report['kid'].error:.2g} · floor ")
    assert [line.partition("(")[0] for line in lines[2:]] == ["IS", "precision", "recall", "density", "coverage"]
    kept = json.loads(json.dumps(report.to_dict()))
    assert list(kept) == [f"{m}_colours_200" for m in METRICS]
    assert all({"value", "floor", "error"} | PROTOCOL == set(entry) for entry in kept.values())
    assert report.numbers() == {name: entry["value"] for name, entry in kept.items()}


def test_no_printed_line_is_longer_than_a_cell_is_wide():
    counts = {"n_fake": 50_000, "n_real": 10_000, "n_images": 202_599, "n_floor": [10_000, 10_000]}
    how = {"features": "inception", "split": "train", "resizer": "tf1-bilinear-299", "mode": "eval", "ema": False}
    report = scores.Report(fd=scores.Score("fd", 137.4, 0.000123, None, counts | how | {"seed": 12}))
    report["kid"] = scores.Score("kid", 0.0774, -0.000103, 0.0089, report["fd"].protocol | {"n_fake": 10_000})
    report["precision"] = scores.Score("precision", 0.8, 0.9, None, report["kid"].protocol)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100 and [line[:2] == "  " for line in lines] == [False, True, False, False, True]
    digits = DigitScore(137.4, 0.00012, 0.999, 0.999, 0.1, 10, (0.1,) * 10, 10_000, 60_000, (10_000, 50_000))
    assert max(map(len, str(digits).splitlines())) <= 100


def test_a_score_says_which_number_is_best_and_which_way():
    for metric, way in {"fd": "lowest", "kid": "lowest", **dict.fromkeys(METRICS[2:], "highest")}.items():
        others = tuple(name for name in ("fd", "recall") if name != metric)
        numbers = score(pictures(60), pictures(90, 1), Colours(), metrics=(metric, *others)).numbers()
        assert numbers.best == (next(iter(numbers)), way) == (f"{metric}_colours_60", way)
    for n, short in ((999, "999"), (1000, "1k"), (1500, "1500"), (20_000, "20k")):
        digits = DigitScore(1.0, 0.5, 0.9, 0.9, 0.1, 10, (0.1,) * 10, n, 5000, (2500, 2500)).numbers()
        assert digits.best == (f"fd_digitnet_{short}", "lowest") and digits[f"fd_digitnet_{short}"] == 1.0


def test_equal_distributions_score_the_floor_and_others_far_above():
    real, metrics = pictures(2000), ("fd", "precision", "recall")
    alike, other = (score(pictures(1000, 5, spread), real, Colours(), metrics=metrics) for spread in (60, 20))
    assert alike["fd"].value < 3 * alike["fd"].floor
    assert other["fd"].value > 20 * other["fd"].floor
    assert other["recall"].value < 0.5 * other["recall"].floor and other["precision"].value > 0.9


def test_the_protocol_knows_the_average_the_mode_and_the_resizer():
    generator, real, how = small_generator(), pictures(300), {"n": 100, "metrics": ("fd",)}
    net = Colours()
    plain = score(generator, real, net, **how)["fd"]
    generator.averaged = True
    averaged = score(generator, real, net, resizer="bicubic", **how)["fd"]
    in_train_mode = score(generator, real, net, mode="train", **how)["fd"]
    given = score(pictures(100), real, net, **how)["fd"]
    assert [one.protocol["ema"] for one in (plain, averaged, given)] == [False, True, None]
    assert plain.value == averaged.value != in_train_mode.value and given.protocol["mode"] is None
    made = {"no EMA, eval": plain, "EMA, eval · bicubic": averaged, "EMA, train": in_train_mode, "given images": given}
    assert all(str(one).endswith(f" · {end} · seed 0") for end, one in made.items())


def test_the_reals_are_seen_once():
    def cost(real):
        net.shown.clear()
        found.append(score(fake, real, net, metrics=("fd",)))
        return len(net.shown)

    found, net, real, fake = [], Colours(), pictures(300), pictures(100, 1)
    assert (cost(real), cost(real.clone())) == (400, 100) and found[0] == found[1]
    real[0] = 255 - real[0]
    assert cost(real) == 400


@pytest.mark.parametrize(
    ("fakes", "n_real", "how", "message"),
    [
        (small_generator(), 50, {"metrics": ("fid",)}, "no metric 'fid'; there are: fd, kid, is"),
        (small_generator(), 50, {"n": 1}, "2 samples and 4 reals or more, not 1 and 50"),
        (pictures(1), 50, {}, "2 samples and 4 reals or more, not 1 and 50"),
        (pictures(50), 3, {}, "2 samples and 4 reals or more, not 50 and 3"),
        (pictures(8), 50, {"metrics": ("fd",)}, "of 12 features .* not 8"),
        (pictures(50), 6, {"metrics": ("coverage",)}, "too few reals for a floor, 3 v 3: .* at least 6"),
        (pictures(60), 50, {"metrics": ("is",), "net": lambda pixels: Colours()(pixels)[0]}, "logits"),
    ],
)
def test_what_cannot_be_scored_gets_a_sentence(fakes, n_real, how, message):
    with pytest.raises(ValueError, match=message):
        score(fakes, pictures(n_real), **{"net": Colours(), "n": 50} | how)


def test_the_floor_is_that_of_the_other_reals_where_there_are_enough(monkeypatch):
    monkeypatch.setattr(features, "KEEP", 100)
    pixels, order = pictures(250), torch.randperm(250, generator=rng(0))
    real, other = (extract(Colours(), pixels[rows]) for rows in (order[:100], order[100:180]))
    found = floors(reference_for(Colours(), pixels, 80), METRICS)
    assert found == values_of(real, other, METRICS) and set(found) == {*METRICS, "kid_error"}
    assert found["fd"] == pytest.approx(distances.frechet_distance(real.features, other.features))
    assert found["is"] == pytest.approx(distances.inception_score(other.logits))


def test_the_floor_of_few_reals_is_the_mean_over_the_splits_and_computed_once(monkeypatch):
    monkeypatch.setattr(features, "KEEP", 100)
    made, metrics = reference_for(Colours(), pictures(90), 30), ("kid", "coverage")
    each = [values_of(real, fake, metrics, 3, 12) for real, fake in made.pairs(3)]
    found = floors(made, metrics, seed=3)
    for metric in ("kid", "kid_error", "coverage"):
        assert found[metric] == pytest.approx(sum(one[metric] for one in each) / 8)
    assert floors(made, ("coverage",), seed=4)["coverage"] != found["coverage"]
    # The same reals on both sides and the same counts, once as one pair and once as eight splits.
    enough, too_few = (reference_for(Colours(), pictures(200), n) for n in (100, 150))
    assert enough.key == too_few.key and enough.n_floor == too_few.n_floor == (100, 100)
    one, several = floors(enough, ("fd",)), floors(too_few, ("fd",))
    unhashed = [made._replace(key=None, real=real, others=[real], is_split=False) for real in (made.real, enough.real)]
    assert floors(unhashed[0], ("recall",)) == floors(unhashed[1], ("recall",)) == {"precision": 1, "recall": 1}
    monkeypatch.setattr(scores, "values_of", None)
    assert (floors(enough, ("fd",)), floors(too_few, ("fd",))) == (one, several) and one != several


def test_other_reals_score_the_floor_noise_far_above_and_classes_are_counted(halves):
    (pixels, labels), (real, _) = halves
    found = score_digits(pixels, real)
    assert (found.n_fake, found.n_real, found.n_floor) == (1000, 1000, (500, 500))
    assert 0 < found.fd < found.fd_floor < 5  # 1,000 v 1,000 lies below the floor of 500 v 500
    assert 0.95 < found.sure < 1 and 0.95 < found.sure_real < 1 and sum(found.histogram) == pytest.approx(1)
    assert found.covered == 10 and found.smallest_share == min(found.histogram) == pytest.approx(0.08, abs=0.02)
    found = score_digits(noise(500, 1, 28), real)
    assert found.fd > 50 * found.fd_floor
    three, seven = (pixels[labels == k][:1] for k in (3, 7))
    found = score_digits(three.expand(300, -1, -1, -1), real)
    assert (found.covered, found.smallest_share, found.histogram[3]) == (1, 0, 1) and found.fd > 20 * found.fd_floor
    assert score_digits(torch.cat([three.expand(99, -1, -1, -1), seven]), real).covered == 2  # 1% is enough


def test_the_distance_grows_with_noise_blur_and_missing_classes(halves):
    (pixels, labels), (real, _) = halves
    random = torch.randn(pixels.shape, generator=rng(0))
    for sets in (
        [(pixels + s * random).clamp(0, 255).to(torch.uint8) for s in (0, 20, 40, 80)],
        [nn.functional.avg_pool2d(pixels.float(), k, 1, k // 2).to(torch.uint8) for k in (1, 3, 5)],
        [pixels[labels >= c] for c in (0, 1, 4, 8)],
    ):
        distances = [score_digits(images, real).fd for images in sets]
        assert all(a * 1.3 < b for a, b in pairwise(distances)), distances


def test_a_digit_score_prints_its_protocol_and_goes_to_json(halves):
    found = score_digits(halves[0][0], ImageSet(halves[1][0], None, (), "mnist", "MNIST"), n=200, seed=3)
    assert str(found) == (
        f"FD(digitnet) {found.fd:.1f} · floor {found.fd_floor:.2g} (200 v 800 real) · 200 samples v 1,000 real\n  sure "
        f"of {found.sure:.0%} (real {found.sure_real:.0%}) · smallest class {found.smallest_share:.1%} · "
        f"{found.covered} of 10 classes"
    )
    kept = json.loads(json.dumps(found.to_dict()))
    assert (kept["fd_digitnet_200"], kept["fd_digitnet_200_floor"]) == (found.fd, found.fd_floor)
    assert (kept["n_floor"], len(kept["histogram"]), kept["covered"], kept["seed"]) == ([200, 800], 10, 10, 3)
    assert list(found.numbers()) == ["fd_digitnet_200", "sure", "smallest_share"]


@pytest.mark.parametrize("shape", [(5, 1, 32, 32), (5, 3, 28, 28)])
def test_images_that_are_no_digits_are_refused_on_either_side(shape, halves):
    for sides in ((torch.zeros(shape), halves[1][0]), (halves[1][0], torch.zeros(shape).byte())):
        with pytest.raises(ValueError, match=rf"digitnet .*\[\d+, {shape[1]}, {shape[2]}, {shape[3]}\]"):
            score_digits(*sides)


# --- stacked digits -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stacks():
    """2,000 digits, and stacks of them."""
    digits = load("mnist", n=2000, download=False)
    return digits, stack(digits, 3000, seed=3)


def test_each_channel_is_one_of_the_digits_and_the_label_is_their_number(stacks):
    digits, stacks = stacks
    assert stacks.pixels.shape == (3000, 3, 28, 28) and stacks.pixels.dtype == torch.uint8
    flat = digits.pixels.flatten(1)
    for picture, label in zip(stacks.pixels[:10], stacks.labels[:10], strict=True):
        rows = [(flat == channel.flatten()).all(1).nonzero().flatten() for channel in picture]
        assert all(int(d) in digits.labels[k] for d, k in zip(f"{int(label):03d}", rows, strict=True))
    assert torch.equal(stack(digits, 50, seed=4).pixels, stack(digits, 50, seed=4).pixels)
    assert not torch.equal(stack(digits, 3000, seed=4).pixels, stacks.pixels)


def test_modes_are_read_back_and_counted_and_the_most_are_best(stacks):
    digits, stacks = stacks
    found = stacked_modes(stacks)
    assert abs(found.modes - stacks.labels.unique().numel()) < 30 and abs(found.modes_floor - 950) < 20
    assert found.kl == pytest.approx(found.kl_floor, abs=0.1)
    assert str(found) == (
        f"{found.modes} of 1,000 modes (even draws: {found.modes_floor}) · KL {found.kl:.2f} (even draws: "
        f"{found.kl_floor:.2f})\n  3,000 samples read by the digit net · seed 0"
    )
    assert found.numbers() == {"modes_digitnet_3k": found.modes, "kl": found.kl}
    assert found.numbers().best == ("modes_digitnet_3k", "highest")
    found = stacked_modes(digits.pixels[digits.labels == 7][:1].expand(200, 3, -1, -1))
    assert found.modes == 1 and found.kl == pytest.approx(math.log(1000))
    twice = stacks.pixels.clone()
    twice[:, 1] = twice[:, 0]  # the same digit in two channels: a hundred modes, and the net misreads a few
    found = stacked_modes(twice)
    assert 95 <= found.modes <= 150 and found.kl == pytest.approx(math.log(10), abs=0.3)


def test_what_cannot_be_stacked_gets_a_sentence(stacks):
    digits, stacks = stacks
    for do, message in (
        (lambda: stack(ImageSet(digits.pixels, None, (), "mine", "mine"), 5), r"labels, and 'mine' .*load\('mnist'\)"),
        (lambda: stack(stacks, 5), "grey digits .* 'stacked mnist'"),
        (lambda: stacked_modes(digits.pixels[:10]), "3 channels, but these images have 1"),
    ):
        with pytest.raises(ValueError, match=message):
            do()
