"""The parts of the way from T to 0."""

from itertools import pairwise
from typing import NamedTuple


class Piece(NamedTuple):
    """A part of the way, from t = end down to t = begin, within one layer (None: a callable)."""

    begin: float
    end: float
    layer: int | None

    @property
    def duration(self):
        return self.end - self.begin


def pieces(problem, save_at):
    """Yield the parts of the way from T down to 0, cut where layers and times to be saved are."""
    n_layers, horizon = problem.n_layers, problem.horizon
    count = n_layers or 1
    cuts = {horizon * j / count for j in range(count + 1)} | {t for t in save_at if t < horizon}
    cuts = sorted(cuts, reverse=True)
    for end, begin in pairwise(cuts):
        layer = None if n_layers is None else min(int((begin + end) / 2 / horizon * count), count - 1)
        yield Piece(begin, end, layer)
