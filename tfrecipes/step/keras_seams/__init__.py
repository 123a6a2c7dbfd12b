"""Every private name of Keras and TensorFlow that we touch, and nothing else.

Checked against Keras 3.15 on TensorFlow 2.21. A test looks for private names elsewhere.
"""

from tfrecipes.step.keras_seams.fits import EPOCH_END as EPOCH_END
from tfrecipes.step.keras_seams.fits import Fit as Fit
from tfrecipes.step.keras_seams.fits import begin_at as begin_at
from tfrecipes.step.keras_seams.fits import clear_method as clear_method
from tfrecipes.step.keras_seams.fits import fit_iterator as fit_iterator
from tfrecipes.step.keras_seams.fits import holder_of as holder_of
from tfrecipes.step.keras_seams.fits import mend_symbolic_build as mend_symbolic_build
from tfrecipes.step.keras_seams.fits import metrics_or_logs as metrics_or_logs
from tfrecipes.step.keras_seams.fits import running_fit as running_fit
from tfrecipes.step.keras_seams.fits import set_holder as set_holder
from tfrecipes.step.keras_seams.fits import set_method as set_method
from tfrecipes.step.keras_seams.losses import LossTerm as LossTerm
from tfrecipes.step.keras_seams.losses import added_losses as added_losses
from tfrecipes.step.keras_seams.losses import elementwise as elementwise
from tfrecipes.step.keras_seams.losses import has_compiled_loss as has_compiled_loss
from tfrecipes.step.keras_seams.losses import loss_terms as loss_terms
from tfrecipes.step.keras_seams.losses import loss_value as loss_value
from tfrecipes.step.keras_seams.losses import undistributed as undistributed
from tfrecipes.step.keras_seams.losses import weight_penalties as weight_penalties
from tfrecipes.step.keras_seams.losses import whole_loss as whole_loss
from tfrecipes.step.keras_seams.models import all_layers as all_layers
from tfrecipes.step.keras_seams.models import build as build
from tfrecipes.step.keras_seams.models import call as call
from tfrecipes.step.keras_seams.models import compiled_loss as compiled_loss
from tfrecipes.step.keras_seams.models import compute_metrics as compute_metrics
from tfrecipes.step.keras_seams.models import ends_in_16_bits as ends_in_16_bits
from tfrecipes.step.keras_seams.models import has_own_compute_loss as has_own_compute_loss
from tfrecipes.step.keras_seams.models import has_own_train_step as has_own_train_step
from tfrecipes.step.keras_seams.models import is_built as is_built
from tfrecipes.step.keras_seams.models import is_built_for_training as is_built_for_training
from tfrecipes.step.keras_seams.models import is_deterministic as is_deterministic
from tfrecipes.step.keras_seams.models import local as local
from tfrecipes.step.keras_seams.models import make_function as make_function
from tfrecipes.step.keras_seams.models import make_grouped_function as make_grouped_function
from tfrecipes.step.keras_seams.models import metrics_result as metrics_result
from tfrecipes.step.keras_seams.models import moving_statistics as moving_statistics
from tfrecipes.step.keras_seams.models import seed_states as seed_states
from tfrecipes.step.keras_seams.models import track_loss as track_loss
from tfrecipes.step.keras_seams.optimizers import apply_stock as apply_stock
from tfrecipes.step.keras_seams.optimizers import built_variables as built_variables
from tfrecipes.step.keras_seams.optimizers import is_decayed_by_keras as is_decayed_by_keras
from tfrecipes.step.keras_seams.optimizers import iterations as iterations
from tfrecipes.step.keras_seams.optimizers import owners as owners
from tfrecipes.step.keras_seams.optimizers import rehomed as rehomed
from tfrecipes.step.keras_seams.optimizers import scheduled_rate as scheduled_rate
