"""Tests of where warnings point."""

import inspect
import pickle

import pytest
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.exceptions import ConvergenceWarning

WAYS = {
    "fit": lambda model, X: model.fit(X),
    "fit_transform": lambda model, X: model.fit_transform(X),
    "Pipeline": lambda model, X: make_pipeline(StandardScaler(), model).fit_transform(X),
    "search": lambda model, X: GridSearchCV(model, {"tol": [1e-4]}, cv=2).fit(X),
}


@pytest.mark.parametrize("way", WAYS)
def test_warnings_of_fit_point_at_the_caller(way, digits):
    """They name the line that called skae, or scikit-learn with skae in it."""
    model = AutoencoderTransformer(2, max_iter=1, hidden_layer_sizes=(4,), random_state=0)
    with pytest.warns(ConvergenceWarning, match="Increase max_iter") as caught:
        WAYS[way](model, digits[:200])
    line = inspect.getsourcelines(WAYS[way])[1]
    assert {(each.filename, each.lineno) for each in caught} == {(__file__, line)}


def test_warnings_of_use_point_at_the_caller(digits):
    """So do those of a device that is not there and of another version's pickle."""
    model = AutoencoderTransformer(2, max_iter=0).fit(digits[:50])
    model.device = "cuda:99"
    with pytest.warns(UserWarning, match="CPU is used") as caught:
        make_pipeline(model).transform(digits[:5])
    state = {**model.__getstate__(), "_skae_version": "0.0.1"}
    with pytest.warns(InconsistentVersionWarning) as caught_too:
        pickle.loads(pickle.dumps(model)).__setstate__(state)
    assert {each.filename for each in (*caught, *caught_too)} == {__file__}
