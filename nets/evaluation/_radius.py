"""Radius of an evaluation, and the step of its attacks."""

from bridge import checks

__all__ = ["EPS_L2", "radius", "step_of"]

# RobustBench's radius in l2.
EPS_L2 = 0.5


def radius(eps, norm):
    """Check a radius and its norm, and return the radius."""
    checks.one_of("norm", norm, ("linf", "l2"))
    eps = checks.real("eps", eps, positive=True)
    if norm == "linf" and eps > 1:
        raise ValueError(f"eps must be at most 1, in units of images in [0, 1]: 8/255 and not 8, got eps={eps:g}")
    return eps


def step_of(recipe, norm, eps):
    """The recipe's step, scaled as the radius is; None, for that of the attacks, in another norm."""
    if norm != "linf" or not recipe["eps"]:
        return None
    return recipe["step_size"] * (1.0 if eps == recipe["eps"] else eps / recipe["eps"])
