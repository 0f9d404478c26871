"""Profiles of the search: "ci" takes seconds and repeats itself, "search" is long and random.

``HYPOTHESIS_PROFILE=search python -m pytest tests/properties`` searches, as does pytest's
``--hypothesis-profile=search``.
"""

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "ci",
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=SLOW,
)
settings.register_profile(
    "search",
    max_examples=1000,
    derandomize=False,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=SLOW,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
