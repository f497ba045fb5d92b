"""How long it takes to ask whether a result is luck: user CPU seconds, the median of three.

python benchmarks/belief.py
"""

import resource
from statistics import median

import numpy as np

from torghut_core.research.belief.judge import judge
from torghut_core.research.belief.overfitting import measure_overfitting
from torghut_core.research.belief.resampling import (
    resampled_means,
    resampled_sharpes,
    shuffled_drawdowns,
    totals_at_costs,
)

RNG = np.random.default_rng(1)
PROFITS = RNG.normal(1, 10, 10_000)
DAYS = RNG.normal(0.0005, 0.01, 10_000)
TRIALS = RNG.normal(0, 0.01, (1_000, 1_024))
CASES = {
    "1,000 means of 10,000 trades": lambda: resampled_means(PROFITS),
    "1,000 Sharpe ratios of 10,000 days, in blocks": lambda: resampled_sharpes(DAYS),
    "1,000 drawdowns of 10,000 trades in another order": lambda: shuffled_drawdowns(PROFITS, 1e5),
    "1,000 totals of 10,000 trades at other costs": lambda: totals_at_costs(PROFITS, np.ones(10_000)),
    "PBO of 1,024 trials over 1,000 days, 12,870 ways": lambda: measure_overfitting(TRIALS),
    "the sentence, of 500 days and 1,000 trades": lambda: judge(DAYS[:500], PROFITS[:1_000], 252, trials=100),
}


def seconds(call):
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - began


for name, call in CASES.items():
    print(f"{name}: {median(seconds(call) for _ in range(3)):.2f} s")
