"""What a generator is worth: scores with their protocol, and beside them what reals score in the fakes' place."""

from ganlib.metrics.distances import (
    Statistics,
    density_coverage,
    feature_statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from ganlib.metrics.features import Features, extract, generate
from ganlib.metrics.memorisation import Memorisation, memorisation
from ganlib.metrics.nets import card, cifar_net, digit_net, inception_net
from ganlib.metrics.overfitting import overfitting
from ganlib.metrics.probe import probe
from ganlib.metrics.scores import DigitScore, Numbers, Report, Score, score, score_digits
from ganlib.metrics.stacked import stack, stacked_modes
