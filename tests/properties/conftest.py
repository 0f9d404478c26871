"""Profiles of the search: "ci" takes seconds and repeats itself, "search" is long and random.

``HYPOTHESIS_PROFILE=search python -m pytest tests/properties`` searches, as does pytest's
``--hypothesis-profile=search``.
"""

import os

from hypothesis import HealthCheck, Phase, settings

shared = settings(
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("ci", shared, max_examples=20, derandomize=True)
settings.register_profile("search", shared, max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
