"""The drop-ins: PCA's arguments, names, attributes and likelihood; what may be set by hand."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn.decomposition
from sklearn.base import clone
from sklearn.decomposition._base import _BasePCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderTransformer
from skae.decomposition import PCA, IncrementalPCA

CALM = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
QUICK = dict(max_iter=4, random_state=0)
LINEAR = {PCA: sklearn.decomposition.PCA, IncrementalPCA: sklearn.decomposition.IncrementalPCA}
BOTH = pytest.mark.parametrize("kind", LINEAR)


@BOTH
def test_signatures_begin_with_scikit_learn_s(kind):
    """The same names and defaults, and all others have defaults too."""
    own, theirs = kind().get_params(), LINEAR[kind]().get_params()
    assert {name: own[name] for name in theirs} == theirs


@BOTH
def test_isinstance_and_names(kind, digits):
    """To isinstance it is PCA; pipelines and columns have PCA's names."""
    model = kind(2, max_iter=0).fit(digits)
    assert isinstance(model, LINEAR[kind])
    assert isinstance(model, _BasePCA)
    name = kind.__name__.lower()
    assert list(model.get_feature_names_out()) == [f"{name}0", f"{name}1"]
    assert make_pipeline(model).named_steps[name] is model
    assert model.n_features_ == 64
    assert model.n_samples_seen_ == 1797


@BOTH
@CALM
def test_scikit_learn_s_estimator_checks(kind):
    """None fails; where all components are kept nothing is trained, which one check counts."""
    settings = dict(QUICK, early_stopping=True)
    check_estimator(kind(1, **settings))
    failed = check_estimator(kind(**settings), on_fail=None)
    names = [each["check_name"] for each in failed if each["status"] == "failed"]
    assert names == ["check_transformer_n_iter"]


@pytest.mark.parametrize("wanted", [None, 1.0, 0.5, 0.95, "mle", 7])
def test_the_number_of_components_is_pca_s(wanted, digits):
    """Trained or not; and where all are kept it is PCA itself."""
    X = digits[:, digits.std(0) > 0.1]
    theirs = sklearn.decomposition.PCA(None if wanted == 1.0 else wanted, svd_solver="full").fit(X)
    for max_iter in (0, 1):
        found = PCA(wanted, max_iter=max_iter, early_stopping=False, random_state=0).fit(X)
        assert found.n_components_ == theirs.n_components_
    if wanted in (None, 1.0):
        assert found.n_iter_ == 0
        np.testing.assert_allclose(found.transform(X), theirs.transform(X), atol=1e-4)


@pytest.mark.parametrize("whiten", [False, True])
def test_scores_are_pca_s_likelihood(digits, whiten):
    """Without training to rounding, and of few rows; with training it is that of the covariance."""
    theirs = sklearn.decomposition.PCA(5, whiten=whiten, svd_solver="full").fit(digits)
    found = PCA(5, whiten=whiten, max_iter=0).fit(digits)
    samples = theirs.score_samples(digits)
    np.testing.assert_allclose(found.score_samples(digits), samples, rtol=1e-6, atol=1e-5)
    assert found.score(digits) == pytest.approx(theirs.score(digits), rel=1e-6)
    trained = PCA(5, whiten=whiten, early_stopping=False, **QUICK).fit(digits)
    precision, centred = trained.get_precision(), digits[:9] - trained.mean_
    expected = np.linalg.slogdet(precision)[1] - 64 * np.log(2 * np.pi)
    expected = 0.5 * (expected - np.einsum("ij,jk,ik->i", centred, precision, centred))
    np.testing.assert_allclose(trained.score_samples(digits[:9]), expected, rtol=1e-6)


def test_the_likelihood_of_all_components(blobs):
    """Without noise it is that of a full covariance."""
    found, theirs = PCA(max_iter=0).fit(blobs), sklearn.decomposition.PCA().fit(blobs)
    np.testing.assert_allclose(found.score_samples(blobs), theirs.score_samples(blobs), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"svd_solver": "exact"}, "'svd_solver' parameter of PCA"),
        ({"iterated_power": -1}, "'iterated_power' parameter of PCA"),
        ({"power_iteration_normalizer": "qr"}, "'power_iteration_normalizer' parameter of PCA"),
        ({"n_components": "most"}, "'n_components' parameter of PCA"),
        ({"n_components": 65}, "must be between 0 and .*=64 with svd_solver='full'"),
        ({"n_components": 0}, "an autoencoder has a code"),
        ({"n_components": "mle", "svd_solver": "arpack"}, "cannot be a string"),
        ({"n_components": 0.5, "svd_solver": "randomized"}, "must be between 1 and"),
        ({"n_components": 64, "svd_solver": "arpack"}, "must be strictly less than"),
    ],
)
def test_what_pca_refuses_is_refused(digits, settings, message):
    """In its words."""
    with pytest.raises(ValueError, match=message):
        PCA(**settings).fit(digits)


@CALM
def test_slices_work_and_other_values_are_refused(digits):
    """The first components can be kept, as with PCA; nothing is ignored in silence."""
    model = PCA(6, early_stopping=False, **QUICK).fit(digits)
    codes, components = model.transform(digits), model.components_
    copied = pickle.loads(pickle.dumps(model))
    model.components_ = model.components_[:4]
    np.testing.assert_allclose(model.transform(digits), codes[:, :4], atol=1e-9)
    np.testing.assert_allclose(model.components_, components[:4], atol=0.05)
    assert model.explained_variance_.shape == model.singular_values_.shape == (4,)
    assert model.sample(5, random_state=0).shape == (5, 64)
    model.explained_variance_ = model.explained_variance_[:3]
    model.n_components_ = 2
    model.mean_ = model.mean_.copy()
    assert model.inverse_transform(model.transform(digits)).shape == digits.shape
    assert model.n_components_ == 2
    for name in ("components_", "mean_", "explained_variance_", "n_components_"):
        with pytest.raises(AttributeError, match=f"{name} cannot be set by hand"):
            setattr(copied, name, 2 * getattr(copied, name))
    with pytest.raises(ValueError, match="read-only"):
        copied.components_[:] = 0
    np.testing.assert_array_equal(copied.transform(digits), codes)


def test_attributes_of_an_unfitted_one_can_be_set(digits):
    """Code that fills in a PCA by hand finds what it wrote; a fit replaces it."""
    model = PCA(2, max_iter=0)
    model.components_ = np.eye(2, 64)
    model.explained_variance_ = np.ones(2)
    np.testing.assert_array_equal(model.components_, np.eye(2, 64))
    assert not hasattr(clone(model), "components_")
    assert abs(model.fit(digits).components_ - np.eye(2, 64)).max() > 0.1
    check_is_fitted(model)


@CALM
def test_training_is_an_autoencoder_s(digits):
    """The same seed finds what AutoencoderTransformer finds, whose `tol` is not PCA's."""
    found = PCA(3, max_iter=6, random_state=0, tol=7.0).fit(digits)
    same = AutoencoderTransformer(3, max_iter=6, random_state=0).fit(digits)
    assert found.n_iter_ == same.n_iter_ > 0
    np.testing.assert_array_equal(found.transform(digits), same.transform(digits))


@CALM
def test_a_search_in_processes(digits):
    """A pipeline with PCA's step name, searched side by side."""
    pipeline = make_pipeline(PCA(**QUICK), sklearn.decomposition.PCA(1))
    search = GridSearchCV(pipeline, {"pca-1__n_components": [2, 3]}, cv=2, n_jobs=2)
    assert search.fit(digits[:200]).best_estimator_.named_steps["pca-1"].n_components_ in (2, 3)


def test_incremental_pca_follows_its_batches(digits):
    """Attributes without training are IncrementalPCA's, `var_` included."""
    found, theirs = IncrementalPCA(4, max_iter=0), sklearn.decomposition.IncrementalPCA(4)
    for start in range(0, 1797, 300):
        found.partial_fit(digits[start : start + 300])
        theirs.partial_fit(digits[start : start + 300])
    np.testing.assert_allclose(found.var_, theirs.var_, atol=1e-9)
    np.testing.assert_allclose(found.components_, theirs.components_, atol=1e-6)
    assert found.n_samples_seen_ == theirs.n_samples_seen_ == 1797
    with pytest.raises(ValueError, match="n_components=70 invalid for n_features=64"):
        IncrementalPCA(70).fit(digits)


def test_nothing_is_changed_in_place(digits):
    """Arrays that the network has a copy of cannot be written to, also after a pickle."""
    model = PCA(3, whiten=True, max_iter=0).fit(digits)
    for each in (model, pickle.loads(pickle.dumps(model))):
        for name in ("components_", "mean_", "explained_variance_"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(each, name)[:] = 0


def test_small_batches_are_trained_on(digits):
    """Of as many rows as components too, where these are not all there are."""
    model = IncrementalPCA(8, random_state=0).partial_fit(digits[:100])
    n_epochs = model.n_iter_
    assert model.partial_fit(digits[100:108]).n_iter_ > n_epochs


def test_a_stream_does_not_go_on_without_components_that_were_dropped(digits):
    """The error says so, attributes stay, and a new fit begins anew."""
    model = IncrementalPCA(4, max_iter=0).partial_fit(digits[:500])
    model.components_ = model.components_[:2]
    np.testing.assert_allclose(model.var_, digits[:500].var(0), atol=1e-9)
    with pytest.raises(ValueError, match="dropped by hand"):
        model.partial_fit(digits[500:])
    assert model.fit(digits).partial_fit(digits).transform(digits).shape == (1797, 4)


def test_scores_choose_as_many_components_as_pca_s(digits):
    """A search by the estimator's own score, as in code that was written for PCA."""
    found = []
    for reducer in (PCA(**QUICK | {"max_iter": 15}), sklearn.decomposition.PCA()):
        grid = {"n_components": [1, 4, 16]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(GridSearchCV(reducer, grid, cv=2).fit(digits[:600]).best_params_)
    assert found[0] == found[1]
