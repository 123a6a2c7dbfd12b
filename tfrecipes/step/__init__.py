"""One update: the plan, the seams to Keras, THE order of operations, optimizers, the train step."""
