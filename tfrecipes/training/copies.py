"""A tf.data pipeline that can be read without moving on the one that it was made from."""

import tensorflow as tf

_SHUFFLES = ("ShuffleDatasetV3", "ShuffleAndRepeatDatasetV2")


def copied(dataset: tf.data.Dataset) -> tuple[tf.data.Dataset, bool]:
    """A pipeline that reads the same, with seeds of its own; the pipeline itself if that fails."""
    try:
        serialised = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=1,  # states that are not in the graph are left where they are
            strip_device_assignment=False,
        )
    except (tf.errors.OpError, ValueError):
        return dataset, True  # more than 2 GB of constants, or an operation without a text
    graph = tf.compat.v1.GraphDef.FromString(serialised.numpy())
    for number, node in enumerate(list(graph.node)):
        if node.op in _SHUFFLES:
            # The copy would otherwise draw from the very seeds that the next epoch is to have.
            own = graph.node.add()
            own.op, own.name = "DummySeedGenerator", f"own_seed_{number}"
            node.input[-1] = own.name
    copy = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
    return tf.data.experimental.from_variant(copy, dataset.element_spec), False
