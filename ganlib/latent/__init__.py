"""The latent space: walks, directions and maps, and the latent vector of a given image."""

from ganlib.latent.inversion import invert
from ganlib.latent.walks import answers, direction, draw_z, even_z, flips, lerp, path, plane, readings, slerp
