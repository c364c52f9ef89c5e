"""Pictures of a finished run: what is in the files, not that there are some."""

import json
import math

import numpy as np
import pytest
import torch
import tyro
from conftest import small_run
from PIL import Image

from ganlib import models
from ganlib.data import ImageSet, load, to_uint8
from ganlib.data import loading as data
from ganlib.latent.inversion import invert
from ganlib.runs import checkpoint, samples
from ganlib.runs.pictures import generate, gif, interpolate, reconstruct
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(folder):
    """The PNGs in ``folder`` in the order of their names, uint8 [n, H, W(, 3)]."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))])


def size(path):
    with Image.open(path) as picture:
        return picture.size


def moving(path):
    """Frames of a GIF that differ from the one before, the number of frames and how long it takes, ms."""
    shown, durations = [], []
    with Image.open(path) as film:
        assert film.info["loop"] == 0
        for k in range(film.n_frames):
            film.seek(k)
            shown.append(np.asarray(film.convert("RGB")).astype(int))
            durations.append(film.info["duration"])
    return sum((a != b).any() for a, b in zip(shown, shown[1:], strict=False)), len(shown), sum(durations)


# --- generate ---------------------------------------------------------------------------------------------


def test_generate_makes_what_the_running_average_makes_of_z(run, capsys):
    path = generate(run, num=170, seed=3)
    z = torch.randn(170, 4, generator=torch.Generator().manual_seed(3))
    wanted = to_uint8(checkpoint.load_generator(run)(z).detach())
    assert path == run / "generated" and np.array_equal(pixels(path), wanted[:, 0].numpy())
    told = capsys.readouterr().out
    assert "170 pictures · step 6, running average · z not truncated, seed 3" in told and str(path) in told
    checkpoint.path_of(run, 6).write_bytes(checkpoint.path_of(run, 6).read_bytes()[:-1])
    generate(run, num=1)
    told = capsys.readouterr().out
    assert "step-000006.safetensors' is damaged" in told and "step 3, running average" in told and "generated-2" in told


def test_a_grid_is_one_picture_of_the_right_size(run, tmp_path):
    path = tyro.cli(generate, args=f"--run {run} --num 6 --grid --out {tmp_path}/new/grid.png".split())
    assert size(path) == (2 + 3 * 30, 2 + 2 * 30)  # 28 pixels and a gap of 2
    sheet, single = np.asarray(Image.open(path)), pixels(generate(run, num=6))
    assert np.array_equal(sheet[2:30, 2:30], single[0]) and np.array_equal(sheet[32:60, 62:90], single[5])
    before = path.read_bytes()
    assert generate(run, num=7, grid=True, out=path) == path.with_name("grid-2.png") and path.read_bytes() == before


def test_truncation_reaches_the_generator(run, monkeypatch, capsys):
    seen, forward = [], models.Generator.forward
    monkeypatch.setattr(models.Generator, "forward", lambda self, z: forward(self, seen.append(z) or z))
    for truncation in (0.0, 0.5):
        generate(run, num=100, truncation=truncation)
    plain, narrow = seen
    assert plain.abs().max() > 2 and narrow.abs().max() <= 0.5 and narrow.std() < 0.5 * plain.std()
    assert "z truncated at ± 0.5" in capsys.readouterr().out


def test_a_single_checkpoint_and_a_colour_generator_will_do(tmp_path):
    path = generate(checkpoint.PRETRAINED / "cifar10.safetensors", num=4, grid=True, out=tmp_path / "ships.png")
    assert size(path) == (70, 70) and Image.open(path).mode == "RGB"


# --- gif --------------------------------------------------------------------------------------------------


def test_the_film_has_the_snapshots_as_frames(run, capsys):
    path = gif(run, fps=4)
    assert path == run / "training.gif" and moving(path) == (2, 3, 3 * 250 + 1500)
    first = samples.cells_of(run / "samples" / "step-000000.png", 28, 28)
    with Image.open(path) as film:
        assert film.size == (242, 242)  # 8 by 8 of them
        corner = np.asarray(film.convert("L"))[32:60, 2:30].astype(int)
    assert abs(corner - first[8, 0].numpy()).max() <= 5  # 128 shades
    told = capsys.readouterr().out
    assert "3 frames of 242×242 pixels" in told and "steps 0 to 6" in told and f"'{path}'" in told
    assert gif(run, max_frames=2, out=path) == run / "training-2.gif" and moving(run / "training-2.gif")[1] == 2


def test_few_images_are_shown_without_what_fills_up_the_snapshot(tmp_path):
    run = small_run(tmp_path / "run", ImageSet(noise(40, size=8), None, (), "noise", "noise"))
    for path in (run / "samples").iterdir():
        samples.write_snapshot(run / "samples", int(path.stem[5:]), noise(11, size=8))
    assert size(gif(run)) == (6 * (4 * 10 + 2), 6 * (3 * 10 + 2))  # 11 images, enlarged, in 4 columns
    assert size(gif(run, cols=2)) == (12 * 22, 12 * 22)  # 2 by 2 of them, as large as a small film


def test_a_long_film_stays_small(tmp_path):
    run = small_run(tmp_path / "run", ImageSet(noise(40, 3, 16), None, (), "noise", "noise"))
    for step in range(70):
        samples.write_snapshot(run / "samples", step, noise(64, 3, 16, seed=step))
    path = gif(run, fps=20)
    assert path.stat().st_size <= 2_000_000 and moving(path)[0] >= 15


def test_a_damaged_snapshot_is_told_and_left_out(run, capsys):
    (run / "samples" / "step-000003.png").write_bytes(b"\x89PNG")
    samples.write_snapshot(run / "samples", 4, noise(3, 3, 28))
    samples.write_snapshot(run / "samples", 5, noise(64, 1, 9))
    assert moving(gif(run))[1] == 2 and capsys.readouterr().out.count("is damaged; the film") == 3
    for path in (run / "samples").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="'.*samples' can be read"):
        gif(run)


# --- interpolate ------------------------------------------------------------------------------------------


@pytest.fixture
def lively(run, monkeypatch):
    """The run's generator with larger weights: after six steps all z give nearly the same picture."""
    generator = checkpoint.load_generator(run)
    with torch.no_grad():
        generator[0].weight.mul_(50)
    monkeypatch.setattr(checkpoint, "load_generator", lambda folder: generator)
    return generator


@pytest.mark.parametrize(("loop", "n"), [(True, 3 * 4), (False, 2 * 4 + 1)])
def test_a_walk_moves_and_passes_its_points(run, lively, capsys, loop, n):
    path = interpolate(run, points=3, frames=4, rows=2, loop=loop)
    changes, shown, milliseconds = moving(path)
    assert shown == n and changes == n - 1
    assert abs(milliseconds - (1000 * n / 12 + (0 if loop else 1500))) <= 10
    told, strip = capsys.readouterr().out, path.with_suffix(".png")
    assert f"{n} frames" in told and str(path) in told and str(strip) in told
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    wanted = to_uint8(lively(z.flatten(0, 1))).unflatten(0, (2, 3))
    assert size(strip) == (2 + 30 * (6 if loop else 5), 2 + 30 * 2)
    for row in range(2):
        for k in range(3):  # every other column is a point
            cell = np.asarray(Image.open(strip))[2 + 30 * row :][:28, 2 + 60 * k :][:, :28]
            assert np.abs(cell.astype(int) - wanted[row, k, 0].numpy()).max() <= 1


def test_walks_follow_their_seed_and_overwrite_nothing(run, lively):
    how = {"points": 2, "frames": 3, "rows": 1}
    made = [interpolate(run, seed=seed, **how) for seed in (1, 1, 2)]
    assert [path.name for path in made] == ["interpolation.gif", "interpolation-2.gif", "interpolation-3.gif"]
    one, two, three = (path.with_suffix(".png").read_bytes() for path in made)
    assert one == two != three
    made[0].unlink()
    assert interpolate(run, **how).name == "interpolation-4.gif"  # the first one's strip is still there


# --- reconstruct ------------------------------------------------------------------------------------------

QUICK = {"steps": 4, "num": 3}


def test_every_checkpoint_is_inverted_on_images_of_the_runs_classes_that_it_never_saw(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "FAKE_COUNT", 240)
    run = small_run(tmp_path / "run", load("fake", image_size=16).of_class("ring"))
    found = reconstruct(run, **QUICK)
    assert "240 test generated shapes" in capsys.readouterr().out and [row["step"] for row in found["rows"]] == [3, 6]
    assert json.loads((run / "reconstruction" / "reconstruction.json").read_text()) == found
    held_out = load("fake", split="test", image_size=16).of_class("ring").take(3)
    sheet = np.asarray(Image.open(run / "reconstruction" / found["picture"]))[::6, ::6]  # 6 times as large
    cells = sheet[2:, 2:].reshape(3, 18, 3, 18, 3)[:, :16, :, :16].transpose(0, 2, 4, 1, 3)
    assert np.array_equal(cells[0], held_out.pixels.numpy())
    for number, row in enumerate(found["rows"], 1):
        generator = checkpoint.load_generator(checkpoint.path_of(run, row["step"]))
        again = invert(generator, held_out, steps=4, progress=False)
        assert np.array_equal(cells[number], again.images.numpy())
        assert row["error"] == pytest.approx(again.error.tolist(), rel=1e-4)


def test_images_of_ones_own_some_checkpoints_and_another_folder(run, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(noise(5, 3, 30)):  # in colour and larger: they come as the run's images are
        Image.fromarray(colour.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    found = reconstruct(run, folder, checkpoints=(6,), out=tmp_path / "there", **QUICK)
    assert [row["step"] for row in found["rows"]] == [6]
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"reconstruction.png", "reconstruction.json"}
    checkpoint.path_of(run, 3).write_bytes(b"torn")
    bernoulli = reconstruct(run, folder, likelihood="bernoulli", **{**QUICK, "num": 60})
    assert len(bernoulli["rows"]) == 1 and len(bernoulli["rows"][0]["error"]) == 5  # there are no more
    assert "step-000003.safetensors' is damaged" in capsys.readouterr().out
    with pytest.raises(ValueError, match="None of the checkpoints asked for .* is intact"):
        reconstruct(run, folder, checkpoints=(3,), **QUICK)


def test_a_set_without_a_test_split_gives_images_that_were_trained_on(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for number, grey in enumerate(noise(20, 1, 16)):
        Image.fromarray(grey[0].numpy()).save(tmp_path / "photos" / f"{number}.png")
    run = small_run(tmp_path / "run", load(tmp_path / "photos"))
    assert reconstruct(run, data_root=tmp_path, **QUICK)["images"].startswith("3 of photos · 20 images")
    assert "no split 'test'" in capsys.readouterr().out
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="photos.*data_root"):
        reconstruct(run, **QUICK)


# --- what cannot be done ----------------------------------------------------------------------------------


def torn(run):
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    return run


REFUSED = [
    (lambda run: generate(run, num=0), "num is 0.*at least 1"),
    (lambda run: generate(run, num=10**9, grid=True), "num is 1000000000.*at most 10,000"),
    (lambda run: generate(run, truncation=-1.0), "truncation is -1.0.*above 0"),
    (lambda run: generate(run, truncation=math.nan), "truncation is nan"),
    (lambda run: generate(run, seed=2**70), f"seed {2**70}"),
    (lambda run: generate(run, grid=True, out=run / "grid.jpg"), "grid.jpg'.*ends in .png"),
    (lambda run: generate(run / "none"), "no checkpoint.*none'"),
    (lambda run: generate(run, out=run / "config.json" / "x"), "Cannot write.*config.json"),
    (lambda run: generate(run, grid=True, out=run / "config.json" / "x.png"), "Cannot write.*config.json"),
    (lambda run: generate(torn(run)), "is damaged"),
    (lambda run: gif(run, fps=0), "fps is 0"),
    (lambda run: gif(run, fps=math.nan), "fps is nan"),
    (lambda run: gif(run, cols=0), "cols is 0.*at least 1"),
    (lambda run: gif(run, max_frames=0), "max_frames is 0.*at least 1"),
    (lambda run: gif(run, out=run / "film"), "film'.*ends in .gif"),
    (lambda run: gif(run / "none"), "no run in '.*none'"),
    (lambda run: interpolate(run, points=1), "points is 1.*at least 2"),
    (lambda run: interpolate(run, points=0, rows=0), "points is 0"),
    (lambda run: interpolate(run, frames=0), "frames is 0.*at least 1"),
    (lambda run: interpolate(run, rows=0), "rows is 0.*at least 1"),
    (lambda run: interpolate(run, frames=10**6), "frames is 1000000.*at most 416"),
    (lambda run: interpolate(run / "none"), "no checkpoint.*none'"),
    (lambda run: reconstruct(run / "none"), "no run in '.*none'"),
    (lambda run: reconstruct(run, checkpoints=(4,)), r"no checkpoint of step 4; it has: \[3, 6\]"),
    (lambda run: reconstruct(run, num=0), "num is 0.*at most 64"),
    (lambda run: reconstruct(run, steps=0), "steps is 0"),
    (lambda run: reconstruct(run, run.parent / "none"), "no folder or archive.*none"),
]


@pytest.mark.parametrize(("command", "sentence"), REFUSED)
def test_what_cannot_be_done_gets_a_sentence_and_leaves_nothing(run, command, sentence):
    before = set(content(run))
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        command(run)
    assert "\n" not in str(error.value)
    assert set(content(run)) == before and not (run / "none").exists()
