"""geometry — linear algebra on clouds of rows: tensors in, tensors out.

In    x (n, d) float32      rows, mostly centred and of unit length
Out   tensors on the same device
Uses  torch only
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-9


def unit(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale every row to length 1; a zero row stays zero."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(TINY)


def procrustes(x: Float[Tensor, "n dx"], y: Float[Tensor, "n dy"]) -> Float[Tensor, "dx dy"]:
    """Return the semi-orthogonal W that minimises |x W - y| (Schönemann 1966): the polar factor of x^T y."""
    return polar(x.T @ y)


def polar(m: Float[Tensor, "dx dy"]) -> Float[Tensor, "dx dy"]:
    """Return the nearest semi-orthogonal matrix, U V^T of m = U S V^T."""
    u, _, vt = torch.linalg.svd(m, full_matrices=False)
    return u @ vt
