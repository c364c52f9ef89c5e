"""Pictures of a finished run: what is in the files, not that there are some."""

import json

import numpy as np
import pytest
import torch
import tyro
from conftest import trained_by_command
from makers import pictures
from PIL import Image

from ganlib.data import load, to_uint8
from ganlib.data import loading as data
from ganlib.latent.inversion import invert
from ganlib.runs import checkpoint, folder
from ganlib.runs.pictures import generate, gif, interpolate, reconstruct

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


def test_generate_makes_what_the_running_average_makes_of_z(run, capsys):
    path = generate(run, num=170, seed=3)
    z = torch.randn(170, 4, generator=torch.Generator().manual_seed(3))
    wanted = to_uint8(checkpoint.load_generator(run)(z).detach())
    assert path == run / "generated" and np.array_equal(pixels(path), wanted[:, 0].numpy())
    told = capsys.readouterr().out
    assert "170 pictures · step 6, running average · z not truncated, seed 3" in told and str(path) in told
    checkpoint.path_of(run, 6).write_bytes(checkpoint.path_of(run, 6).read_bytes()[:-1])
    narrow = pixels(generate(run, num=170, seed=3, truncation=1e-3))
    assert narrow.std(0).max() < pixels(path).std(0).max() and "truncated at ± 0.001" in capsys.readouterr().out
    generate(run, num=1)
    told = capsys.readouterr().out
    assert "step-000006.safetensors' is damaged" in told and "step 3, running average" in told and "generated-3" in told


def test_a_grid_is_one_picture_of_the_right_size(run, tmp_path):
    shipped = checkpoint.PRETRAINED / "cifar10.safetensors"  # a checkpoint in colour will do, too
    assert size(generate(shipped, num=4, grid=True, out=tmp_path / "ships.png")) == (70, 70)
    path = tyro.cli(generate, args=f"--run {run} --num 6 --grid --out {tmp_path}/new/grid.png".split())
    assert size(path) == (2 + 3 * 30, 2 + 2 * 30)  # 28 pixels and a gap of 2
    sheet, single = np.asarray(Image.open(path)), pixels(generate(run, num=6))
    assert np.array_equal(sheet[2:30, 2:30], single[0]) and np.array_equal(sheet[32:60, 62:90], single[5])
    before = path.read_bytes()
    assert generate(run, num=7, grid=True, out=path) == path.with_name("grid-2.png") and path.read_bytes() == before


def test_the_film_has_the_snapshots_as_frames(run, capsys):
    path = gif(run, fps=4)
    assert path == run / "training.gif" and moving(path) == (2, 3, 3 * 250 + 1500)
    first = folder.read_snapshot(run / "samples" / "step-000000.png")
    with Image.open(path) as film:
        assert film.size == (242, 26 + 242)  # 8 by 8 of them, below the step
        corner = np.asarray(film.convert("L"))[26 + 32 : 26 + 60, 2:30]
    assert np.array_equal(corner, first[8, 0].numpy())  # every shade
    told = capsys.readouterr().out
    assert "steps 0 to 6" in told and f"'{path}'" in told
    assert gif(run, max_frames=2, out=path) == run / "training-2.gif" and moving(run / "training-2.gif")[1] == 2
    assert gif(run, out=run / "film.webp") == run / "film.webp" and moving(run / "film.webp")[1] == 3


def test_a_damaged_snapshot_is_told_and_left_out(run, capsys):
    (run / "samples" / "step-000003.png").write_bytes(b"\x89PNG")
    assert moving(gif(run))[1] == 2 and "step-000003.png' is damaged" in capsys.readouterr().out
    for path in (run / "samples").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="'.*samples' can be read"):
        gif(run)
    (run / "samples").rename(run / "elsewhere")
    with pytest.raises(ValueError, match="no snapshots.*snapshot_every"):
        gif(run)


@pytest.fixture
def lively(run, monkeypatch):
    """The run's generator with larger weights: after six steps all z give nearly the same picture."""
    generator = checkpoint.load_generator(run)
    with torch.no_grad():
        generator[0].weight.mul_(50)
    monkeypatch.setattr(checkpoint, "load_generator", lambda folder: generator)
    return generator


def test_a_walk_moves_and_passes_its_points(run, lively, capsys):
    path, n = interpolate(run, points=3, frames=4, rows=2), 3 * 4
    changes, shown, milliseconds = moving(path)
    assert shown == n and changes == n - 1
    assert abs(milliseconds - 1000 * n / 12) <= 10
    told, strip = capsys.readouterr().out, path.with_suffix(".png")
    assert str(path) in told and str(strip) in told
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    wanted = to_uint8(lively(z.flatten(0, 1))).unflatten(0, (2, 3))
    assert size(strip) == (2 + 30 * 6, 2 + 30 * 2)
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


QUICK = {"steps": 4, "num": 3}


def test_every_checkpoint_is_inverted_on_images_of_the_runs_classes_that_it_never_saw(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "FAKE_COUNT", 240)
    words = ["--dataset", "fake", "--classes", "ring", "--image-size", "16"]
    run = trained_by_command(tmp_path / "run", *words, "--steps", "2", "--checkpoint-every", "1")
    found = reconstruct(run, **QUICK)
    assert "240 test generated shapes" in capsys.readouterr().out and [row["step"] for row in found["rows"]] == [1, 2]
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


def test_images_of_ones_own_and_some_checkpoints(run, tmp_path, capsys):
    photos = pictures(tmp_path / "photos", 5, (30, 30), "RGB")  # in colour and larger: they come as the run's are
    found = reconstruct(run, photos, checkpoints=(6,), **QUICK)
    assert [row["step"] for row in found["rows"]] == [6]
    checkpoint.path_of(run, 3).write_bytes(b"torn")
    bernoulli = reconstruct(run, photos, likelihood="bernoulli", **{**QUICK, "num": 60})
    assert len(bernoulli["rows"]) == 1 and len(bernoulli["rows"][0]["error"]) == 5  # there are no more
    assert "step-000003.safetensors' is damaged" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No checkpoint asked for .* is intact"):
        reconstruct(run, photos, checkpoints=(3,), **QUICK)


def test_a_set_without_a_test_split_gives_images_that_were_trained_on(tmp_path, capsys):
    run = trained_by_command(tmp_path / "run", "--dataset", pictures(tmp_path / "photos", 20, (16, 16)))
    assert reconstruct(run, **QUICK)["images"].startswith("3 of photos · 20 images")
    assert "no split 'test'" in capsys.readouterr().out
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises((ValueError, OSError), match="photos.*data_root"):
        reconstruct(run, **QUICK)


def torn(run):
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    return run


REFUSED = [
    (lambda run: generate(run, num=0), "0, but must be at least 1"),
    (lambda run: generate(run, truncation=-1.0), "truncation is -1.0.*above 0"),
    (lambda run: generate(run, seed=2**70), f"seed {2**70}"),
    (lambda run: generate(run, grid=True, out=run / "grid.jpg"), "grid.jpg'.*ends in .png"),
    (lambda run: generate(run / "none"), "no checkpoint.*none'"),
    (lambda run: generate(run, grid=True, out=run / "config.json" / "x.png"), "Cannot write.*config.json"),
    (lambda run: generate(torn(run)), "No checkpoint.*intact"),
    (lambda run: gif(run, fps=0), "fps is 0"),
    (lambda run: gif(run, max_frames=0), "0 snapshots.*at least 1"),
    (lambda run: gif(run, out=run / "film"), "film'.*ends in .gif"),
    (lambda run: gif(run / "none"), "no run in '.*none'"),
    (lambda run: interpolate(run, points=1), "points=1.*at least 2"),
    (lambda run: interpolate(run, frames=0), "frames=0"),
    (lambda run: reconstruct(run / "none"), "no run in '.*none'"),
    (lambda run: reconstruct(run, checkpoints=(4,)), r"no checkpoint of step 4; it has: 3, 6"),
    (lambda run: reconstruct(run, num=0), "Cannot take 0"),
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
