import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.arithmetic import precision
from tfrecipes.arithmetic.precision import Device, choose, set_precision

TPU = Device("TPU", "TPU v4")
H100 = Device("GPU", "NVIDIA H100", (9, 0))
A100 = Device("GPU", "NVIDIA A100", (8, 0))
T4 = Device("GPU", "Tesla T4", (7, 5))
P100 = Device("GPU", "Tesla P100", (6, 0))
UNKNOWN = Device("GPU", "GPU:0")


@pytest.mark.parametrize(
    ("devices", "policy", "scaling", "words"),
    [
        ([], "float32", False, "no accelerator"),
        ([TPU], "mixed_bfloat16", False, "is a TPU"),
        ([H100], "mixed_bfloat16", False, "H100 has compute capability 9.0"),
        ([A100], "mixed_bfloat16", False, "A100 has compute capability 8.0"),
        ([T4], "mixed_float16", True, "T4 has compute capability 7.5, which has no bfloat16"),
        ([P100], "float32", False, "P100 has compute capability 6.0, too old"),
        ([UNKNOWN], "float32", False, "of GPU:0 is not known"),
        ([A100, T4], "mixed_float16", True, "T4"),
        ([A100, P100], "float32", False, "P100"),
        ([A100, UNKNOWN], "float32", False, "not known"),
    ],
)
def test_the_weakest_device_decides(devices, policy, scaling, words):
    for order in (devices, devices[::-1]):
        chosen = choose(order)
        assert (chosen.policy, chosen.loss_scaling) == (policy, scaling)
        assert words in chosen.reason


def test_auto_asks_the_hardware(monkeypatch):
    monkeypatch.setattr(precision, "accelerators", lambda: [T4])
    assert set_precision("auto") == choose([T4])
    assert keras.config.dtype_policy().name == "mixed_float16"


def test_devices_come_from_tensorflow(monkeypatch):
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: [gpu] if kind == "GPU" else []
    )
    details = {"device_name": "NVIDIA H100", "compute_capability": (9, 0)}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert precision.accelerators() == [H100]
    details.clear()
    assert precision.accelerators() == [Device("GPU", gpu.name)]


@pytest.mark.parametrize(
    ("word", "compute", "scaling"),
    [("float32", "float32", False), ("bfloat16", "bfloat16", False), ("float16", "float16", True)],
)
def test_layers_compute_in_it_and_variables_stay_float32(word, compute, scaling):
    chosen = set_precision(word)
    assert chosen.loss_scaling is scaling
    assert chosen.reason.endswith("as asked")
    layer = keras.layers.Dense(2)
    assert layer(np.ones((1, 3), "float32")).dtype == compute
    assert layer.kernel.dtype == "float32"


def test_on_a_cpu_auto_is_float32():
    if not tf.config.list_physical_devices("GPU"):
        assert set_precision("auto").policy == "float32"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("mixed_bfloat16", "Did you mean 'bfloat16'?"),
        ("flaot32", "'float32'?"),
        (16, ""),
        (None, ""),
    ],
)
def test_another_word_is_refused_with_the_nearest(word, hint):
    with pytest.raises(ValueError, match="must be one of auto, float32") as caught:
        set_precision(word)
    assert hint in str(caught.value)
    assert keras.config.dtype_policy().name == "float32"
