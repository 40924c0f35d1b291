"""Real two-dimensional Fourier transforms: by ducc0 where it is installed, by scipy.fft otherwise.

ducc0 is by the author of scipy's transforms, vectorises them and takes about half their time.
"""

import os

import numpy as np
import scipy.fft

try:
    import ducc0
except ImportError:
    ducc0 = None

try:
    # What scipy.fft calls once it has handled the arguments, which are those of ducc0.fft.
    from scipy.fft._pocketfft import pypocketfft
except ImportError:
    pypocketfft = None

__all__ = ["both_halves", "to_spectrum", "to_values", "transforms_of"]


def _read_number_of_threads():
    """Make ducc0 read its number of threads, once and for all, where a list such as OMP_NUM_THREADS=4,2 is an error."""
    omp, own = os.environ.get("OMP_NUM_THREADS"), "DUCC0_NUM_THREADS"
    if ducc0 is None or omp is None or omp.strip().isdigit() or own in os.environ:
        return
    first = omp.split(",")[0].strip()
    os.environ[own] = first if first.isdigit() else "0"
    try:
        ducc0.fft.r2c(np.zeros((2, 2)), axes=(0, 1), nthreads=1)
    finally:
        del os.environ[own]


_read_number_of_threads()


def to_values(spectrum, n):
    """Return the (..., n, n) values of the modes in `spectrum`, (..., n, m): irfft2 with norm="forward".

    Columns beyond the m <= n // 2 + 1 given are zero.
    """
    if ducc0 is None:
        # Along x first: the second transform pads the columns that are missing.
        return scipy.fft.irfft(scipy.fft.ifft(spectrum, axis=-2, norm="forward"), n, norm="forward")
    rows, columns = spectrum.ndim - 2, spectrum.ndim - 1
    if spectrum.shape[-1] == n // 2 + 1:
        return ducc0.fft.c2r(spectrum, axes=(rows, columns), lastsize=n, forward=False, nthreads=1)
    padded = np.zeros((*spectrum.shape[:-1], n // 2 + 1), dtype=complex)
    padded[..., : spectrum.shape[-1]] = ducc0.fft.c2c(spectrum, axes=(rows,), forward=False, nthreads=1)
    return ducc0.fft.c2r(padded, axes=(columns,), lastsize=n, forward=False, nthreads=1)


def to_spectrum(values):
    """Return the coefficients (..., n, n // 2 + 1) of real values (..., n, n): rfft2 with norm="forward"."""
    if ducc0 is None:
        return scipy.fft.rfft2(values, norm="forward")
    values = np.asarray(values, dtype=float)
    return ducc0.fft.r2c(values, axes=(values.ndim - 2, values.ndim - 1), forward=True, inorm=2, nthreads=1)


def transforms_of(n):
    """Return `to_values` for stacks (k, n, n) and `to_spectrum` for (n, n): spectra, out -> values; values -> spectrum.

    For thousands of small transforms, where handling the arguments would take a tenth of the time.
    """
    engine = pypocketfft if ducc0 is None else ducc0.fft
    if engine is None:
        return (lambda spectra, out: to_values(spectra, n)), to_spectrum
    c2r, r2c, stacked, axes = engine.c2r, engine.r2c, (1, 2), (0, 1)

    def values(spectra, out):
        # axes, lastsize, forward, inorm, out, nthreads
        return c2r(spectra, stacked, n, False, 0, out, 1)

    def spectrum(values):
        return r2c(values, axes, True, 2, None, 1)

    return values, spectrum


def both_halves(half, n, n_modes):
    """Return what `grid.coefficients` does from the half k_2 >= 0 of the coefficients, as `to_spectrum` has it."""
    kept = min(n_modes, n // 2)
    half = half[..., : kept + 1]
    c = np.zeros(half.shape[:-2] + (2 * n_modes + 1,) * 2, dtype=complex)
    last = n_modes + kept
    c[..., n_modes : last + 1, n_modes : last + 1] = half[..., : kept + 1, :]
    c[..., n_modes - kept : n_modes, n_modes : last + 1] = half[..., n - kept :, :]
    if 2 * kept == n:
        # On an even grid n/2 and -n/2 are one mode: its entry is shared between them.
        c[..., [n_modes - kept, last], :] *= 0.5
        c[..., last] *= 0.5
    # The values are real: c_(-k) is the conjugate of c_k.
    rows = slice(n_modes - kept, last + 1)
    c[..., rows, n_modes - kept : n_modes] = np.conj(c[..., rows, last:n_modes:-1][..., ::-1, :])
    return c
