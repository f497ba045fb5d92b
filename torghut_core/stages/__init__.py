"""The door for authors of stages: the contract (`Stage`) and the compiler for their kernels (`kernel`).

No indicator lives here: stages are plugins.
"""

from torghut_core.stages.base import Stage, kernel

__all__ = ["Stage", "kernel"]
