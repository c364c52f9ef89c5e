"""Pictures of a run that is there: what is in the files, not that there are some."""

import math

import numpy as np
import pytest
import torch
import tyro
from conftest import small_run
from PIL import Image

from ganlib import models
from ganlib.data import loading as data
from ganlib.data.images import ImageSet
from ganlib.metrics import features
from ganlib.runs import checkpoint, frames, saved
from ganlib.runs.pictures import generate, gif, interpolate
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(folder):
    """The PNGs in ``folder`` in the order of their names, uint8 [n, H, W(, 3)]."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))])


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
    assert path == run / "generated"
    (generator,) = saved.generators_of(run).values()
    z = torch.randn(170, 4, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(pixels(path), features.as_png(generator(z).detach())[:, 0].numpy())
    told = capsys.readouterr().out
    assert "170 pictures · step 6, running average · z not truncated, seed 3" in told and str(path) in told


def test_the_same_seed_gives_the_same_bytes_and_another_others(run):
    made = [generate(run, num=3, seed=seed) for seed in (5, 5, 6)]
    assert [path.name for path in made] == ["generated", "generated-2", "generated-3"]
    assert content(made[0]) == content(made[1])
    assert set(content(made[0]).values()).isdisjoint(content(made[2]).values())


def test_a_grid_is_one_picture_of_the_right_size(run, tmp_path):
    path = generate(run, num=6, grid=True, out=tmp_path / "new" / "grid.png")
    with Image.open(path) as picture:
        assert picture.size == (2 + 3 * 30, 2 + 2 * 30)  # 28 pixels and a gap of 2
        sheet = np.asarray(picture)
    single = pixels(generate(run, num=6))
    assert np.array_equal(sheet[2:30, 2:30], single[0]) and np.array_equal(sheet[32:60, 62:90], single[5])
    before = path.read_bytes()
    again = generate(run, num=7, grid=True, out=path)
    assert again == path.with_name("grid-2.png") and path.read_bytes() == before


def test_truncation_reaches_the_generator(run, monkeypatch, capsys):
    seen = []
    forward = models.Generator.forward
    monkeypatch.setattr(models.Generator, "forward", lambda self, z: forward(self, seen.append(z) or z))
    for truncation in (None, 0, 0.5):
        generate(run, num=100, truncation=truncation)
    whole, none, narrow = seen
    assert torch.equal(whole, none) and whole.abs().max() > 2
    assert narrow.abs().max() <= 0.5 and narrow.std() < 0.5 * whole.std()
    assert "z truncated at ± 0.5" in capsys.readouterr().out


def test_classes_take_turns(by_class, tmp_path):
    path = generate(by_class, num=7, out=tmp_path / "all")
    names = list(saved.class_runs(by_class))
    there = sorted(str(found.relative_to(path)) for found in path.rglob("*.png"))
    assert there == sorted(f"{names[k % 3]}/{k:05d}.png" for k in range(7))
    assert data.load(path).classes == tuple(names)  # a labelled set
    alone = generate(by_class, num=2, klass=names[1], out=tmp_path / "one")
    assert [p.parent.name for p in sorted(alone.rglob("*.png"))] == [names[1]] * 2
    assert (alone / names[1] / "00001.png").read_bytes() == (path / names[1] / "00004.png").read_bytes()
    with Image.open(generate(by_class, num=7, grid=True, out=tmp_path / "all.png")) as picture:
        assert picture.size == (2 + 3 * 30, 2 + 3 * 30)  # a column a class
        corner = np.asarray(picture)[2:30, 32:60]
    assert np.array_equal(corner, np.asarray(Image.open(path / names[1] / "00001.png")))


def test_the_class_is_spelled_class_on_the_command_line(by_class, tmp_path):
    name = list(saved.class_runs(by_class))[2]
    out = tmp_path / "one.png"
    words = f"--run {by_class} --num 2 --class {name} --grid --truncation 0.5 --out {out}".split()
    assert tyro.cli(generate, args=words) == out
    wanted = generate(by_class / name, num=2, grid=True, truncation=0.5, out=tmp_path / "same.png")
    assert out.read_bytes() == wanted.read_bytes()


def test_a_single_checkpoint_and_a_colour_generator_will_do(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.symlink_to(checkpoint.PRETRAINED / "cifar10")
    path = generate(folder, num=4, grid=True, out=tmp_path / "ships.png")
    with Image.open(path) as picture:
        assert picture.mode == "RGB" and picture.size == (70, 70)


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(run, capsys):
    weights = checkpoint.step_folder(run, 6) / "ema_generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    generate(run, num=1)
    told = capsys.readouterr().out
    assert "'ema_generator.safetensors' is not the file" in told and "1 picture · step 3, running average" in told


# --- gif --------------------------------------------------------------------------------------------------


def test_the_film_has_the_snapshots_as_frames(run, capsys):
    path = gif(run, fps=4)
    assert path == run / "training.gif"
    changes, n, milliseconds = moving(path)
    assert (changes, n, milliseconds) == (2, 3, 3 * 250 + 1500)
    first = frames.cells(frames.path_of(run / "samples", 0), 28, 28)
    with Image.open(path) as film:
        assert film.size == (242, 242)  # 8 by 8 of them
        corner = np.asarray(film.convert("L"))[32:60, 2:30].astype(int)
    assert abs(corner - first[8, 0].numpy()).max() <= 5  # 128 shades
    told = capsys.readouterr().out
    assert "3 frames of 242×242 pixels" in told and "steps 0 to 6" in told and f"'{path}'" in told
    assert gif(run, max_frames=2, out=path) == run / "training-2.gif"
    assert moving(run / "training-2.gif")[1] == 2


def test_few_images_are_shown_without_what_fills_up_the_snapshot(tmp_path):
    images = ImageSet(noise(40, size=8), None, (), "noise", "noise")
    run = small_run(tmp_path / "run", images, fixed_z=torch.randn(11, 4))
    with Image.open(gif(run)) as film:
        assert film.size == (6 * (4 * 10 + 2), 6 * (3 * 10 + 2))  # 11 images, enlarged, in 4 columns
    with Image.open(gif(run, cols=2)) as film:  # 2 by 2 of them, as large as a small film
        assert film.size == (12 * 22, 12 * 22)


def test_a_long_film_stays_small(tmp_path):
    run = small_run(tmp_path / "run", ImageSet(noise(40, 3, 16), None, (), "noise", "noise"))
    for step in range(70):
        frames.write(run / "samples", step, noise(64, 3, 16, seed=step))
    path = gif(run, fps=20)
    assert path.stat().st_size <= 2_000_000
    assert moving(path)[0] >= 15


def test_a_damaged_snapshot_is_told_and_left_out(run, capsys):
    (run / "samples" / "step-000003.png").write_bytes(b"\x89PNG")
    frames.write(run / "samples", 4, noise(3, 3, 28))
    frames.write(run / "samples", 5, noise(64, 1, 9))
    assert moving(gif(run))[1] == 2
    told = capsys.readouterr().out
    assert told.count("is damaged; the film goes on without it.") == 3
    for path in (run / "samples").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="None of the 5 snapshots in '.*samples' can be read"):
        gif(run)


# --- interpolate ------------------------------------------------------------------------------------------


def lively(run):
    """The run's generator with larger weights: after six steps all z give nearly the same picture."""
    (generator,) = saved.generators_of(run).values()
    with torch.no_grad():
        generator[0].weight.mul_(50)
    return lambda folder, name="ema_generator": generator


@pytest.mark.parametrize(("loop", "n"), [(True, 3 * 4), (False, 2 * 4 + 1)])
def test_a_walk_moves_and_passes_its_points(run, monkeypatch, capsys, loop, n):
    monkeypatch.setattr(checkpoint, "load_generator", lively(run))
    path = interpolate(run, points=3, frames=4, rows=2, loop=loop)
    changes, shown, milliseconds = moving(path)
    assert shown == n and changes == n - 1
    assert abs(milliseconds - (1000 * n / 12 + (0 if loop else 1500))) <= 10
    told = capsys.readouterr().out
    assert f"{n} frames" in told and str(path) in told and str(path.with_suffix(".png")) in told

    (generator,) = saved.generators_of(run).values()
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    wanted = features.as_png(generator(z.flatten(0, 1)).detach()).unflatten(0, (2, 3))
    with Image.open(path.with_suffix(".png")) as strip:
        assert strip.size == (2 + 30 * (6 if loop else 5), 2 + 30 * 2)
        sheet = np.asarray(strip)
    for row in range(2):
        for k in range(3):  # every other column is a point
            cell = sheet[2 + 30 * row :][:28, 2 + 60 * k :][:, :28]
            assert np.abs(cell.astype(int) - wanted[row, k, 0].numpy()).max() <= 1


def test_walks_follow_their_seed_and_overwrite_nothing(run, monkeypatch):
    monkeypatch.setattr(checkpoint, "load_generator", lively(run))
    how = {"points": 2, "frames": 3, "rows": 1}
    made = [interpolate(run, seed=seed, **how) for seed in (1, 1, 2)]
    assert [path.name for path in made] == ["interpolation.gif", "interpolation-2.gif", "interpolation-3.gif"]
    one, two, three = (path.with_suffix(".png").read_bytes() for path in made)
    assert one == two != three
    made[0].unlink()
    assert interpolate(run, **how).name == "interpolation-4.gif"  # the first one's strip is still there


def test_a_walk_on_the_sphere_is_another_than_straight_ahead(run, monkeypatch):
    monkeypatch.setattr(checkpoint, "load_generator", lively(run))
    round_, straight = (interpolate(run, points=2, rows=1, spherical=spherical) for spherical in (True, False))
    assert round_.read_bytes() != straight.read_bytes()


# --- what cannot be done ----------------------------------------------------------------------------------


def break_all(run):
    for folder in (run / "checkpoints").iterdir():
        (folder / "ema_generator.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (lambda run: generate(run, num=0), "num is 0, but must be at least 1"),
        (lambda run: generate(run, num=10**9, grid=True), "num is 1000000000, but .* at most 10000 for a grid"),
        (lambda run: generate(run, truncation=-1.0), "truncation is -1.0, but must be above 0, such as 0.7"),
        (lambda run: generate(run, truncation=-1.0, grid=True), "truncation is -1.0"),
        (lambda run: generate(run, truncation=math.nan), "truncation is nan"),
        (lambda run: generate(run, seed=2**70), f"The seed {2**70} is no number of 64 bits"),
        (lambda run: generate(run, klass="owl"), "one generator for all its images, not one a class"),
        (lambda run: generate(run, grid=True, out=run / "grid.jpg"), "grid.jpg', but must be a file that ends in .png"),
        (lambda run: generate(run / "none"), "No checkpoint in '.*none': 'model.json' is missing"),
        (lambda run: break_all(run) or generate(run), "is damaged: 'ema_generator.safetensors' is not the file"),
        (lambda run: gif(run, fps=0), "fps is 0, but must be above 0 and at most 50"),
        (lambda run: gif(run, fps=math.nan), "fps is nan"),
        (lambda run: gif(run, cols=0), "cols is 0, but must be at least 1"),
        (lambda run: gif(run, max_frames=0), "max_frames is 0, but must be at least 1"),
        (lambda run: gif(run, out=run / "film"), "film', but must be a file that ends in .gif"),
        (lambda run: gif(run / "none"), "There is no run in '.*none'"),
        (lambda run: interpolate(run, points=1), "points is 1, but must be at least 2"),
        (lambda run: interpolate(run, frames=0), "frames is 0, but must be at least 1"),
        (lambda run: interpolate(run, rows=0), "rows is 0, but must be at least 1"),
        (lambda run: interpolate(run, frames=10**6), "are more than 10000 pictures; ask for fewer"),
        (lambda run: interpolate(run / "none"), "No checkpoint in '.*none'"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence_and_leaves_nothing(run, command, sentence):
    before = set(content(run))
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        command(run)
    assert "\n" not in str(error.value)
    assert set(content(run)) == before and not (run / "none").exists()


@pytest.mark.parametrize("command", [gif, interpolate])
def test_one_of_the_classes_must_be_named(by_class, command):
    first = next(iter(saved.class_runs(by_class)))
    with pytest.raises(ValueError, match=f"one .*a class.*name one: '.*{first}'"):
        command(by_class)


def test_a_folder_that_cannot_be_written_gets_a_sentence(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for command in (generate, lambda run, out: generate(run, grid=True, out=out / "a.png")):
        with pytest.raises(OSError, match="Cannot write in '.*file.*; choose another output folder"):
            command(run, out=tmp_path / "file" / "below")


def test_networks_of_somebody_elses_cannot_be_rebuilt(run):
    path = checkpoint.step_folder(run, 6) / "model.json"
    for step in (3, 6):
        path = checkpoint.step_folder(run, step) / "model.json"
        path.write_text(path.read_text().replace('"dcgan"', '"of mine"'))
    with pytest.raises(ValueError, match="is of kind 'of mine'; known are dcgan"):
        generate(run)
