"""How a run ends whose `fit` is refused before its first step."""

import json

import pytest

import tfrecipes as tfr
from tests import tiny


def test_a_claim_that_is_refused_is_what_the_user_reads(tmp_path):
    recipe = tfr.Recipe.load("default")  # has an EMA of its own
    with pytest.raises(ValueError, match="average"):
        recipe.fit(
            tiny.model(),
            tiny.data(),
            epochs=1,
            callbacks=[tfr.EMA()],
            directory=tmp_path / "run",
            verbose=0,
        )
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "stopped"
