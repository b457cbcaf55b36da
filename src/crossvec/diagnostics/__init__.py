"""diagnostics — what a space is like, and how alike two spaces are, before anybody fits anything.

In    Space (n, d), or two of them, with or without pairs
Out   Profile of one, Likeness of two; both have `to_json()`
Uses  the siblings
"""

from crossvec.diagnostics.feasibility import Feasibility, feasibility
from crossvec.diagnostics.likeness import Likeness, Paired, compare
from crossvec.diagnostics.profile import Profile, inspect
from crossvec.diagnostics.shape import Shape
from crossvec.diagnostics.storage import Storage

__all__ = ["Feasibility", "Likeness", "Paired", "Profile", "Shape", "Storage", "compare", "feasibility", "inspect"]
