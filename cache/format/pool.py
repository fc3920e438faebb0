"""Pooled patch embeddings: squares of neighbours become their mean.

(4 x 4 patches)        a b c d
                       e f g h        pool 2        (a+b+e+f)/4   (c+d+g+h)/4
                       i j k l       ───────►       (i+j+m+n)/4   (k+l+o+p)/4
                       m n o p
"""

from typing import Any


def pool_patches(patches: Any, grid: tuple[int, int], side: int) -> Any:
    """Return the means of squares of patches, in row-major order.

    (..., patches, dim) floats of numpy or torch -> (..., patches / side², dim). They are added in
    the same order anywhere, so that a conversion gives the bytes of an extraction.

    Args:
        grid: Rows and columns of patches, which are multiples of `side`.
        side: Patches along the side of a square.
    """
    if side == 1:
        return patches
    rows, columns = grid[0] // side, grid[1] // side
    *before, _, dim = patches.shape
    squares = patches.reshape(*before, rows, side, columns, side, dim)
    total = sum(squares[..., :, i, :, j, :] for i in range(side) for j in range(side))
    return (total / side**2).reshape(*before, rows * columns, dim)
