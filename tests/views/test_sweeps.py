"""A sweep's picture shows every sweep, the suggestion and its interval."""

import numpy as np
import pytest

from tfrecipes.views.sweeps import plot_sweep

RATES = np.geomspace(1e-6, 10, 80)


def sweeps(count=3):
    rng = np.random.default_rng(0)
    falling = 2.3 - 1.5 / (1 + (1e-3 / RATES) ** 1.5)
    losses = falling + rng.normal(0, 0.02, (count, RATES.size)) + (RATES / 0.3) ** 2
    losses[:, RATES > 3] = np.nan
    losses[0, RATES > 1] = np.inf
    return losses


def test_every_sweep_the_suggestion_and_the_interval_are_there(tmp_path):
    figure = plot_sweep(RATES, sweeps(), 1e-2, (3e-3, 3e-2), path=tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["interval", "3 sweeps", "median", "suggestion"]
    assert axes.get_xscale() == "log"
    assert axes.get_ylim()[1] < 3.5, "a divergence leaves the picture and does not set its scale"
    assert "take 0.01; from 0.003 to 0.03 will do" in [text.get_text() for text in axes.texts]


def test_one_sweep_is_enough():
    figure = plot_sweep(RATES, sweeps(1), 1e-2, (3e-3, 3e-2))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["interval", "1 sweep", "suggestion"]
    first_is_nan = sweeps(1)
    first_is_nan[0, 0] = np.nan
    plot_sweep(RATES, first_is_nan, 1e-2, (3e-3, 3e-2)).canvas.draw()


@pytest.mark.parametrize(
    ("rates", "losses"),
    [(RATES, sweeps()[:, :5]), (-RATES, sweeps()), (RATES, np.full((2, 80), np.nan))],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(rates, losses):
    with pytest.raises(ValueError, match=r"plot_sweep: `losses` must be \(sweeps, rates\)"):
        plot_sweep(rates, losses, 1e-2, (3e-3, 3e-2))
