"""The training recipe for Keras 3 on TensorFlow, made right, fast and visible."""
