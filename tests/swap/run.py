"""Run scikit-learn's own tests of PCA and IncrementalPCA against skae.decomposition.

They are those of the installed scikit-learn; nothing of them is copied. Which of them are not to
pass, and why, is in exceptions.txt. Usage: ``python tests/swap/run.py [options of pytest]``.
"""

import sys

import pytest

MODULES = ["test_pca", "test_incremental_pca"]

if __name__ == "__main__":
    tests = [f"sklearn.decomposition.tests.{module}" for module in MODULES]
    options = ["-p", "tests.swap.plugin", "-p", "no:cacheprovider", "-c", "/dev/null", "-q"]
    sys.exit(pytest.main([*options, *sys.argv[1:], "--pyargs", *tests]))
