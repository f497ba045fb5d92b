"""Machine code of another process had the name of other code here, and was called in its place: names went by numbers."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
from numba import from_dtype
from torghut_core.stages import records
for span in range(int(sys.argv[1])):
    records(np.dtype([("slots", np.float64, (span + 1,))]))
made = [from_dtype(np.dtype([("slots", np.float64, (size,))])) for size in (16, 64)]
print([record.mangling_args for record in made])
"""


@pytest.mark.parametrize("before", [0, 5])
def test_name_of_a_type_does_not_depend_on_those_made_before_it(before):
    """In every process a record has the name of its content, and another record has another one."""
    command = [sys.executable, "-c", SCRIPT]
    first, other = (
        subprocess.run([*command, str(number)], capture_output=True, text=True, check=True).stdout
        for number in (before, 70)
    )
    assert first == other
    (_, one), (_, two) = eval(first)
    assert one != two
