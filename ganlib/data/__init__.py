"""Image sets: found or downloaded, read, held as one uint8 tensor, and dealt out in batches."""

from ganlib.data.augment import augment, augmented
from ganlib.data.images import Batches, ImageSet, to_float, to_uint8
from ganlib.data.loading import load
