"""A torch DataLoader is data: its batches are the steps."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tfrecipes as tfr  # noqa: E402
from tests import tiny  # noqa: E402
from tfrecipes.assemble import running  # noqa: E402

RECIPE = tfr.Recipe.load("tiny").replace(**{"train.epochs": 2, "step.jit": False})


def loader(*arrays):
    tensors = [torch.from_numpy(a) for a in arrays]
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=32)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // 32)

    def __getitem__(self, index):
        return tuple(a[32 * index : 32 * index + 32] for a in self.arrays)


def trained(data, directory, **arguments):
    history = RECIPE.fit(tiny.dense_model, data, directory=directory, verbose=0, **arguments)
    return tiny.weights(history.model)


@pytest.mark.parametrize("class_weight", [None, {1: 3.0}], ids=["plain", "class_weight"])
def test_a_loader_trains_the_weights_of_its_batches(class_weight, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "write_report", lambda path: None)
    x, y = tiny.data(samples=80)
    by_loader = trained(loader(x, y.astype("int64")), tmp_path / "a", class_weight=class_weight)
    by_batches = trained(Batches(x, y), tmp_path / "b", class_weight=class_weight)
    for a, b in zip(by_loader, by_batches, strict=True):
        assert np.array_equal(a, b)
