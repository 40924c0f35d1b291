"""The outputs of a lesson's cells at every position of its controls."""

import importlib
import itertools
from types import SimpleNamespace
from typing import NamedTuple

import marimo as mo

from lessons._html._positions import POSITIONS
from lessons._marimo_html import object_id

__all__ = ["Control", "Shown", "states_of"]


class Control(NamedTuple):
    """A slider, choice or number: its object in marimo, the values a page offers, their labels, the first one."""

    element: object
    values: list
    labels: list
    first: int


class Shown(NamedTuple):
    """The outputs of a cell: names of the controls it depends on, and an object of marimo for each of their positions.

    `outputs` maps a tuple of positions, one for each of the names, to the object, which may be None.
    """

    controls: tuple
    outputs: dict


class _Lesson:
    """Cells of a lesson, run one at a time with the controls at given positions; what has been run is kept."""

    def __init__(self, name):
        self.name = name
        app = importlib.import_module(f"lessons.{name}").app
        _, self.start = app.run()
        setup, *self.cells = app._cell_manager.cells()
        self.setup = setup.defs
        self.home = {name: i for i, cell in enumerate(self.cells) for name in cell.defs}
        self.controls = {name: self._control(name) for name in self.home if _is_control(self.start[name])}
        self.needs = []
        for cell in self.cells:
            parents = [ref for ref in cell.refs if ref in self.home and ref not in self.controls]
            names = {ref for ref in cell.refs if ref in self.controls}.union(
                *(self.needs[self.home[p]] for p in parents)
            )
            self.needs.append(tuple(name for name in self.controls if name in names))
        self.done = {}
        # Every run of a cell makes its controls anew: what marimo calls them, and their names.
        self.ids = {object_id(self.start[name]): name for name in self.controls}

    def _control(self, name):
        element, wanted = self.start[name], POSITIONS.get(self.name, {}).get(name)
        if isinstance(element, mo.ui.radio):
            labels = [None, *element.options] if element.value is None else [*element.options]
            values = [None if label is None else element.options[label] for label in labels]
        else:
            values = wanted or element.steps or _between(element)
            labels = [f"{value:g}" if value < 1e5 else str(value) for value in values]
        return Control(element, values, labels, values.index(element.value))

    def run(self, i, positions):
        """(output, definitions) of cell i with the controls it depends on at these positions."""
        key = (i, *(positions[name] for name in self.needs[i]))
        if key not in self.done:
            cell, given = self.cells[i], {}
            for ref in cell.refs:
                if ref in self.controls:
                    given[ref] = SimpleNamespace(value=self.controls[ref].values[positions[ref]])
                elif ref in self.home:
                    given[ref] = self.run(self.home[ref], positions)[1][ref]
                elif ref in self.setup:
                    given[ref] = self.start[ref]
            _, made = self.done[key] = cell.run(**given)
            self.ids |= {object_id(made[name]): name for name in self.controls if self.home[name] == i}
        return self.done[key]


def states_of(name):
    """(controls by name, their names by marimo's ids, one `Shown` per cell) of a lesson."""
    lesson = _Lesson(name)
    shown = []
    for i, needed in enumerate(lesson.needs):
        outputs = {}
        for places in itertools.product(*(range(len(lesson.controls[name].values)) for name in needed)):
            outputs[places] = lesson.run(i, dict(zip(needed, places, strict=True)))[0]
        shown.append(Shown(needed, outputs))
    return lesson.controls, lesson.ids, shown


def _is_control(value):
    return isinstance(value, (mo.ui.slider, mo.ui.radio, mo.ui.number))


def _between(slider):
    n = round((slider.stop - slider.start) / (slider.step or 1))
    return [round(slider.start + i * (slider.step or 1), 10) for i in range(n + 1)]
