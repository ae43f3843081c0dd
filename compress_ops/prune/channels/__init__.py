"""Coupled channels: which indices of which weights must be cut together, and how to cut them.

    copies = prepare(model)
    grouping = find_groups(model)          # groups of units, and what is protected with the reason
    cut(grouping, units)                   # units: numbers from the groups' ``units``

``rules.table.RULES`` says what each operator does to channels; an operator without a rule protects what it reads.
"""

from __future__ import annotations

from .cut import Kept, Trimmed, cut
from .groups import Group, Grouping, Member, Role, find_groups
from .prepare import merge_copies, prepare

__all__ = ["Group", "Grouping", "Kept", "Member", "Role", "Trimmed", "cut", "find_groups", "merge_copies", "prepare"]
