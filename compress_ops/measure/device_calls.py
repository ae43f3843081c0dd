"""One inference as a function without arguments, from arrays in the host's memory or bound on the device.

Bound means that inputs lie on the device before the clock starts, that outputs stay there, and that the call
returns only when the device is done (onnxruntime's I/O binding, https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html).
"""

from __future__ import annotations

from collections.abc import Callable

from ..runtime import Feeds, Session, onnxruntime_module, short_name

Call = Callable[[], object]


def host_call(session: Session, feeds: Feeds) -> Call:
    """An inference on arrays in the host's memory: on a device this includes the copies to and fro."""
    names, given = [port.name for port in session.outputs], dict(feeds)
    return lambda: session.raw.run(names, given)


def bound_call(session: Session, feeds: Feeds, device: str) -> Call:
    """An inference without copies: inputs and outputs are bound on ``device``."""
    binding, number = session.raw.io_binding(), _device_number(session)
    value = onnxruntime_module().OrtValue.ortvalue_from_numpy
    for name, array in feeds.items():
        if array.dtype.kind in "OSU":  # strings cannot leave the host
            binding.bind_cpu_input(name, array)
        else:
            binding.bind_ortvalue_input(name, value(array, device, number))
    for port in session.outputs:
        binding.bind_output(port.name, device, number)

    def call() -> None:
        binding.synchronize_inputs()
        session.raw.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return call


def _device_number(session: Session) -> int:
    options = {short_name(name): given for name, given in session.raw.get_provider_options().items()}
    return int(options.get(session.provider, {}).get("device_id", 0))
