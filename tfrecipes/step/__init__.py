"""One update: the plan, the seams to Keras, THE order of operations, optimizers, the train step."""

import keras as keras  # first, so that registering our classes never meets a half-imported room
