"""Scores of a generator, with their protocol and the score of real images."""

from ganlib.metrics.discriminator import overfitting
from ganlib.metrics.distances import density_coverage, frechet_distance, kernel_distance, precision_recall
from ganlib.metrics.doctor import Doctor, Finding, checkup, diagnose
from ganlib.metrics.features import Features, extract, generate
from ganlib.metrics.memorisation import Memorisation, memorisation
from ganlib.metrics.nets import card, cifar_net, cifar_net_for, digit_net, inception_net
from ganlib.metrics.scores import DigitScore, Numbers, Report, Score, score, score_digits, stack, stacked_modes
