"""Image sets: found or downloaded, read, held as one uint8 tensor, and dealt out in batches."""

from ganlib.data.augment import augment, augmented
from ganlib.data.images import Batches, ImageSet, as_uint8, to_float, to_uint8


def __getattr__(name):
    if name == "load":  # late: it brings every reader, which whoever has the images already does not need
        from ganlib.data.loading import load

        return load
    raise AttributeError(f"module 'ganlib.data' has no attribute '{name}'")
