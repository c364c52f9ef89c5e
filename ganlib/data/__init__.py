"""Image sets: found or downloaded, read into one uint8 tensor, drawn in batches."""

from ganlib.data.augment import augment, augmented
from ganlib.data.images import Batches, ImageSet, as_uint8, to_float, to_uint8


def __getattr__(name):
    if name == "load":  # late: it imports every reader, which is not needed by those who have images
        from ganlib.data.loading import load

        return load
    raise AttributeError(f"module 'ganlib.data' has no attribute '{name}'")
