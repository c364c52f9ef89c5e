"""The latent space: walks, directions, maps, and the latent vector of an image."""

from ganlib.latent.inversion import invert
from ganlib.latent.walks import answers, direction, draw_z, flips, lerp, path, plane, readings, slerp
