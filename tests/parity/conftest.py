"""Makes timm's schedulers, losses and averages importable where torchvision is not installed."""

import importlib
import importlib.util
import os
import sys
import types


def _timm_without_torchvision():
    """Put packages without their `__init__` in place of `timm` and `timm.utils`.

    Both import torchvision for image layers that no test here touches, and torchvision has to
    match torch's build exactly. Their submodules are timm's own code, untouched.
    """
    if importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision"):
        return
    for name in ("timm", "timm.utils"):
        spec = importlib.util.find_spec(name)
        package = types.ModuleType(name)
        package.__spec__ = spec
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = package
    sys.modules["timm"].utils = sys.modules["timm.utils"]
    if importlib.util.find_spec("torch"):
        ema = importlib.import_module("timm.utils.model_ema")
        sys.modules["timm.utils"].ModelEmaV3 = ema.ModelEmaV3


_timm_without_torchvision()

# The modules here begin with pytest.importorskip. Where parity is promised, a missing library
# is a failure, so that .ci/run cannot pass by skipping.
if os.environ.get("TFRECIPES_PARITY") == "required":
    for _name in ("torch", "optax", "timm.scheduler", "timm.utils.model_ema"):
        importlib.import_module(_name)
