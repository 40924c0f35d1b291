"""Checks of arguments, shared by the modules of this package and of those above it: those of `pde`."""

from pde.checks import integer, one_of, real, refuse_masked

__all__ = ["integer", "one_of", "real", "refuse_masked"]
