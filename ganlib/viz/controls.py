"""Sliders: for a function that draws, and over a few values that change nothing until they are moved."""

from collections.abc import Callable, Collection

from ganlib._runtime import notebook

PER_DECADE = 10  # values of a slider for a float, and how many decades it goes to either side
DECADES = 2
NAMES = {"g_lr": "G's learning rate", "d_lr": "D's learning rate"}


def explore(draw: Callable, **values) -> None:
    """Show what ``draw`` makes of the values that a reader chooses with sliders.

    ``values`` are, for each argument of ``draw``, ``(low, high, step)`` or the choices, as for ``ipywidgets.interact``.
    Without a reader, as in nbconvert, nothing is shown: a saved page has no sliders.
    """
    if notebook.someone_there():
        from ipywidgets import interact  # late, as all that notebooks alone need

        for name, value in values.items():  # Colab's ipywidgets, 7.7, takes a tuple for a slider's ends
            values[name] = list(value) if isinstance(value, tuple) and isinstance(value[0], str) else value
        interact(draw, **values)


def slider(name: str, now, values: Collection | None = None, wide: int = 400):
    """An ipywidgets slider (functions: a dropdown) over ``values``, which stands at ``now``.

    By default, ``values`` are a ladder around a number. ``now`` is always one of them, exactly: widgets that round
    would change a run that nobody touches.
    """
    import ipywidgets as w

    values = list(_around(now) if values is None else values)
    if now not in values:
        values = sorted([*values, now]) if all(isinstance(v, int | float) for v in [*values, now]) else [now, *values]
    how = {"style": {"description_width": "150px"}, "layout": w.Layout(width=f"{wide}px")}
    kind = w.Dropdown if callable(now) or isinstance(now, str | tuple) else w.SelectionSlider
    return kind(options=[(_label(v), v) for v in values], value=now, description=NAMES.get(name, name), **how)


def told(name: str, value) -> str:
    """A setting and its value as text: ``G's learning rate 0.001``."""
    return f"{NAMES.get(name, name)} {_label(value)}"


def score_name(name: str) -> str:
    """A score's name for a picture: ``fd_digitnet_1k`` is ``FD (digitnet, 1k samples)``."""
    kind, *rest = name.split("_")
    return f"{kind.upper()} ({rest[0]}, {rest[1]} samples)" if len(rest) == 2 and rest[1].strip("k").isdigit() else name


def _label(value) -> str:
    return value.__name__ if hasattr(value, "__name__") else f"{value:.3g}" if type(value) is float else str(value)


def _around(now) -> list:
    if isinstance(now, bool):
        return [False, True]
    if isinstance(now, int):
        return [*range(min(now, 1), max(10, 2 * now) + 1)]
    if isinstance(now, float):
        steps = range(-DECADES * PER_DECADE, DECADES * PER_DECADE + 1)
        return (
            [now if k == 0 else float(f"{now * 10 ** (k / PER_DECADE):.1e}") for k in steps]
            if now
            else [0.0, 0.01, 0.1, 1.0, 10.0]
        )
    return [now]
