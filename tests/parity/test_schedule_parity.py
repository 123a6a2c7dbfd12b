"""Every step of a schedule equals torch's and timm's, where they have it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm_scheduler = pytest.importorskip("timm.scheduler")
pytest.importorskip("timm.scheduler.wsd_lr")

from tests.arithmetic.schedule_cases import TOLERANCE, cases_with  # noqa: E402


def optimizer(case):
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=case.peak)


def same(case, steps, rates):
    np.testing.assert_allclose(
        case.make()(steps).numpy(), rates, rtol=0, atol=TOLERANCE * case.peak
    )


@pytest.mark.parametrize("case", **cases_with("torch"))
def test_every_rate_is_torchs(case):
    sgd = optimizer(case)
    scheduler = case.torch(torch.optim.lr_scheduler, sgd)
    # torch's cosine rises again after its end, and its one cycle refuses to go on.
    steps = case.steps if case.ends_at is None else case.steps[: case.ends_at + 1]
    rates = []
    for _ in steps:
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if len(rates) < len(steps):
            scheduler.step()
    same(case, steps, rates)


@pytest.mark.parametrize("case", **cases_with("timm"))
def test_every_rate_is_timms(case):
    sgd = optimizer(case)
    scheduler = case.timm(timm_scheduler, sgd)
    rates = []
    for t in case.steps:
        scheduler.step_update(int(t))
        rates.append(sgd.param_groups[0]["lr"])
    same(case, case.steps, rates)
