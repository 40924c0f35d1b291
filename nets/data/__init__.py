"""Image data sets: loading, splitting, batches on the device, random crops and reflections."""

from nets.data._augmentation import Shifts, augment, draw_shifts
from nets.data._datasets import Batches, Dataset, cache_directory, load
from nets.data._subsets import balanced_order, split

__all__ = [
    "Batches",
    "Dataset",
    "Shifts",
    "augment",
    "balanced_order",
    "cache_directory",
    "draw_shifts",
    "load",
    "split",
]
