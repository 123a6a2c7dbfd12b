"""Every callback of ours is made again from its config."""

import pytest

import tfrecipes as tfr


def smallest(step):
    return step.loss


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("TrainStep", {"on_nonfinite": "stop", "max_bad_steps": 3}),
        ("MicroBatch", {"size": 4}),
        ("GradientAccumulation", {"steps": 3}),
        ("Average", {"start": "10%"}),
        ("EMA", {"decay": 0.9, "warmup": False}),
        ("SWA", {"start": "2ep", "learning_rate": 0.1, "cycle": 5}),
        ("Monitor", {"columns": (*tfr.COLUMNS, smallest)}),
        ("Resume", {"directory": "run/checkpoints", "every": "500", "keep": 2}),
        ("Progress", {}),
    ],
)
def test_a_callback_round_trips(name, arguments):
    cls = getattr(tfr, name)
    made = cls(**arguments)
    config = made.get_config()
    assert arguments.items() <= config.items()
    again = cls.from_config(config)
    assert type(again) is cls
    assert again.get_config() == config


def test_a_subclass_has_its_own_arguments_in_its_config():
    class Late(tfr.EMA):
        def __init__(self, decay=0.5, *, note="none"):
            super().__init__(decay)
            self.note = note

    assert Late.from_config(Late(0.25, note="mine").get_config()).note == "mine"
    assert Late(0.25).get_config() == {"decay": 0.25, "note": "none"}


def test_a_missing_or_unknown_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required"):
        tfr.MicroBatch()
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        tfr.MicroBatch(sizes=3)
