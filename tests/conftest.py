"""What all tests share: how hard hypothesis looks.

The examples are the same on every run, so that a change is judged by what it does. ``HYPOTHESIS_PROFILE=hunt`` looks
for new ones, ten times as hard.
"""

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("hunt", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
