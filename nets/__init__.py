"""The networks of the paper, built from the residual block of `bridge`.

Nothing public yet.
"""

# First, and here alone: a missing PyTorch is reported once, by `bridge`, before any module of `nets` trips over it.
import bridge  # noqa: F401
