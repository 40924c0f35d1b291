"""The SDE step as a residual block: where the equation of `pde` meets PyTorch.

Nothing public yet. Importing it asks for PyTorch, and says how to get it where it is missing.
"""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    # A PyTorch that is there and broken has its own story to tell.
    if error.name != "torch":
        raise
    raise ImportError(
        "bridge, and nets, which is built on it, need PyTorch, which is not installed: "
        'pip install "enresnet[nets]" (or, in a checkout, pip install -e ".[nets]")'
    ) from None
