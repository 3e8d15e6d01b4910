"""Where a process of ours that is started by `python -m` finds the modules that this one would."""

from __future__ import annotations

import os
import sys


def module_path() -> str:
    """For its PYTHONPATH."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)
