"""One training step (forward, backward, Adam) of either side, as a function to call."""

from __future__ import annotations

from collections.abc import Callable

from compress_ops.distill.training.buffers import make_buffers
from compress_ops.distill.training.optimizers import make_optimizer
from compress_ops.distill.training.session import StepSession, make_session
from compress_ops.distill.training.train_settings import TrainSettings
from compress_ops.runtime import CPU

from .nets import Net

RATE = 1e-4


def our_session(net: Net) -> StepSession:
    return make_session(net.objective, make_buffers(net.objective), CPU, 1)


def our_step(net: Net) -> Callable[[], object]:
    session, count = our_session(net), iter(range(1, 10**9))
    optimizer = make_optimizer(TrainSettings(optimizer="adam"), session.buffers)

    def step() -> None:
        session.run(net.feeds, {})
        optimizer.step(RATE, next(count))

    return step


def torch_step(key: str, net: Net, *, fused: bool) -> Callable[[], object]:
    import torch

    from . import peers

    torch.set_num_threads(1)
    made, feeds = peers.module(key, net), peers.tensors(net)
    optimizer = torch.optim.Adam(made.parameters(), RATE, fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        peers.loss(key, made, feeds).backward()
        optimizer.step()

    return step
