"""Forward and backward of one batch: one run of an onnxruntime session whose inputs and outputs are bound.

Parameters are bound as inputs and gradients as outputs, each a view of a flat array. On the CPU onnxruntime works right
in them; on a device with memory of its own it copies them there and back in every step.

A session is built for the sizes of the batch that is fed: with sizes known, shapes are constants. The first few
combinations of sizes get a session each (batches and the shorter last one); what comes after shares one whose sizes
are free, which the rules of some operators refuse. onnxruntime's plan of memory is left out: on graphs that run forward
and back it takes twice the memory and saves no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import Array
from ...autodiff import GradientModel, build_gradients
from ...errors import DataError, PassError
from ...runtime import Feeds, Provider, Session, open_session
from ..losses.objective import Objective
from .buffers import Buffers

if TYPE_CHECKING:
    import onnxruntime

Sizes = tuple[tuple[str, tuple[int, ...]], ...]

BOUND = 4
"""Sessions for known sizes that are kept at once."""

_LIVE_WEIGHTS = {"session.disable_quant_qdq": "1"}  # else a fused kernel would round differently from step to step
_SHRINK = "memory.enable_memory_arena_shrinkage"


@dataclass
class Bound:
    """A session with its binding; ``batch`` names what each batch brings."""

    session: Session
    binding: onnxruntime.IOBinding
    batch: tuple[str, ...]


@dataclass
class StepSession:
    """Computes losses and gradients. ``values`` holds the loss and behind it the terms, in the objective's order."""

    objective: Objective
    buffers: Buffers
    providers: tuple[Provider, ...]
    threads: int
    values: Array
    scalars: dict[str, Array]
    _sessions: dict[Sizes | None, Bound] = field(default_factory=dict)

    def run(self, feeds: Feeds, scalars: Mapping[str, float]) -> None:
        """Fill ``values`` and the gradients in the buffers; ``scalars`` are fed by the name of their input."""
        for name, value in scalars.items():
            self.scalars[name][...] = value
        bound, options = self._session_for(feeds)
        held = [_bind(bound, name, feeds) for name in bound.batch]
        bound.session.run_bound(bound.binding, options)
        del held  # onnxruntime reads these arrays where they lie: they had to live until now

    def _session_for(self, feeds: Feeds) -> tuple[Bound, onnxruntime.RunOptions | None]:
        """All but the first session give their memory back after a run, so that it is not held several times over."""
        import onnxruntime

        sizes = tuple((name, feeds[name].shape) for name in sorted(feeds))
        key = sizes if sizes in self._sessions or len(self._sessions) < BOUND else None
        if key not in self._sessions:
            self._sessions[key] = self._open(key, feeds)
        arena = self.providers[0].facts.gives_back
        if key == next(iter(self._sessions)) or arena is None:
            return self._sessions[key], None
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(_SHRINK, arena)
        return self._sessions[key], options

    def _open(self, sizes: Sizes | None, feeds: Feeds) -> Bound:
        import onnxruntime

        session = self._opened(self._gradients(sizes))
        binding = session.raw.io_binding()
        parameters = self.buffers.views(self.buffers.parameters)
        given = {**parameters, **self.scalars}
        names = [port.name for port in session.inputs]
        names += [port.name for port in session.defaults if port.name in feeds]
        for name in names:
            if name in given:
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(given[name]))
        for name, array in self._outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return Bound(session, binding, tuple(name for name in names if name not in given))

    def _gradients(self, sizes: Sizes | None) -> GradientModel:
        objective, parameters = self.objective, [slot.name for slot in self.buffers.slots]
        try:
            built = build_gradients(
                objective.model,
                of=[objective.loss],
                parameters=parameters,
                upstream=False,
                keep=list(objective.terms.values()),
                shapes=dict(sizes or ()),
            )
        except PassError as error:
            if sizes is not None:
                raise
            hint = f"pad samples to at most {BOUND} different sizes: this model needs known sizes to be trained"
            raise PassError(f"batches come in more than {BOUND} different sizes: {error.message}", hint=hint) from error
        views = self.buffers.views(self.buffers.gradients)
        self._outputs = {built.gradients[name]: view for name, view in views.items()}
        for index, name in enumerate((objective.loss, *objective.terms.values())):
            self._outputs[name] = self.values[index : index + 1].reshape(())
        return built

    def _opened(self, built: GradientModel) -> Session:
        quantized = any(node.op_type.endswith("QuantizeLinear") for node in built.model.nodes())
        config = _LIVE_WEIGHTS if quantized else {}
        with built.model.exported() as path:
            session = open_session(path, self.providers, threads=self.threads, plan_memory=False, config=config)
        session.source = "the graph of a training step"
        return session


def _bind(bound: Bound, name: str, feeds: Feeds) -> Array:
    import onnxruntime

    if name not in feeds:
        raise DataError(f"a batch lacks '{name}'", hint=f"training reads {', '.join(bound.batch)}")
    array = np.asarray(feeds[name], order="C")
    bound.binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    return array


def make_session(objective: Objective, buffers: Buffers, providers: tuple[Provider, ...], threads: int) -> StepSession:
    names = [*objective.weights.values(), *objective.settings.values()]
    values = np.zeros(1 + len(objective.terms), np.float32)
    scalars = {name: np.zeros((), np.float32) for name in names}
    return StepSession(objective, buffers, providers, threads, values, scalars)
