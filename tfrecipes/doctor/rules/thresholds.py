"""Every threshold of the rules, in one place, each with its source or with what it was measured on.

"Measured" means the runs of the split `derive` of `benchmarks/diagnosis.py`: three families of models,
faults planted in real training runs, and healthy runs of every saved recipe. What the benchmark
reports comes from other models, data and seeds. Where a source gives a number and measurement disagreed,
both are said.
"""

# How much of a run says something about it.
ENOUGH_STEPS = 50  # ten parts of five steps: fewer, and a part's median is one batch's loss
ENOUGH_EPOCHS = 5
FEW_STEPS = 20  # for numbers that are smoother than the loss: ratios, norms
FIRST_STEPS = 3  # the loss before training moved it
EARLY_RUN = 0.25  # of the planned steps: before it, a run that is going is not called slow or stuck
PARTS = 10  # a trend is judged between medians of tenths
SURE = 4.0  # standard errors; 10 parts x 30 rules compared by chance pass 3 now and then

# not_finite. The rise before the first bad step that makes the rate, not the data, its cause.
RISE_BEFORE_NAN = 3.0  # times its median; a bad sample comes without one

# diverged: end > start + UP |start| + (start - best).
UP = 0.5  # measured: healthy runs end below their start, diverged ones at 2 to 1e9 times
FAR_ABOVE_START = 3.0  # the loss's lower quartile over the start, for a loss that never came down
MANY_GUESSES = 2.0  # a cross-entropy this many times log K knows less than nothing

# learning_rate_too_high. Karpathy: |dw| / |w| about 1e-3 a step. AdamW at its best rate: .005 to .03
# early in a run, so the limit lies ten times above.
RATIO_HIGH = 0.15
RATIO_HIGH_POOR = (
    0.06  # where the loss ends above .7 of guessing; measured at 10 times the best rate: .045
)
WEIGHTS_GREW_POOR = 2.5
RATIO_SUSTAINED = 0.025  # the median while the rate is above half its peak
# Adam moves each weight by up to its rate a step (Kingma & Ba, 2015, section 2.1), and weights begin at .05 to .5.
ADAPTIVE_RATE = 0.1
WEIGHTS_GREW = 3.0  # measured: healthy 1.0 to 1.9 times; at 30 to 1,000 times the best rate 3 to 36
BEGAN_SMALL = 0.02  # of their largest norm: weights that begin at zero grow without a fault
POOR_OUTCOME = 0.5  # of the loss of guessing: below it a high rate did no harm that shows

# A steady step under momentum m is 1 / (1 - m) rates long (Sutskever et al., 2013, use .99 at most).
MOMENTUM_HIGH = 0.99
# Adam divides by the gradient's size plus epsilon: gradients are mostly smaller than this (1e-7 is Keras's).
EPSILON_LARGE = 1e-2

# oscillating: rises against the range of the loss.
RISES_SHARE = 0.4
RISES = 3

# loss_not_falling
FALL = 0.05  # of the start
SLOW_CORRELATION = -0.6  # Spearman's: a slow fall is another fault
RATE_OF_NOTHING = 1e-7
RATIO_OF_NOTHING = 1e-6  # update_ratio, loss_not_falling: a thousandth of Karpathy's 1e-3

# falling_slowly: the share of the whole fall that comes in the second half of the summed rate.
LATE_FALL = 0.15
RATIO_TINY = 1e-4  # a tenth of Karpathy's 1e-3 at its height
RATIO_LOW = 9e-4  # at its height; measured: 3e-4 at a thirtieth of the best rate, 2e-3 at a tenth

# warmup_missing
HIGH_AT_ONCE = 0.5  # of the peak rate, within the first hundredth of the run
EARLY = 0.1  # of the run

# spikes. SPAM (2501.06842) calls 50 times the mean a spike; ZClip (2504.02507) 2.5 deviations. Measured:
# batches of two in a healthy regression reach 20 times their median; their tail has no gaps.
SPIKES_MOST = 0.03  # of the steps: more are no outliers
GAP_OF_MANY = 2.5
GAP_OF_ONE = 5.0
SPIKE_OVER_LEVEL = 5.0  # a gradient norm over its median, where a gap parts it from all others
BAD_PLACE = 8.0  # deviations of an epoch's places, for one that is bad in every epoch

# mostly_clipped. Tuning playbook: more than half of the updates is extremely aggressive. Under Adam it
# does no harm, so the limit must be far below the norm for more than "info".
CLIPPED_HALF = 0.5
CLIPPED_SEARCH = 0.2  # gradients are large at the start of any healthy run
FAR_BELOW_NORM = 10.0
FAR_BELOW_NORM_SGD = 3.0

# loss_scale_overflows. Micikevicius et al. 2018: rare overflows are how the scale is found; with growth
# every 2,000 steps one step in 2,000.
OVERFLOWS = 0.05

# learning_rate_off_schedule
OFF_SCHEDULE = 0.1  # relative
OFF_SHARE = 0.1  # of the steps compared

# schedule_too_short
RATE_GONE = 1e-3  # of the peak
RATE_GONE_SHARE = 0.25  # of the steps; a cosine to 0 has 2 %
SCHEDULE_UNUSED = 1.5  # the schedule's length over the run's
WARMUP_UNFINISHED = 1.0  # the warmup's length over the run's

# dead_layers, vanishing_gradients. AutoTrainer: first over last layer below 1e-3 and below 1e-4 itself.
DEAD_SHARE = 0.9  # of the rows in which a group's gradient is 0
VANISHED = 1e-3
VANISHED_NORM = 1e-4

# batch_norm_tiny. Wu & He 2018 (1803.08494): ImageNet error rises below 16 samples, by 10 points at 2.
BATCH_NORM_BAD = 4
BATCH_NORM_SMALL = 16

# dropout_too_high. Srivastava et al. 2014, fig. 9: error rises where less than .4 of the units are kept.
DROPOUT_HIGH = 0.75

# weight_decay_too_high: w (1 - lr wd) alone would have shrunk the weights by this factor, and they shrank.
DECAY_PER_STEP = 0.01
SHRUNK = 0.5
DECAY_LARGE = 0.5  # Loshchilov & Hutter 2019 use up to .1 at rates of 1e-3

# predicting_prior: within this share of the loss of guessing.
NEAR_GUESS = 0.04
FLAT_AT_GUESS = 0.05  # of guessing, over the second half: a run that only passes by is falling

PARAMETERS_A_CLASS = 20  # fewer cannot hold what tells a class from the others: a linear net on 20 features has as many

# class_collapse
COLLAPSE = 0.02  # accuracy from the majority's share
COLLAPSE_LEARNT = 0.5  # of the way from there to 1: measured .67 and 1 where the rare class is learnt, .12 at most where not
IMBALANCED = 3.0  # the majority's share times K
MAJORITY = 0.5
MAJORITY_LARGE = 0.8
MAJORITY_HUGE = 0.9

# initial_loss. Karpathy: begin at log K.
INITIAL_HIGH = 3.0  # times log K
INITIAL_ODD = 2.0

# A penalty on the weights (or another loss that the model adds) at the start from which on the objective
# is no mean of a loss over samples any more: a twentieth of log 10. Measured: L2 of 5e-4 adds 1 to 5 to a ResNet's.
PENALTY_FELT = 0.1

# validation
GAP_RISE = 0.1  # of the best validation loss
GAP_EPOCHS = 3
GAP_MATTERS = (
    0.1  # of guessing: .03 that rose from .02 is no fault of a classifier that is right in 99 %
)
# (times training, share of guessing). Measured: healthy runs whose training loss goes to zero stand at 10 times
# and .03, or 3 and .2; overfitted ones at 190 and more times and .28 to 1.4.
GAP_WIDE = ((10.0, 0.25), (3.0, 0.5))
BETTER = 0.8  # validation loss over the training loss that follows it
LEAKED = 0.01  # of the validation samples looked at
# Rows drawn from N values, n of them: n / N of validation's are in training, n / 2N of training's are copies.
AS_OFTEN = 3.0
HEAVY_TAIL = 2.0  # the mean of an epoch's step losses over their median
CLASSES_NOT_TRAINED = 0.05  # of the validation labels
WORSE_THAN_GUESS = (
    1.1  # measured: unrelated labels leave validation at 1.03 at most, other data at 1.28 and more
)
MISFIT = 0.9  # validation's best over guessing, where training is far below it
AVERAGE_SETTLED = 2.0  # look-backs of an average
BATCH_NORM_SETTLED = 500  # steps: .99 ** 500 = .7 %
JUMPS = 3.0  # validation's noise over training's
TARGET_LARGE, TARGET_SMALL = 50.0, 1e-3  # root mean squares; `check` has the same
TARGETS_POOR = 1 / 3  # of the loss of guessing their mean
VALIDATION_SAMPLES = 200  # taken for granted where their number is not known
FEW_VALIDATION = 50  # samples: an accuracy of .8 has a standard error of 6 points
TINY_VALIDATION = 20  # 9 points
FEW_MOVES = 0.05  # of its level, from epoch to epoch

# data. Standard scores and [0, 1] are usual (LeCun et al. 1998); pixels of 0 to 255 have a deviation of 70.
INPUT_LARGE = 30.0
INPUT_ODD = 10.0
INPUT_SMALL = 0.02  # the largest value; `check` has the same
CONSTANT_SOME = 0.1  # borders and padding; 3 of 64 in the digits
CONSTANT_MOST = 0.9
REPEATED_MANY = 0.2
REPEATED_SOME = 0.02
REPEATED_FEATURES = 8  # fewer, and equal rows are what a table of few values is made of
# Measured: of shuffled data at most .2 along an epoch, of sorted ones .54 and .70. A swing below 1.5 % of
# the loss is the fall itself.
ORDER_CORRELATION = 0.4
ORDER_SWING = 0.015

# plateau: shares of the loss of guessing. Measured: healthy runs end at 0 to .7 of it (characters highest),
# nets one channel wide at .83 to .95, three labels in five at random at .74 (validation .9).
STUCK = 0.7
STUCK_WORSE = 0.82
STUCK_EPOCHS = 5
STUCK_FLAT = (
    0.07  # of what it is below guessing, in the last three tenths at a rate that has not decayed
)
STUCK_LATE = 0.5

# length
IMPROVING = 0.01  # an epoch
SATURATED = (
    0.25  # of the run: the tuning playbook calls a best step in the first tenth far too long a run
)

# speed
WAITING = 0.45  # of the time; measured: .32 at most in healthy runs of 1 ms steps, .58 to .93 behind a slow source
REDUCING = 0.3
LONG_ENOUGH = 2.0  # seconds of telemetry
