"""The device that a command's --device names."""

import torch

__all__ = ["device_of"]


def device_of(name):
    """Return the device of a name, if it is there.

    Parameters
    ----------
    name : str
        "cpu", "cuda" or "cuda:N"; "auto" is "cuda" where PyTorch can use a GPU, else "cpu".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is another, or there is no such device.

    Examples
    --------
    >>> device_of("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got device={name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device
