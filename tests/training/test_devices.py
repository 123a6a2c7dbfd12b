import pytest
import tensorflow as tf

from tfrecipes.arithmetic.precision import Device
from tfrecipes.training import devices


def test_describe_counts_processors_and_names_accelerators(monkeypatch):
    monkeypatch.setattr(devices, "accelerators", lambda: [Device("GPU", "NVIDIA H100", (9, 0))])
    found = devices.describe()
    assert found["cpus"] >= 1
    assert found["accelerators"] == ["NVIDIA H100"]


def test_auto_leaves_placement_to_tensorflow():
    assert devices.resolve("auto") is None


def test_cpu_is_a_strategy_only_where_there_is_something_else(monkeypatch):
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    strategy = devices.resolve("cpu")
    with strategy.scope():
        assert "CPU" in tf.Variable(0.0).device
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert devices.resolve("cpu") is None


@pytest.mark.parametrize("word", ["all", "gpu", 2, None, ["gpu:0"]])
def test_other_devices_are_refused_in_a_sentence(word):
    with pytest.raises(ValueError, match="comes in a later version") as caught:
        devices.resolve(word)
    assert "\n" not in str(caught.value)
