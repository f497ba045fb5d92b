"""The door for authors of stages: the contract (`Stage`) and the compiler for their kernels (`kernel`)."""

from torghut_core.stages.base import Stage, kernel

__all__ = ["Stage", "kernel"]
