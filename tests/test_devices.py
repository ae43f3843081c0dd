"""The table of devices: its words are those of the passes and providers that there are."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from compress_ops import devices
from compress_ops.catalogue import PASSES
from compress_ops.devices import TARGETS, Form, Target
from compress_ops.providers import PROVIDERS
from compress_ops.recipe import step_from


def test_the_devices() -> None:
    x86 = ["server-avx512", "laptop-avx2"]
    assert list(TARGETS) == [*x86, "arm-phone", "browser-wasm", "cuda", "tensorrt", "openvino", "mcu"]


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_an_entry_is_whole(target: Target) -> None:
    assert target.provider in PROVIDERS
    assert target.forms and len(set(target.forms)) == len(target.forms) and set(target.forms) <= set(get_args(Form))
    assert target.what and target.why.endswith(".")
    assert re.search(r"\d|[Nn]ot measured", target.why)
    for name, options in target.options.items():
        step_from(PASSES[name], dict(options))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_no_form_is_one_that_the_provider_runs_slower(target: Target) -> None:
    slower = PROVIDERS[target.provider].slower
    assert not ("dynamic" in slower and "int8 dynamic" in target.forms)
    assert not ("qdq" in slower and "int8 static" in target.forms)


def test_every_form_serves_somewhere() -> None:
    assert {form for target in TARGETS.values() for form in target.forms} == set(get_args(Form))


@pytest.mark.parametrize(
    ("features", "here"),
    [
        (("avx", "avx2", "avx512f", "avx512_vnni"), {"server-avx512"}),
        (("avx", "avx2"), {"laptop-avx2"}),
        (("avx", "avx2", "avx_vnni"), set()),
        (("asimd", "asimddp"), set()),
        ((), set()),
    ],
)
def test_times_here_tell_of_processors_like_this_one(
    features: tuple[str, ...], here: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: features)
    monkeypatch.setattr(devices, "available_providers", lambda: {"cpu"})
    assert {name for name, target in TARGETS.items() if target.measured_here} == here


def test_times_here_tell_of_providers_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: ())
    monkeypatch.setattr(devices, "available_providers", lambda: {"cpu", "cuda", "openvino"})
    assert {name for name, target in TARGETS.items() if target.measured_here} == {"cuda", "openvino"}
