"""Images as a person wants to see them: ink dark on white paper, photographs as they are, any number of channels."""

import torch
from torch import Tensor

from metalib.episode import Episode


def class_rows(task: Episode, queries: int, *, ink: bool | None = None) -> list[tuple[Tensor, Tensor]]:
    """(support, at most so many queries) of each class of one task of images, as `in_colour` has them: one decision
    for the whole task."""
    (sx, sy, way), (qx, qy, _) = task
    colours = in_colour(torch.cat([sx, qx]), ink=ink)
    sx, qx, sy, qy = colours[:len(sx)], colours[len(sx):], sy.cpu(), qy.cpu()
    return [(sx[sy == n], qx[qy == n][:queries]) for n in range(way)]


def in_colour(x: Tensor, *, ink: bool | None = None) -> Tensor:
    """Images (..., C, H, W) in [0, 1] or in bytes -> colours (..., 3, H, W) in [0, 1], float32, on the CPU.

    1 channel is grey; 2 are red and cyan; 4 are red, green, blue and opacity, on white paper; of more than 4 the first
    3 are shown.

    Args:
        x: the images.
        ink: True shows bright as dark: ink on white paper. False shows the numbers as they are. None finds out: ink
            is one channel with more than half of all pixels exactly 0, the paper, as in drawings and glyphs, and in no
            ordinary photograph (say ink=False for X-rays, ink=True for dense drawings).

    Raises:
        ValueError: no images.
    """
    if x.ndim < 3 or 0 in x.shape:
        raise ValueError(f"shape {tuple(x.shape)}: expected images (..., C, H, W)")
    C = x.shape[-3]
    if ink is None:
        ink = C == 1 and float((x == 0).float().mean()) > 0.5
    x = x.cpu().float() / (1 if x.is_floating_point() else 255)
    x = 1 - x if ink else x
    if C == 4:
        colour, opacity = x[..., :3, :, :], x[..., 3:, :, :]
        return colour * opacity + 1 - opacity
    return x[..., [0, 0, 0] if C == 1 else [0, 1, 1] if C == 2 else [0, 1, 2], :, :]
