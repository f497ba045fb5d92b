"""The door for authors of stages and indicators: the contract (`Stage`), and the compiler for their kernels.

`kernel` compiles a loop; `native` gives its machine code for arguments of types that are stated once (see there). No
indicator lives here: stages and indicators are plugins.
"""

from torghut_core.stages.base import Stage, kernel
from torghut_core.stages.machine_code import (
    BITS,
    COLUMN,
    FLAG,
    FLOATS,
    INTS,
    NUMBER,
    NUMBERS,
    OUTPUT,
    TABLE,
    VALUES,
    native,
    records,
)

__all__ = [
    "BITS",
    "COLUMN",
    "FLAG",
    "FLOATS",
    "INTS",
    "NUMBER",
    "NUMBERS",
    "OUTPUT",
    "TABLE",
    "VALUES",
    "Stage",
    "kernel",
    "native",
    "records",
]
