"""Questions to a traced TensorFlow graph: what ends it, and what reaches a layer as it is.

The graph knows what names do not: `tf.nn.softmax` in a subclassed model's `call` is a softmax.
"""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# Operations that hand on what they are given, in another shape or type.
_TRANSPARENT = {"Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "StopGradient"}
_LINEAR = {
    "MatMul", "BatchMatMulV2", "BiasAdd", "AddV2", "Add", "Conv2D", "Conv1D", "Conv3D", "Einsum",
    "Mul", "Sub", "DepthwiseConv2dNative", "XlaDotV2",
}  # fmt: skip
# What only depends on a shape is not computed from the values.
_OF_SHAPE = {"Shape", "Size", "Rank", "ZerosLike", "OnesLike"}
_NAMES = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "Elu": "elu",
    "Selu": "selu",
}


def is_graph_tensor(tensor: Any) -> bool:
    """Whether a tensor belongs to a graph that can be walked."""
    return tf.is_tensor(tensor) and hasattr(tensor, "graph") and not hasattr(tensor, "numpy")


def last_activation(tensor: Any) -> str | None:
    """The activation that a tensor comes out of: "softmax", "sigmoid", "linear"; None = unknown."""
    operation = _behind(tensor)
    if operation is None:
        return None
    return _NAMES.get(operation.type, "linear" if operation.type in _LINEAR else None)


def is_softmax_of_softmax(tensor: Any) -> bool:
    """Whether a softmax's input is a softmax again, whatever reshapes lie between."""
    operation = _behind(tensor)
    if operation is None or operation.type != "Softmax":
        return False
    inner = _behind(operation.inputs[0])
    return inner is not None and inner.type == "Softmax"


def is_relu(tensor: Any) -> bool:
    """Whether a tensor comes out of a ReLU."""
    return last_activation(tensor) in ("relu", "relu6")


def reaches(tensor: Any, sources: dict[str, str], walls: Iterable[str]) -> set[str]:
    """Which sources a tensor is computed from without passing a wall.

    Args:
        tensor: A tensor of a graph.
        sources: Tensors' names, each with the word to return for it.
        walls: Names of tensors at which to turn back.

    Returns:
        The words of the sources that were reached.
    """
    walls, seen, found = set(walls), set(), set()
    stack = [tensor]
    while stack:
        one = stack.pop()
        if one.name in seen:
            continue
        seen.add(one.name)
        if one.name in sources:
            found.add(sources[one.name])
        elif one.name not in walls and one.op.type not in _OF_SHAPE:
            stack.extend(one.op.inputs)
    return found


def _behind(tensor: Any) -> Any:
    """The operation that made a tensor, past those that only reshape or cast it."""
    if not is_graph_tensor(tensor):
        return None
    operation = tensor.op
    while operation.type in _TRANSPARENT and operation.inputs:
        operation = operation.inputs[0].op
    return operation
