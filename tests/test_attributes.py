"""The benchmark of attribute directions, asked of a generator whose truth is known; and run as a whole, tiny."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import attributes
from ganlib import latent, load

EDGES = (0.0, 0.0, 0.0, 0.6745, 0.6745, 0.0, -0.5, 0.0)


class Dials(nn.Module):
    """Pixel k shows how far the k-th number of z is beyond its edge: eight attributes that know nothing of each other,
    each the half of the latent space beyond a plane."""

    z_dim = 10

    def __init__(self):
        super().__init__()
        self.edges = nn.Parameter(torch.tensor(EDGES))

    def forward(self, z):
        return ((z[:, :8] - self.edges) / 10).view(-1, 1, 1, 8)


def dial(pixels):
    return pixels.flatten(1) / 255


@pytest.fixture(scope="module")
def judged():
    return attributes.judge(Dials(), dial, n=12_000)


def test_half_spaces_flip_as_computed(judged):
    for name, edge in zip(attributes.NAMES, EDGES, strict=True):
        found = judged["attributes"][name]
        share = 0.5 - math.erf(edge / math.sqrt(2)) / 2
        assert found["share"] == pytest.approx(share, abs=0.03)
        for strength in attributes.STRENGTHS:
            expected = attributes.half_space(share, strength)
            assert found["flips"][strength] == pytest.approx(expected, abs=0.02), (name, strength)
            assert found["moved"][strength] == pytest.approx(strength, rel=0.02)  # the dials are linear
        assert found["wrong_way"] == 0


def test_a_walk_changes_its_own_attribute_alone(judged):
    for name, found in judged["attributes"].items():
        assert found["changes"].pop(name) == found["flips"][attributes.FAR] > 0.95
        assert max(found["changes"].values()) < 0.05  # what is left is the noise of 12,000 draws


def test_the_rate_is_that_of_flips():
    z, fresh = latent.draw_z(1000, 10, 1), latent.draw_z(500, 10, 2)
    along, gap = attributes.directions(Dials(), dial, z)
    changed, moved = attributes.walk_all(Dials(), dial, fresh, along, 0.7)
    for k in (0, 3):
        found = latent.flips(Dials(), fresh, along[k], lambda pixels, k=k: dial(pixels)[:, k] > 0.5, 0.7)
        assert changed[k, k].item() == pytest.approx(found)
    assert moved.shape == gap.shape == (8,) and changed.shape == (8, 8)


def test_a_half_space_by_hand():
    # P(|z| < 2 φ(0) / 0.5) for a half; for a quarter, the plane lies at 0.6745 and the means at 1.271 and -0.424.
    assert attributes.half_space(0.5, 1) == pytest.approx(math.erf(4 * math.exp(0) / math.sqrt(2 * math.pi) / 2**0.5))
    assert attributes.half_space(0.25, 1) == pytest.approx(0.837, abs=0.001)
    assert attributes.half_space(0.25, 0) == 0 and attributes.half_space(0.75, 3) > 0.999


def test_arithmetic_with_one_vector_each_is_as_good_as_three_signs_make_it(judged):
    """The sum has an attribute if |x| + |y| > |w| for three normal numbers: 1 - 0.2163, the share of a cone."""
    one, three, hundred = (judged["arithmetic"][k]["smile + glasses"] for k in (1, 3, 100))
    assert one["by_chance"] == pytest.approx(0.25, abs=0.03)
    assert one["share"] == pytest.approx(0.7837**2, abs=0.03)
    assert one["share"] < three["share"] - 0.1 and hundred["share"] == hundred["as_long"] == 1
    assert one["as_long"] == pytest.approx(one["share"], abs=0.001)  # a length changes no sign
    assert one["length"] > 1.6 * three["length"] > 6 * hundred["length"] / 2


@pytest.mark.slow
def test_the_reader_learns_to_read(quickly):
    faces, unseen = load("toyfaces", n=3000, image_size=32), load("toyfaces", n=200, image_size=32, split="test")
    known = attributes.truth(unseen)
    assert known.shape == (200, 8) and known.min() >= 0 and known.max() <= 1
    assert torch.equal(known[:, 7] > 0.5, (unseen.attribute("background") - 0.5).abs() > 0.25)
    assert torch.equal(known[:, 5] > 0.5, unseen.attribute("blond_hair") + unseen.attribute("grey_hair") > 0)
    found = attributes.examine(attributes.train_reader(faces), unseen)
    assert found["hat"]["right"] > 0.93 and found["smile"]["right"] > 0.9
    assert found["dark_skin"]["error"] < 0.15 and found["red_ground"]["error"] < 0.15


@pytest.mark.slow
def test_the_benchmark_runs_and_goes_on(monkeypatch, quickly, tmp_path, capsys):
    small = replace(attributes.TOYFACES, n=120, image_size=16, z_dim=4, g_width=2, d_width=2, g_lr=0.05, steps=3)
    monkeypatch.setattr(attributes, "TOYFACES", small)
    monkeypatch.setattr(attributes, "UNSEEN", 60)
    monkeypatch.setattr(attributes, "N", 200)
    monkeypatch.setattr(attributes, "FOLDER", tmp_path / "runs")

    # After three steps nothing is drawn that a reader could read: a pixel brighter than in most images or not will do.
    def brighter(pixels):
        red = pixels[:, 0, 4, 4:12].float()
        return 0.5 + (red - red.median(0).values - 0.5) / 255

    monkeypatch.setattr(attributes, "train_reader", lambda faces: brighter)
    for seeds in (["0"], ["0", "1"]):
        monkeypatch.setattr("sys.argv", ["attributes.py", "--out", str(tmp_path / "a.json"), "--seeds", *seeds])
        attributes.main()
        written = json.loads((tmp_path / "a.json").read_text())
        assert list(written["runs"]) == seeds and written["recipe"]["steps"] == 3
    first, second = written["runs"].values()
    assert first["steps"] == second["steps"] == 3 and first["attributes"] != second["attributes"]
    assert list(first["attributes"]) == list(attributes.NAMES) == list(first["random_changes"])
    printed = capsys.readouterr().out
    assert "smile       right in" in printed and "wrong way" in printed and "3 z each: glasses + hat" in printed
