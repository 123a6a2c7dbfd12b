import keras
import numpy as np
import pytest

from tfrecipes.arithmetic.smoothing import SmoothedCrossentropy

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("a", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("shape", [(64,), (8, 5)])
@pytest.mark.parametrize("form", ["integers", "one-hot"])
def test_smoothed_crossentropy_equals_torch_and_keras(a, shape, form):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 4, (*shape, 11)).astype("float32")
    y = rng.integers(0, 11, shape)
    one_hot = np.eye(11, dtype="float32")[y]
    labels = y if form == "integers" else one_hot
    ours = SmoothedCrossentropy(a, from_logits=True, reduction=None)(labels, z)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(z).reshape(-1, 11),
        torch.tensor(y if form == "integers" else one_hot).reshape(
            (-1,) if form == "integers" else (-1, 11)
        ),
        reduction="none",
        label_smoothing=a,
    ).reshape(shape)
    stock = keras.losses.CategoricalCrossentropy(True, label_smoothing=a, reduction=None)
    # 2e-6: some ulp of losses up to 20, summed in another order
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(ours, stock(one_hot, z), rtol=2e-6, atol=2e-6)


def test_an_ignored_class_is_torchs_ignore_index():
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 2, (20, 6)).astype("float32"), rng.integers(0, 6, 20)
    y[::3] = -1
    ours = SmoothedCrossentropy(0.1, from_logits=True, ignore_class=-1)(y, z)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(z), torch.tensor(y), ignore_index=-1, label_smoothing=0.1
    )
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
