"""Activity: from when on a VAE's code is in use, and what to do where few are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._runtime.warnings import warn
from ..objectives._schedules import value_at

# A code is inactive where the variance of its posterior means is not above this: Burda, Grosse and
# Salakhutdinov, "Importance Weighted Autoencoders", 2016, appendix C.
LEAST_ACTIVITY = 0.01


def warn_of_inactive(vae: Any, n_possible: int) -> None:
    """Warn if most of the components of a VAE that can be active are not, with what to change."""
    n_active = int(vae.active_components_.sum())
    if 2 * n_active >= n_possible:
        return
    if (beta := max(value_at(vae.beta, progress) for progress in np.linspace(0, 1, 101))) > 1:
        remedies = [f"Lower beta, which reaches {beta}"]
    else:
        remedies = ["Lower n_components"]
        if vae._recipe.starts_at_pca and vae._recipe.loss.raw_target:
            remedies.append("use init='random'")
        elif vae.init == "random" and vae._is_built_in:
            remedies.append("use init='pca'")
        if vae.n_importance_samples == 1:
            remedies.append("set free_bits")
    warn(
        f"{n_active} of {vae.n_components_} components are active: the posterior means of "
        f"the others hardly vary over the training rows. {', or '.join(remedies)}.",
        UserWarning,
    )
