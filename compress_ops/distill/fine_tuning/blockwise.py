"""One block after another: each learns to give what the float model gives at the same place.

    min over the block's weights of |f(x) - t|^2,   x: what the quantized model, trained so far, feeds the block;
                                                    t: what the float model computes for the same sample

so that a block also makes up for the errors of those before it (Nagel et al. 2020, AdaRound, arXiv:2004.10568; Li et
al. 2021, BRECQ, arXiv:2102.05426). Parameters, gradients, moments and activations of one block are held at once; x and
t are computed batch by batch and lie on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ...arrays import Array
from ...data import Batch, Dataset
from ...errors import PassError
from ...graph.part import find, part
from ...lazy import ir
from ...model import Model
from ...passes import Change, Context
from ...runtime import Arrays
from ..lesson.held_out import weights_of
from ..lesson.targets import find_targets, telling_batch
from ..lesson.task import Lesson, Task
from ..lesson.teacher import Tensors
from ..losses import Weights
from ..training.train import write_weights
from ..training.train_settings import TrainSettings
from .trained_blocks import Block, BlockName, find_blocks
from .unrounded import Unrounded

_LOSS: Weights = {"mse": 1.0}


@dataclass
class Blockwise:
    """Trains the blocks of a student; ``done`` are the weights that a block has had, which later ones leave alone."""

    student: Unrounded
    teacher: Model
    data: Dataset
    ctx: Context
    settings: TrainSettings
    hold_out: float
    done: set[str] = field(default_factory=set)

    def run(self, kind: BlockName) -> Change:
        """All blocks in graph order; a block that does no better stays as it was, and is declined."""
        change, model = Change(), self.student.model
        model.infer_shapes()
        blocks = find_blocks(model, self.teacher, self.student.stored, kind)
        if not blocks:
            hint = "blocks are found by the names of tensors and nodes: take blocks: layer, or leave it out"
            raise PassError("the float model has no tensor to compare a block with", hint=hint)
        telling = telling_batch(self.data)
        left: list[float] = []
        for block in self.ctx.progress(blocks, "finetune_quantized: blocks"):
            task = self._task(block, telling)
            if task.parameters:
                left.append(self._trained(task, block, change))
        change.notes = {"blocks": _told(left)}
        return change

    def _trained(self, task: Task, block: Block, change: Change) -> float:
        """The share of the held-out error that is left; 1 where the block stays."""
        try:
            each = task.tried() if self.ctx.dry_run else task.done()
        except PassError as error:
            change.decline(block.output, error.message)
            return 1.0
        for held in each.declined:
            change.decline(block.output, held.reason)
        if not each.touched:
            return 1.0
        change.touched |= each.touched
        write_weights(self.student.model, weights_of(task.model, task.parameters))
        before, after = map(float, str(each.notes.get("held-out loss", "1 -> 1")).split(" -> "))
        return after / before

    def _task(self, block: Block, telling: Batch) -> Task:
        fed = _Fed(self.data, self.student.model, block.inputs, self.ctx)
        first = fed.fed(telling)
        forms = {name: _form(first.feeds[name]) for name in block.inputs if name in first.feeds}
        model = part(self.student.model, forms, [block.output])
        names = [name for name in self.student.names if name in model.graph.initializers and name not in self.done]
        self.done |= set(names)
        teacher = self.teacher.copy()
        teacher.graph.outputs[:] = [find(teacher, block.target)]
        targets = find_targets(model, teacher, self.ctx, _Only(first), {block.output: block.target}, {})
        own = replace(self.ctx, checkpoint=None, resume=False)
        lesson = Lesson(teacher, fed, targets)
        return Task(
            model, own, lesson, _LOSS, names, 1.0, self.settings, hold_out=self.hold_out, mask=self.student.mask
        )


def _told(left: Sequence[float]) -> str:
    nearer = [share for share in left if share < 1]
    errors = f"; their errors fell to {min(nearer):.0%} to {max(nearer):.0%}" if nearer else ""
    return f"{len(nearer)} of {len(left)} nearer{errors}"


@dataclass
class _Fed(Dataset):
    """The data, and with each batch the tensors that a block reads of the student as it is then."""

    data: Dataset
    model: Model
    inputs: Sequence[str]
    ctx: Context
    name: str = "the activations of a block"

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        return map(self._filling(), self.data.batches(limit))

    def fed(self, batch: Batch) -> Batch:
        return self._filling()(batch)

    def digest(self) -> str:
        return self.data.digest()

    def _filling(self) -> Callable[[Batch], Batch]:
        """Holds a session, for as long as it is needed: it holds the weights in front of the block."""
        given = {value.name for value in self.model.graph.inputs}
        inner = [name for name in self.inputs if name not in given]
        tensors = Tensors(self.model, inner, self.ctx) if inner else None

        def filled(batch: Batch) -> Batch:
            found: Arrays = tensors.of(batch.feeds) if tensors is not None else {}
            return Batch({**batch.feeds, **found}, None, batch.size)

        return filled


@dataclass
class _Only(Dataset):
    """One batch."""

    batch: Batch
    name: str = "a batch"

    def __len__(self) -> int:
        return self.batch.size

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        yield self.batch

    def digest(self) -> str:
        return ""


def _form(array: Array) -> tuple[ir.DataType, ir.Shape]:
    """Type and rank of what is fed."""
    return ir.DataType.from_numpy(array.dtype), ir.Shape([None] * array.ndim)
