"""ganlib: train generative adversarial networks; it hides the plumbing and never the idea.

from ganlib.data import load          # images
from ganlib.models import dcgan_generator, dcgan_discriminator
from ganlib.steps import GAN, dcgan_step
from ganlib.train import fit          # everything that is not the idea
"""

__version__ = "0.1.0"
