import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsq.bench.bjontegaard import (
    Curve,
    cubic_integral,
    cubic_quality_difference,
    cubic_rate_difference,
    pchip_integral,
    quality_difference,
    rate_difference,
)
from bsq.errors import DataError, NumericsError

# The example of the package `bjontegaard` (github.com/FAU-LMS/bjontegaard, README), measured there with libx265; the
# differences are what its version 1.3.0 computes with SciPy.
ANCHOR = Curve.of([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851])
TEST = Curve.of([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987])
# "Sample 1" in the demonstration of github.com/Anserw/Bjontegaard_metric, after VCEG-M33; differences as above.
OLD_ANCHOR = Curve.of([686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42])
OLD_TEST = Curve.of([893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24])


def test_published_examples() -> None:
    assert cubic_rate_difference(ANCHOR, TEST) == pytest.approx(-4.420462706125383, rel=1e-8)
    assert cubic_quality_difference(ANCHOR, TEST) == pytest.approx(0.12040941911451103, rel=1e-8)
    assert rate_difference(ANCHOR, TEST) == pytest.approx(-4.417485350589045, rel=1e-8)
    assert quality_difference(ANCHOR, TEST) == pytest.approx(0.11969278542479489, rel=1e-8)
    assert cubic_rate_difference(OLD_ANCHOR, OLD_TEST) == pytest.approx(31.3973740549095, rel=1e-8)
    assert cubic_quality_difference(OLD_ANCHOR, OLD_TEST) == pytest.approx(-1.1848979217703506, rel=1e-8)
    assert rate_difference(OLD_ANCHOR, OLD_TEST) == pytest.approx(31.379878202397627, rel=1e-8)
    assert quality_difference(OLD_ANCHOR, OLD_TEST) == pytest.approx(-1.1834724046224592, rel=1e-8)


@given(st.floats(0.2, 5), st.floats(-3, 3))
def test_closed_form(factor: float, offset: float) -> None:
    """The same curve at `factor` times the rate differs by that factor; raised by `offset` dB, by that offset."""
    qualities = [30.0, 33.5, 36.2, 38.0, 39.1]
    rates = np.array([100.0, 210, 400, 900, 1700])
    anchor, dearer = Curve.of(rates, qualities), Curve.of(rates * factor, qualities)
    better = Curve.of(rates, np.array(qualities) + offset)
    for rate, quality in ((rate_difference, quality_difference), (cubic_rate_difference, cubic_quality_difference)):
        assert rate(anchor, dearer) == pytest.approx(100 * (factor - 1), rel=1e-6, abs=1e-6)
        assert quality(anchor, better) == pytest.approx(offset, rel=1e-6, abs=1e-6)


def test_both_integrals_are_exact_on_lines() -> None:
    x = np.array([0.0, 1.0, 1.5, 4.0])
    for integral in (pchip_integral, cubic_integral):
        assert integral(x, 2 * x + 1, 0.5, 3.0) == pytest.approx(3.0**2 - 0.5**2 + 2.5)


def test_swapping_the_curves_inverts_the_factor() -> None:
    forth, back = rate_difference(ANCHOR, TEST), rate_difference(TEST, ANCHOR)
    assert (1 + forth / 100) * (1 + back / 100) == pytest.approx(1)


def test_bad_curves() -> None:
    with pytest.raises(DataError, match="4 or more"):
        Curve.of([1, 2, 3], [1, 2, 3])
    with pytest.raises(DataError, match="strictly grow"):
        Curve.of([1, 2, 3, 4], [1, 3, 2, 4])
    with pytest.raises(DataError, match="positive"):
        Curve.of([0, 2, 3, 4], [1, 2, 3, 4])
    with pytest.raises(NumericsError, match="NaN"):
        Curve.of([1, 2, 3, 4], [1, math.nan, 3, 4])
    with pytest.raises(DataError, match="overlap"):
        rate_difference(ANCHOR, Curve.of([1, 2, 3, 4], [50, 51, 52, 53]))
