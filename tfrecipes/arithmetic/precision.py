"""Which number format a run computes in, and why."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

CHOICES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Device:
    """What the choice of a precision needs to know of an accelerator.

    Args:
        kind: "TPU" or "GPU".
        name: As the driver calls it.
        capability: A GPU's compute capability (major, minor); None where it is not known.
    """

    kind: str
    name: str
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Precision:
    """A precision and the reason for it.

    Args:
        policy: Keras's dtype policy: "float32", "mixed_bfloat16" or "mixed_float16".
        loss_scaling: Whether the loss must be scaled, as gradients could underflow.
        reason: A sentence for the summary.
    """

    policy: str
    loss_scaling: bool
    reason: str


def choose(devices: Sequence[Device]) -> Precision:
    """Return the precision that `"auto"` means on these accelerators.

        TPU, or compute capability >= 8.0      bfloat16
        compute capability 7.x                 float16 with loss scaling
        an older GPU, or one of each kind      float32
        no accelerator                         float32

    Every device must be able to compute in it; the weakest decides.

    Args:
        devices: The accelerators that a run may use.

    Returns:
        The precision.

    Example:
        >>> choose([Device("GPU", "NVIDIA A100", (8, 0))]).policy
        'mixed_bfloat16'
        >>> choose([]).reason
        'float32: no accelerator was found, and a CPU gains nothing from 16 bits'
    """
    if not devices:
        return Precision(
            "float32",
            False,
            "float32: no accelerator was found, and a CPU gains nothing from 16 bits",
        )
    unknown = next((d for d in devices if d.kind != "TPU" and d.capability is None), None)
    if unknown is not None:
        return Precision(
            "float32", False, f"float32: the compute capability of {unknown.name} is not known"
        )
    gpus = [device for device in devices if device.kind != "TPU"]
    if not gpus:
        return Precision("mixed_bfloat16", False, f"bfloat16: {devices[0].name} is a TPU")
    weakest = min(gpus, key=lambda device: device.capability or (0, 0))
    major, minor = weakest.capability or (0, 0)
    measured = f"{weakest.name} has compute capability {major}.{minor}"
    if major >= 8:
        return Precision("mixed_bfloat16", False, f"bfloat16: {measured} (8.0 or more)")
    if major == 7:
        return Precision(
            "mixed_float16",
            True,
            f"float16 with loss scaling: {measured}, which has no bfloat16",
        )
    return Precision("float32", False, f"float32: {measured}, too old for fast 16 bits")


def accelerators() -> list[Device]:
    """Return the accelerators that TensorFlow sees."""
    found = [Device("TPU", device.name) for device in tf.config.list_physical_devices("TPU")]
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        found.append(
            Device(
                "GPU", details.get("device_name", device.name), details.get("compute_capability")
            )
        )
    return found


def set_precision(precision: str = "auto") -> Precision:
    """Set the number format of layers that are made from now on.

    Variables, moments of optimizers and losses stay float32 under every choice; a model's last
    layer should be made with `dtype="float32"`, so that its logits are. On a CPU "auto" is always
    float32: no clock decides arithmetic.

    Args:
        precision: "auto", which looks at the hardware (see `choose`), "float32", "bfloat16" or
            "float16".

    Returns:
        The policy that was set, whether the loss must be scaled, and why.

    Raises:
        ValueError: For any other word.

    State:
        Sets Keras's global dtype policy.

    Example:
        >>> set_precision("bfloat16").policy
        'mixed_bfloat16'
        >>> keras.config.dtype_policy().name
        'mixed_bfloat16'
        >>> set_precision("float32").loss_scaling
        False
    """
    if precision not in CHOICES:
        near = difflib.get_close_matches(str(precision).removeprefix("mixed_"), CHOICES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"set_precision: must be one of {', '.join(CHOICES)}. Received: "
            f"precision={precision!r}.{hint}"
        )
    if precision == "auto":
        chosen = choose(accelerators())
    elif precision == "float32":
        chosen = Precision("float32", False, "float32: as asked")
    elif precision == "bfloat16":
        chosen = Precision("mixed_bfloat16", False, "bfloat16: as asked")
    else:
        chosen = Precision("mixed_float16", True, "float16 with loss scaling: as asked")
    keras.config.set_dtype_policy(chosen.policy)
    return chosen
