"""Labels: the networks that take them, the steps, the batches that give them, and runs with them."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from ganlib import conditional, fit, models, sample, steps
from ganlib._runtime.randomness import rng
from ganlib.conditional import KINDS, auxiliary_step, columns, conditional_discriminator, conditional_generator
from ganlib.data.images import Batches, ImageSet
from ganlib.metrics import diagnose
from ganlib.models import Discriminator, Generator
from ganlib.runs import Run, build, checkpoint, cli, folder, pictures
from ganlib.runs.config import Config
from ganlib.steps import GAN, labelled
from ganlib.viz.panel import panel

K, Z = 3, 9  # classes, and numbers of z, the label among them


def players(kind, dtype=torch.float64, optimiser=torch.optim.SGD, norm="none"):
    generator = conditional_generator(16, 1, 4, Z, classes=K).to(dtype)
    discriminator = conditional_discriminator(16, 1, 4, classes=K, label=kind, norm=norm, depth=2, seed=1).to(dtype)
    with torch.no_grad():  # scales and weights of classes that differ by more than their first draw
        for layer in (layer for layer in generator if isinstance(layer, conditional.ClassBatchNorm)):
            layer.weight.normal_(1, 0.3, generator=rng(4))
            layer.bias.normal_(0, 0.3, generator=rng(5))
        discriminator[-1].weight.mul_(20)
    return GAN(
        generator, discriminator, *(optimiser(m.parameters(), 1e-2) for m in (generator, discriminator)), z_dim=Z
    )


def batches(dtype=torch.float64, n=6):
    draw = rng(5)
    while True:
        classes = torch.randint(K, (n,), generator=draw)
        yield torch.rand(n, 1, 16, 16, generator=draw).to(dtype) * 2 - 1, torch.eye(K, dtype=dtype)[classes]


def some_images(n=40, size=16, classes=("a", "b", "c")):
    labels = torch.arange(n) % len(classes)
    pixels = torch.randint(256, (n, 1, size, size), generator=rng(1), dtype=torch.uint8)
    pixels[:, 0, 0, 0] = labels.to(torch.uint8)  # tells the class
    return ImageSet(pixels, labels, classes, "some", "some images")


def drawn(generator, z, classes):
    """The generator by hand, its BatchNorm written out."""
    x = z[:, :-K, None, None]
    for layer in generator:
        if isinstance(layer, conditional.ClassBatchNorm):
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
            x = (x - mean) / (var + layer.eps).sqrt()
            x = torch.stack([x[i] * layer.weight[c][:, None, None] + layer.bias[c][:, None, None] for i, c in classes])
        else:
            x = layer(x)
    return x


def judged(kind, discriminator, images, classes):
    """What the papers' discriminators say, image by image: logits, and those of classes."""
    *layers, last = discriminator
    weights, logits, of_classes = last.weight.flatten(1), [], []
    for i, c in classes:
        image = images[i : i + 1]
        if kind == "concat":
            planes = torch.zeros(1, K, 16, 16, dtype=images.dtype)
            planes[0, c] = 1
            image = torch.cat([image, planes], 1)
        features = nn.Sequential(*layers)(image).flatten()
        logit = weights[0] @ features + last.bias[0]
        if kind == "projection":
            logit = logit + weights[1 + c] @ features + last.bias[1 + c]
        logits.append(logit)
        of_classes.append(weights[1:] @ features + last.bias[1:])
    return torch.stack(logits), torch.stack(of_classes)


def textbook_step(kind, gan, batch, r1_weight, saturating):
    real, y = batch
    classes = list(enumerate(y.argmax(1).tolist()))
    z = torch.cat([gan.sample_z(6)[:, :-K].double(), y], 1)
    fake, ones, zeros = drawn(gan.generator, z, classes), torch.ones(6).double(), torch.zeros(6).double()
    points = real.clone().requires_grad_()
    (x, x_classes), (f, f_classes) = (judged(kind, gan.discriminator, i, classes) for i in (points, fake.detach()))
    loss = d_loss = bce(x, ones) + bce(f, zeros)
    if r1_weight:
        (slope,) = torch.autograd.grad(x.sum(), points, create_graph=True)
        loss = loss + r1_weight * slope.square().sum() / 6 / 2
    labels, class_loss = y.argmax(1), 0
    if kind == "auxiliary":
        class_loss = cross_entropy(x_classes, labels)
        loss = loss + class_loss + cross_entropy(f_classes, labels)
    gan.d_opt.zero_grad()
    loss.backward()
    gan.d_opt.step()
    f, f_classes = judged(kind, gan.discriminator, fake, classes)
    g_loss = -bce(f, zeros) if saturating else bce(f, ones)
    gan.g_opt.zero_grad()
    (g_loss + (cross_entropy(f_classes, labels) if kind == "auxiliary" else 0)).backward()
    gan.g_opt.step()
    return {"d_loss": d_loss, "g_loss": g_loss, "class_loss": class_loss}


GAMES = [(kind, name) for kind in ("concat", "projection") for name in ("ns", "ns-r1", "minimax")]


@pytest.mark.parametrize(("kind", "name"), [*GAMES, ("auxiliary", "ns")])
def test_each_step_with_labels_is_the_papers(kind, name):
    step = auxiliary_step if kind == "auxiliary" else steps.STEPS[name]
    one, two, ours, theirs = players(kind), players(kind), batches(), batches()
    start = [p.detach().clone() for m in (one.generator, one.discriminator) for p in m.parameters()]
    for k in (0, 7, 8):
        one.steps_done = k
        record = step(one, ours)
        weight = 0.16 if name == "ns-r1" and k % 8 == 0 else 0
        by_hand = textbook_step(kind, two, next(theirs), weight, name == "minimax")
        for which, value in record.items():
            assert value.ndim == 0 and value.item() == pytest.approx(by_hand[which].item(), rel=1e-10)
    assert set(record) == {"d_loss", "g_loss"} | ({"class_loss"} if kind == "auxiliary" else set())
    mine, hand = (
        [p.detach() for m in (gan.generator, gan.discriminator) for p in m.parameters()] for gan in (one, two)
    )
    for before, a, b in zip(start, mine, hand, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        assert (a - before).abs().max() > 1e-9


def test_a_label_in_z_decides_the_class_and_z_alone_draws_each_as_often():
    generator, z = conditional_generator(16, 1, 4, Z, classes=K, seed=2).eval(), torch.randn(900, Z, generator=rng(0))
    with torch.no_grad():
        for layer in (layer for layer in generator if isinstance(layer, conditional.ClassBatchNorm)):
            layer.bias.normal_(0, 1, generator=rng(6))
        y = torch.eye(K)[torch.arange(900) % K]
        asked = generator(labelled(z, y))
        assert torch.equal(generator(labelled(z, 7 * y - 3)), asked)  # the largest counts, not how large
        assert not torch.allclose(generator(labelled(z, y.roll(1, 1))), asked, atol=1e-2)
        chosen = torch.eye(K)[z[:, -K:].argmax(1)]
        assert torch.equal(generator(z), generator(labelled(z, chosen))) and chosen.mean(0).min() > 0.28
    grid = columns(4, Z, K, seed=3)  # a style a row, a class a column
    assert grid.shape == (12, Z) and torch.equal(grid[:, -K:], torch.eye(K).repeat(4, 1))
    assert torch.equal(grid[0, :-K], grid[2, :-K]) and not torch.equal(grid[0, :-K], grid[3, :-K])
    assert torch.equal(labelled(z), z)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_with_labels_are_built_anew_from_their_config_and_refuse_what_cannot_be(kind):
    made = conditional_discriminator(28, 3, 4, classes=5, label=kind, depth=2, seed=3)
    again = Discriminator.build(json.loads(json.dumps(made.config)))
    images, y = torch.rand(4, 3, 28, 28) * 2 - 1, torch.eye(5)[torch.tensor([0, 4, 2, 2])]
    assert again.kind == kind and (kind == "concat") == (again[0].in_channels == 8)
    for one, two in zip(made.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    said = made(images) if kind == "auxiliary" else (made(images, y),)
    assert [list(each.shape) for each in said] == ([[4], [4, 5]] if kind == "auxiliary" else [[4]])
    with pytest.raises(ValueError, match="takes .B, 3, 28, 28., not"):
        made(images[:, :1], y)
    generator = conditional_generator(28, 3, 4, 12, classes=5, seed=3)
    assert torch.equal(Generator.build(generator.config).eval()(torch.ones(2, 12)), generator.eval()(torch.ones(2, 12)))
    assert models.count_parameters(generator) > models.count_parameters(models.dcgan_generator(28, 3, 4, 7))
    for wrong, message in (({"label": "sum"}, "label is 'sum'"), ({"norm": "spectral"}, "take another")):
        with pytest.raises(ValueError, match=message):
            conditional_discriminator(28, **wrong)
    for k in (1, 12):
        with pytest.raises(ValueError, match="at least 2 and below z_dim=12"):
            conditional_generator(28, 3, 4, 12, classes=k)


def test_batches_give_labels_where_asked_and_only_there():
    images = some_images()
    plain, ours = Batches(images, 8, seed=3), Batches(images.with_labels(), 8, seed=3)
    for _ in range(12):  # over the end of two epochs
        state = ours.state_dict()
        x, y = next(ours)
        assert torch.equal(x, next(plain)) and y.dtype == torch.float32 and y.shape == (8, 3)
        assert torch.equal(y.argmax(1).float(), ((x[:, 0, 0, 0] + 1) * 127.5).round()) and torch.all(y.sum(1) == 1)
    again = Batches(images.with_labels(), 8, seed=3)
    again.load_state_dict(state)
    assert torch.equal(next(again)[1], y)
    assert images.with_labels().take(10).labelled and images.with_flips().with_labels().flip
    with pytest.raises(ValueError, match="'some' has no labels.*each class in a folder"):
        replace(images, labels=None).with_labels()


@pytest.mark.parametrize("kind", KINDS)
def test_fit_trains_with_labels_and_an_interrupted_run_ends_as_another(kind, tmp_path):
    step, images = auxiliary_step if kind == "auxiliary" else steps.dcgan_step, some_images().with_labels()

    def begin():
        gan = players(kind, torch.float32, torch.optim.Adam, norm="batch")
        gan.fixed_z = columns(2, Z, K)
        return gan

    how = dict(batch_size=8, snapshot_every=2, watchers=())
    whole, parts = begin(), begin()
    history = fit(whole, step, images, steps=7, **how)
    fit(parts, step, images, steps=3, **how, run=Run(tmp_path / "run"))
    resumed = begin()
    again = fit(resumed, step, images, steps=7, **how, run=Run(tmp_path / "run", resume=True))
    assert again.losses == history.losses and len(history.snapshots) == 4
    for name in ("generator", "discriminator", "ema_generator"):
        pairs = zip(*(getattr(gan, name).state_dict().values() for gan in (whole, resumed)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    loaded = checkpoint.load_generator(tmp_path / "run")
    assert loaded.classes == K and torch.equal(
        sample(loaded, whole.fixed_z), sample(whole.ema_generator, whole.fixed_z)
    )


def test_the_panel_shows_a_column_a_class():
    gan = players("projection", torch.float32)
    gan.fixed_z = columns(8, Z, K)
    assert panel(gan)._samples().shape[1] == 4 * (3 * (16 + 2) + 2)


def test_the_doctor_tries_a_step_with_labels():
    gan = players("projection", torch.float32, torch.optim.Adam)
    assert not diagnose(gan, some_images(200).with_labels(), steps.dcgan_step, batch_size=16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"conditional": "projection", "loss": "wgan"}, "conditional=projection does not go with loss=wgan: take"),
        ({"conditional": "auxiliary", "loss": "ns-r1"}, "take loss=ns."),
        ({"conditional": "concat", "categories": 4}, "no other categories"),
        ({"conditional": "concat", "architecture": "linear"}, "conditional does nothing with architecture=linear"),
    ],
)
def test_settings_that_do_not_go_with_labels_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        build.players(Config(image_size=16, channels=1, **given), classes=3)


def test_a_run_with_labels_from_the_command_line_is_drawn_from_by_class(tmp_path, capsys):
    run, words = str(tmp_path / "run"), ["--g-width=4", "--d-width=4", "--n=300", "--steps=4", "--lr=0.05"]
    words += ["--conditional=projection", "--snapshot-every=2", "--score-every=0", f"--out={run}"]
    assert cli.main(["train", *words]) == 0
    assert folder.config_of(tmp_path / "run")["images"]["classes"][7] == "7"
    for k in "78":
        draw = ["generate", f"--run={run}", f"--class={k}", "--num=4", "--grid", f"--out={tmp_path / k}.png"]
        assert cli.main(draw) == 0
    assert (tmp_path / "7.png").read_bytes() != (tmp_path / "8.png").read_bytes()
    capsys.readouterr()
    assert cli.main(["generate", f"--run={run}", "--class=ten"]) == cli.WRONG
    assert "has no class 'ten'; it has: 0, 1, 2" in capsys.readouterr().err
    assert cli.main(["gif", f"--run={run}"]) == 0
    step, paths = folder.snapshots_in(tmp_path / "run")[-1]
    assert step == 4 and len(folder.read_snapshot(paths)) == 80
    assert cli.main(["train", f"--resume-path={run}", "--steps=6"]) == 0


def test_a_generator_without_labels_says_so(tmp_path):
    generator = checkpoint.PRETRAINED / "cifar10.safetensors"
    with pytest.raises(ValueError, match="takes no labels; train one that does"):
        pictures.generate(generator, of_class="7")
