"""Pruning: fewer numbers."""

from __future__ import annotations

from .layers.drop_layers import drop_layers
from .layers.shrink_student import shrink_student
from .prune_channels import prune_channels
from .prune_embedding import prune_embedding
from .prune_heads import prune_heads
from .refitting.refit import refit
from .single_weights.pack_sparse import pack_sparse
from .single_weights.prune_weights import prune_weights

PASSES = (
    drop_layers,
    prune_channels,
    prune_embedding,
    prune_heads,
    prune_weights,
    refit,
    shrink_student,
    pack_sparse,
)
