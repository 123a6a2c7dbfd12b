"""What must stand before TensorFlow starts, and what every test leaves behind as it found it."""

import os
import random
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
import wrapt

LOGICAL_CPU_DEVICES = 2


@wrapt.when_imported("tensorflow")
def _split_the_cpu(tf):
    """Two logical CPU devices, set when a test first imports TensorFlow.

    A hook and not an import: TensorFlow takes 4 to 6 s, which tests of the recipe, the run folder
    and the contracts need not wait for.
    """
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * LOGICAL_CPU_DEVICES
    )


class Isolation:
    """A plugin and not a fixture of this file, so that it holds for doctests in tfrecipes/ too."""

    @pytest.fixture(autouse=True)
    def _isolated(self):
        random.seed(0)
        np.random.seed(0)
        keras = sys.modules.get("keras")
        if keras is not None:
            # Layers are numbered from the start: the same paths whatever ran before. No garbage
            # collection: with TensorFlow loaded it takes 0.4 s, a test.
            keras.utils.clear_session(free_memory=False)
            keras.utils.set_random_seed(0)
        yield
        if "keras" in sys.modules:
            import keras

            keras.config.set_dtype_policy("float32")
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


def pytest_addoption(parser):
    parser.addoption(
        "--all", action="store_true", help="walk the big matrices whole, and write their tables"
    )


def pytest_terminal_summary(terminalreporter, config):
    """Say how many cells of the composition matrix were walked."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    if any(getattr(report, "user_properties", ()) for report in reports):
        from tests.composition import table

        table.say(reports, terminalreporter.write_line, write_page=config.getoption("--all"))


def pytest_configure(config):
    """Refuse another Keras backend in one sentence, before hundreds of tests fail by it."""
    backend = os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        raise pytest.UsageError(
            "tests: KERAS_BACKEND must be tensorflow. "
            f"Received: KERAS_BACKEND={backend!r}. Unset it and run the tests again."
        )
    config.pluginmanager.register(Isolation(), "tfrecipes-isolation")
