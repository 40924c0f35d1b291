"""Every figure and table of the paper, by command: ``python -m figures``."""
