"""The one tiny model, the one tiny data set and the one fit that every test uses."""

import numpy as np

FEATURES = 8
CLASSES = 3
SAMPLES = 96
SEED = 0


def data(samples=SAMPLES, seed=SEED):
    """Features (samples, 8) float32 and integer labels (samples,) that a linear map can learn."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, FEATURES)).astype("float32")
    # The map is the same for every seed: other samples of one problem, as in a validation set.
    truth = np.random.default_rng(12345).standard_normal((FEATURES, CLASSES))
    y = np.argmax(x @ truth, axis=1).astype("int32")
    return x, y


def one_hot(y):
    """Integer labels (samples,) as one-hot float32 (samples, 3)."""
    return np.eye(CLASSES, dtype="float32")[y]


def model(seed=SEED):
    """Dense, BatchNorm, Dropout, Dense: every kind of state that a training step has to carry.

    Returns:
        A functional model from (batch, 8) to (batch, 3) logits, not compiled.
    """
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((FEATURES,), name="features")
    x = keras.layers.Dense(16, name="hidden")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Activation("relu", name="relu")(x)
    x = keras.layers.Dropout(0.25, seed=seed, name="drop")(x)
    outputs = keras.layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(inputs, outputs, name="tiny")


def dense_model(seed=SEED):
    """Two dense layers and nothing that depends on the batch: for laws that hold to rounding.

    Returns:
        A functional model from (batch, 8) to (batch, 3) logits, not compiled.
    """
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((FEATURES,), name="features")
    x = keras.layers.Dense(16, activation="tanh", name="hidden")(inputs)
    outputs = keras.layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(inputs, outputs, name="tiny_dense")


def loss():
    """The loss that belongs to the models above: integer labels, logits."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(net, optimizer=None, callbacks=(), **changes):
    """Compile `net` with stock Keras and fit it for 2 epochs of 3 batches, in data order.

    Args:
        net: One of the models above.
        optimizer: Keras optimizer. None: stock SGD at 0.1.
        callbacks: Keras callbacks.
        **changes: Arguments of `fit` that take the place of the ones here, `data` for (x, y).

    Returns:
        The Keras History.
    """
    import keras

    x, y = changes.pop("data", None) or data()
    net.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), loss=loss())
    arguments = {"epochs": 2, "batch_size": 32, "shuffle": False, "verbose": 0} | changes
    return net.fit(x, y, callbacks=list(callbacks), **arguments)


def weights(net):
    """Copies of every variable of `net`, in order: compare two runs bit for bit with it.

    No paths: those of seed generators count on through one process.
    """
    return [np.array(v.numpy(), copy=True) for v in net.variables]
