"""Checks of arguments: one sentence that names the culprit and the cure."""

from numbers import Integral, Real


def check_whole(least: int = 1, **values) -> None:
    """Refuse values that are no whole numbers of at least ``least``; None passes."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
            square = "; images are square, so one number says it" if isinstance(value, tuple | list) else ""
            raise ValueError(f"{name} is {value!r}, but must be a whole number, at least {least}{square}.")


def check_above(zero: float = 0, **values) -> None:
    """Refuse values that are no numbers above ``zero``; None passes."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or not value > zero):
            raise ValueError(f"{name}={value!r}, but must be a number above {zero}.")
