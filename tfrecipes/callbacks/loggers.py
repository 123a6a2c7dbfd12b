"""One-line adapters from a Monitor to other people's trackers; neither has to be installed."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

# Called with `group/key` values and the number of the step, about once a second and at an
# epoch's end. Numbers grow from call to call.
Logger = Callable[[dict[str, float], int], object]


def to_wandb(run: Any = None, **settings: Any) -> Logger:
    """A logger for `tfr.Monitor(loggers=[...])` that writes into a Weights & Biases run.

    Args:
        run: A run of wandb; None = the one that is active, else a new one.
        **settings: Of `wandb.init`, for a new run.

    Returns:
        A function `log(values, step)`.

    Raises:
        ImportError: Where wandb is not installed.

    Example:
        monitor = tfr.Monitor("runs/mine", loggers=[tfr.to_wandb(project="digits")])
    """
    wandb = _imported("to_wandb", "wandb")
    target = run or getattr(wandb, "run", None) or wandb.init(**settings)

    def log(values: Mapping[str, float], step: int) -> None:
        target.log(dict(values), step=step)

    return log


def to_mlflow() -> Logger:
    """A logger for `tfr.Monitor(loggers=[...])` that writes into the active MLflow run.

    MLflow begins a run itself where none is active.

    Returns:
        A function `log(values, step)`.

    Raises:
        ImportError: Where mlflow is not installed.

    Example:
        monitor = tfr.Monitor("runs/mine", loggers=[tfr.to_mlflow()])
    """
    mlflow = _imported("to_mlflow", "mlflow")

    def log(values: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(values), step=step)

    return log


def _imported(where: str, package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"tfr.{where}: needs {package}, which is not installed. Run `pip install {package}`."
        ) from error
