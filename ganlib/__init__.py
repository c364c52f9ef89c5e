"""ganlib: train generative adversarial networks; it hides the plumbing and never the idea.

from ganlib.data import load          # images
from ganlib.models import dcgan_generator, dcgan_discriminator
from ganlib.steps import GAN, dcgan_step
from ganlib.train import fit          # everything that is not the idea

or all of it at once, as the command line does:  ganlib.main(dataset="mnist", epochs=10)
"""

__version__ = "0.1.0"


def main(*, preset=None, **settings):
    """Train a GAN, or go on training one, as ``ganlib train`` does: see :func:`ganlib.running.run`.

    ``ganlib.main(dataset="mnist", epochs=10, loss="wgan-gp", out="runs/mine")``; after an interruption
    ``ganlib.main(resume_path="runs/mine")``. The settings are those of :class:`ganlib.config.Config`.
    """
    from ganlib.running import run

    return run(preset=preset, **settings)
