"""Every step of a schedule equals optax's, where optax has one or its parts."""

import numpy as np
import optax
import pytest

from tests.arithmetic.schedule_cases import TOLERANCE, cases_with


@pytest.mark.parametrize("case", **cases_with("optax"))
def test_every_rate_is_optaxs(case):
    twin = case.optax(optax)
    np.testing.assert_allclose(
        case.make()(case.steps).numpy(),
        [float(twin(int(t))) for t in case.steps],
        rtol=0,
        atol=TOLERANCE * case.peak,
    )
