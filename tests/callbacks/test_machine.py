"""The machine's figures: this process's, and a GPU's only where there is a driver."""

import math
import types

import pytest

from tfrecipes.callbacks import machine
from tfrecipes.callbacks.machine import Machine


class DriverError(Exception):
    """What the fake driver raises."""


def driver(monkeypatch, cards=2, broken=False):
    """A driver of so many cards; `broken` tells nothing once it is open."""

    def rates(card):
        if broken:
            raise DriverError
        return types.SimpleNamespace(gpu=40 + 20 * card)

    fake = types.SimpleNamespace(
        NVMLError=DriverError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: cards,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetHandleByUUID=lambda word: int(word[-1]),
        nvmlDeviceGetUtilizationRates=rates,
        nvmlDeviceGetMemoryInfo=lambda card: types.SimpleNamespace(used=1000 * (card + 1)),
    )
    monkeypatch.setattr(machine, "pynvml", fake)
    return fake


def test_without_a_driver_there_is_the_host_and_no_word(monkeypatch, capsys):
    fake = driver(monkeypatch)

    def missing():
        raise DriverError("no library")

    fake.nvmlInit = missing
    read = Machine().read()
    assert math.isnan(read["gpu"])
    assert math.isnan(read["gpu_memory"])
    assert read["host_memory"] > 2**20
    assert capsys.readouterr().out == ""


def test_the_processor_is_a_share_of_its_cores(monkeypatch):
    monkeypatch.setattr(machine, "pynvml", driver(monkeypatch, cards=0))
    one = Machine()
    sum(i * i for i in range(200_000))
    assert 0 < one.read()["cpu"] <= 1


@pytest.mark.parametrize(
    ("visible", "share", "memory"),
    [(None, 0.5, 3000.0), ("1", 0.6, 2000.0), ("0,1", 0.5, 3000.0), ("GPU-1", 0.6, 2000.0),
     ("", math.nan, math.nan), ("0,-1,1", 0.4, 1000.0)],
)  # fmt: skip
def test_only_visible_cards_count(monkeypatch, visible, share, memory):
    driver(monkeypatch)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    read = Machine().read()
    assert [read["gpu"], read["gpu_memory"]] == pytest.approx([share, memory], nan_ok=True)


def test_a_card_that_does_not_tell_is_asked_no_more(monkeypatch):
    driver(monkeypatch, broken=True)
    one = Machine()
    assert math.isnan(one.read()["gpu"])
    assert math.isnan(one.read()["gpu_memory"])
