"""Every figure and table of the paper, by command: ``python -m figures``."""

import _enresnet

_enresnet.quiet_imports()
_enresnet.check_pde()
