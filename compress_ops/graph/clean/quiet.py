"""Foreign passes run quietly (what they log is no news to a user) and leave alone what is not for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...lazy import ir
from ...model import Model

_ASIDE = "onnxpress.aside"


@contextmanager
def quietly() -> Iterator[None]:
    """Nothing up to a warning is logged meanwhile."""
    loud, logging.root.manager.disable = logging.root.manager.disable, logging.WARNING
    try:
        yield
    finally:
        logging.root.manager.disable = loud


@contextmanager
def set_aside(model: Model, nodes: Sequence[ir.Node]) -> Iterator[None]:
    """Nodes of the standard domain stand meanwhile in one that nobody knows."""
    for node in nodes:
        node.domain = _ASIDE
    model.ir.opset_imports.update({_ASIDE: 1} if nodes else {})
    try:
        yield
    finally:
        for node in model.nodes():
            node.domain = "" if node.domain == _ASIDE else node.domain
        model.ir.opset_imports.pop(_ASIDE, None)
