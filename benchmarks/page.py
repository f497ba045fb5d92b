"""The page of a backtest: 500,000 one-minute bars with their indicators and 50,000 round trips; its time and its size.

    .venv/bin/python benchmarks/page.py [--runs 5]

The run is that of `tests/core/research/test_page.py`: a random walk (seed 7), eight columns of indicators, a round trip in every
ten bars. What is timed is `write_page`: processor time, the median of all runs.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests/core/research")]


def main():
    from test_page import long_run

    from torghut_core.research.pages.backtest import write_page

    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    run = long_run()
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.runs):
            before = getrusage(RUSAGE_SELF).ru_utime
            path = write_page(Path(folder) / "page.html", run)
            seconds.append(getrusage(RUSAGE_SELF).ru_utime - before)
        print(f"page: {statistics.median(seconds):.2f} s of processor time, {path.stat().st_size / 1e6:.2f} MB")


main()
