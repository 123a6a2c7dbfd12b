"""The command line: one verb a capability, with the names of the Python API.

TensorFlow is imported by verbs that train, inside them, and by nothing else here.
"""

from tfrecipes.cli import batch as batch
from tfrecipes.cli import rates as rates
from tfrecipes.cli import recipes as recipes
from tfrecipes.cli import searching as searching
from tfrecipes.cli import training as training
from tfrecipes.cli import viewing as viewing
from tfrecipes.cli.program import app as app
from tfrecipes.cli.program import main as main
