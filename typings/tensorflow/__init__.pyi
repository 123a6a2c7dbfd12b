# TensorFlow ships no types, and the stubs that type checkers bring know neither `x[..., None]` nor
# most of `tf.data`: they found 24 faults in correct code, none in wrong code (basedpyright 1.40).
# So all of TensorFlow is Any here. Keras is read from its source.
from typing import Any

def __getattr__(name: str) -> Any: ...
