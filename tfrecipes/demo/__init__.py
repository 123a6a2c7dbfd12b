"""The embedded demo: a small convolutional net on real handwritten digits."""
