"""onnxruntime sessions: which provider runs, what goes in and out, and no silent fallback.

A provider is written by its short name: ``cuda`` stands for onnxruntime's ``CUDAExecutionProvider``. The rule
is general (the long name, lower case, without its ending), so every provider that onnxruntime names is known.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .arrays import Array
from .errors import ModelError, OnnxpressError, ProviderError, did_you_mean
from .files.reading import is_utf8, unreadable
from .files.temporary import is_passing
from .providers import Facts, facts_of, meant

if TYPE_CHECKING:
    import onnxruntime

Feeds = Mapping[str, "Array"]
Arrays = dict[str, "Array"]

_ENDING = "ExecutionProvider"
_WARNINGS = 2
_QUIET = 4  # onnxruntime's log level "fatal": what it refuses comes back as an exception, which we tell
_INSTEAD = "pip uninstall onnxruntime, then pip install {}: the two share one module name"
_INSTALL = 'install one of: pip install "onnxpress[cpu]"   or   pip install "onnxpress[gpu]"'


def short_name(provider: str) -> str:
    """``CUDAExecutionProvider`` -> ``cuda``."""
    return provider.removesuffix(_ENDING).lower()


@dataclass(frozen=True)
class Provider:
    """An execution provider by short name, with onnxruntime's options for it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """onnxruntime's own long name is the same provider."""
        object.__setattr__(self, "name", short_name(self.name))

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        return facts_of(self.name)


CPU = (Provider("cpu"),)


@dataclass(frozen=True)
class Port:
    """A model input or output: NumPy dtype name, and a shape of sizes, symbolic names and None (unnamed)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def onnxruntime_module() -> Any:
    """onnxruntime, or one clear error where neither wheel of it is installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(f"onnxruntime cannot be imported ({error})", hint=_INSTALL) from error
    return onnxruntime


def available_providers() -> set[str]:
    """The execution providers, by short name, that this build of onnxruntime has."""
    return {short_name(name) for name in onnxruntime_module().get_available_providers()}


def check_providers(providers: Sequence[Provider]) -> list[tuple[str, dict[str, Any]]]:
    """onnxruntime's own form of the providers; an error names those that can be had here."""
    ort = onnxruntime_module()
    known = {short_name(name): name for name in ort.get_all_providers()}
    available = available_providers()
    if not providers:
        raise ProviderError("no execution provider is given", hint=f"available here: {', '.join(sorted(available))}")
    for provider in providers:
        if provider.name not in available:
            _refuse(provider.name, known, sorted(available))
    return [(known[provider.name], dict(provider.options)) for provider in providers]


def _refuse(name: str, known: Iterable[str], available: list[str]) -> None:
    here = f"available here: {', '.join(available)}"
    if name not in known:
        close = did_you_mean(meant(name), known)
        raise ProviderError(f"unknown execution provider '{name}'{close}", hint=here)
    wheel = facts_of(name).wheel
    install = _INSTEAD.format(wheel) if wheel else "another build of onnxruntime has it"
    raise ProviderError(f"execution provider '{name}' is not in this onnxruntime build", hint=f"{here}; {install}")


def for_inner_values(providers: Sequence[Provider]) -> Sequence[Provider]:
    """Where passes look at inner values: on the providers, or the CPU for one that compiles whole graphs."""
    return CPU if providers and providers[0].facts.compiles_whole else providers


def _with_threads(provider: Provider, threads: int) -> Provider:
    """The provider with that many threads, where it takes none from the session and its options do not say."""
    option = provider.facts.threads_option
    return provider if option is None else replace(provider, options={option: str(threads), **provider.options})


class Session:
    """A model loaded by onnxruntime on the provider that was asked for.

    ``inputs`` and ``outputs`` describe the ports, ``defaults`` the inputs that need not be fed; ``provider`` is the
    short name of the provider really in use.
    """

    def __init__(self, raw: onnxruntime.InferenceSession, source: str) -> None:
        self.raw = raw
        self.source = source
        self.inputs = tuple(_port(node) for node in raw.get_inputs())
        self.defaults = tuple(_port(node) for node in raw.get_overridable_initializers())
        self.outputs = tuple(_port(node) for node in raw.get_outputs())
        self.provider = short_name(raw.get_providers()[0])

    def taken(self, feeds: Feeds) -> Arrays:
        """Of some arrays those that are inputs of the model, with a default or without."""
        return {port.name: feeds[port.name] for port in (*self.inputs, *self.defaults) if port.name in feeds}

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> Arrays:
        """Run once; onnxruntime's refusal of the feed becomes a ModelError with its reason."""
        names = list(outputs) if outputs is not None else [port.name for port in self.outputs]
        try:
            return dict(zip(names, self.raw.run(names, dict(feeds)), strict=True))
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise ModelError(f"{self.source} does not run: {_reason(error)}") from error

    def run_bound(self, binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions | None = None) -> None:
        """Run once on inputs and outputs that are bound."""
        try:
            self.raw.run_with_iobinding(binding, options)
        except Exception as error:  # as above
            raise ModelError(f"{self.source} does not run: {_reason(error)}") from error


@dataclass(frozen=True)
class SessionSettings:
    """How onnxruntime is to run a model.

    ``threads`` within an operator; ``optimize`` False loads quickly and runs the graph as written; ``in_graph_order``
    runs nodes in the order in which the graph lists them, so that a tensor whose last reader stands early is freed
    early; ``optimized_to`` writes the graph that really runs; ``profile_to`` is the prefix of the profile, which counts
    what is read only while kernels do not pack their weights: ``pack`` False, which is slower. ``config`` holds entries
    of onnxruntime's session configuration, such as ``session.disable_quant_qdq``. ``plan_memory`` False gives each
    tensor memory when it is made, instead of all of them places in one block that is laid out before the run.
    """

    threads: int = 1
    optimize: bool = True
    in_graph_order: bool = False
    plan_memory: bool = True
    pack: bool = True
    optimized_to: Path | None = None
    profile_to: Path | None = None
    disabled_optimizers: Sequence[str] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    log_level: int = _QUIET


def open_session(model: Path | bytes, providers: Sequence[Provider] = CPU, **settings: Any) -> Session:
    """Load a model (a path, or the bytes of one without external data) and check that the first provider runs it.

    ``settings`` are the fields of SessionSettings. Raises ProviderError when onnxruntime fell back to another provider,
    ModelError when it refuses the model.
    """
    chosen = SessionSettings(**settings)
    session = _create(model, providers, chosen)
    if session.provider != providers[0].name:
        _refuse_fallback(session, model, providers, chosen)
    return session


def _create(model: Path | bytes, providers: Sequence[Provider], settings: SessionSettings) -> Session:
    ort = onnxruntime_module()
    wanted = check_providers([_with_threads(provider, settings.threads) for provider in providers])
    _preload_libraries(ort, providers[0])
    source = _told(model)
    if isinstance(model, Path) and (why := unreadable(model)):
        raise ModelError(f"{model} {why}")
    if isinstance(model, Path) and not is_utf8(model):
        raise ModelError(f"{model}: the name is not UTF-8, and onnxruntime opens no other", hint="rename it")
    try:
        raw = ort.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            _options(ort, settings),
            providers=wanted,
            disabled_optimizers=list(settings.disabled_optimizers) or None,
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ModelError(f"onnxruntime refuses {source}: {_reason(error)}") from error
    return Session(raw, source)


def _told(model: Path | bytes) -> str:
    """What a message calls it: by its path, where that is one that a user knows."""
    if not isinstance(model, Path):
        return "the model in memory"
    return "the model" if is_passing(model) else str(model)


def _refuse_fallback(
    session: Session, model: Path | bytes, providers: Sequence[Provider], settings: SessionSettings
) -> NoReturn:
    """onnxruntime tells why it fell back in its log only: open the session once more and read what it writes there."""
    with _standard_error() as log, suppress(OnnxpressError):
        _create(model, providers, replace(settings, log_level=_WARNINGS))
    raise ProviderError(
        f"onnxruntime fell back from '{providers[0].name}' to '{session.provider}' for {session.source}",
        hint=f"its reason: {' '.join(log.getvalue().split()) or 'none given'}",
    )


@contextmanager
def _standard_error() -> Iterator[io.StringIO]:
    """What native code writes to standard error meanwhile."""
    told, kept = io.StringIO(), os.dup(2)
    try:
        with tempfile.TemporaryFile("w+") as file:
            os.dup2(file.fileno(), 2)
            try:
                yield told
            finally:
                os.dup2(kept, 2)
                file.seek(0)
                told.write(file.read())
    finally:
        os.close(kept)


def _options(ort: Any, settings: SessionSettings) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = settings.log_level
    options.enable_mem_pattern = settings.plan_memory
    if not settings.optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if settings.in_graph_order:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    if settings.optimized_to is not None:
        options.optimized_model_filepath = str(settings.optimized_to)
    if settings.profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.profile_to)
    if not settings.pack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    for key, value in settings.config.items():
        options.add_session_config_entry(key, value)
    return options


def _preload_libraries(ort: Any, first: Provider) -> None:
    """CUDA's own wheels are found only after this call (onnxruntime >= 1.21)."""
    if first.facts.preloads and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def ports_as_read(model: bytes) -> tuple[Port, ...]:
    """The outputs of a model as onnxruntime knows them once it has read it, before it looks for kernels and weights.

    Types of outputs need not be declared. Nothing is told where onnxruntime refuses the model.
    """
    ort = onnxruntime_module()
    try:
        raw = ort.capi._pybind_state.InferenceSession(_options(ort, SessionSettings()), model, False, False)
    except Exception:  # onnxruntime raises a dozen unrelated classes
        return ()
    return tuple(_port(node) for node in raw.outputs_meta)


_NUMPY = {"float": "float32", "double": "float64", "half": "float16"}


def _port(node: Any) -> Port:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int | str) else None for size in node.shape)
    return Port(node.name, {**_NUMPY, "float16": "float16"}.get(kind, kind), shape)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text
