"""Recipe to objects to a finished run. The one room that sees every other."""

from tfrecipes.assemble.checking import run_check as run_check
from tfrecipes.assemble.command import train as train
from tfrecipes.assemble.compiling import callbacks as callbacks
from tfrecipes.assemble.compiling import compile as compile
from tfrecipes.assemble.finding import find_for_target as find_for_target
from tfrecipes.assemble.fitting_batch import find_batch_for_target as find_batch_for_target
from tfrecipes.assemble.running import fit as fit
