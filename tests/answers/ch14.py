"""Answers to chapter 14's code exercise beside the book's own: right ones in other styles, and wrong ones."""

import numpy as np
import torch
import torch.nn.functional as F


def right_sliding_convolution(x, y, reach):
    """A mean is a kernel, and the query is padded."""
    x = x / x.flatten(1).norm(dim=1)[:, None, None]
    y = y / y.flatten(1).norm(dim=1)[:, None, None]
    return F.conv2d(F.pad(x[:, None], [reach] * 4), y[:, None]).amax((2, 3))


def right_sliding_numpy(x, y, reach):
    """Slices of a padded array, a list of lists out."""
    x, y = x.numpy(), y.numpy()
    H, W = x.shape[1:]
    wide = np.pad(y, ((0, 0), (reach, reach), (reach, reach)))
    found = []
    for a in x:
        row = []
        for b, w in zip(y, wide):
            best = max(float((a * w[i:i + H, j:j + W]).sum()) for i in range(2 * reach + 1)
                       for j in range(2 * reach + 1))
            row.append(best / np.sqrt((a**2).sum() * (b**2).sum()))
        found.append(row)
    return found


def right_sliding_moves_the_query(x, y, reach):
    """The other picture is moved."""
    return right_sliding_convolution(y, x, reach).T


def _moves(reach, steps=None):
    steps = range(-reach, reach + 1) if steps is None else steps
    return [(i, j) for i in steps for j in steps]


def _moved(y, i, j):
    H, W = y.shape[1:]
    r = max(abs(i), abs(j))
    return F.pad(y, [r] * 4)[:, r - i:r - i + H, r - j:r - j + W]


def _cosines(x, y, moves, shift=_moved):
    x, lengths = F.normalize(x.flatten(1), dim=1), y.flatten(1).norm(dim=1)
    return torch.stack([x @ (shift(y, i, j).flatten(1) / lengths[:, None]).T for i, j in moves])


def right_sliding_stacked(x, y, reach):
    """All moves in a stack."""
    return _cosines(x, y, _moves(reach)).amax(0)


def right_sliding_running_maximum(x, y, reach):
    """The largest so far, from 0: no cosine of pictures without negative pixels is less."""
    best = torch.zeros(len(x), len(y), dtype=x.dtype)
    for found in _cosines(x, y, _moves(reach)):
        best = torch.maximum(best, found)
    return best


def wrong_sliding_largest_of_a_query(x, y, reach):
    """The best mean of each query, for all means."""
    found = _cosines(x, y, _moves(reach)).amax(0)
    return found.amax(1, keepdim=True).expand_as(found)


def wrong_sliding_around_the_edge(x, y, reach):
    """torch.roll brings the ink in again."""
    return _cosines(x, y, _moves(reach), lambda y, i, j: y.roll((i, j), (1, 2))).amax(0)


def wrong_sliding_one_way(x, y, reach):
    """Down and to the right alone."""
    return _cosines(x, y, _moves(reach, range(reach + 1))).amax(0)


def wrong_sliding_rows_alone(x, y, reach):
    """Up and down, not across."""
    return _cosines(x, y, [(i, 0) for i in range(-reach, reach + 1)]).amax(0)


def wrong_sliding_one_axis_at_a_time(x, y, reach):
    """A cross of moves, no corner."""
    line = range(-reach, reach + 1)
    return _cosines(x, y, [(i, 0) for i in line] + [(0, i) for i in line]).amax(0)


def wrong_sliding_the_diagonal(x, y, reach):
    """Both by the same number."""
    return _cosines(x, y, [(i, i) for i in range(-reach, reach + 1)]).amax(0)


def wrong_sliding_mean(x, y, reach):
    """The mean of the moves."""
    return _cosines(x, y, _moves(reach)).mean(0)


def wrong_sliding_no_move(x, y, reach):
    """`reach` is not used."""
    return _cosines(x, y, [(0, 0)]).amax(0)


def wrong_sliding_one_short(x, y, reach):
    """The last move is left out: range(-reach, reach)."""
    return _cosines(x, y, _moves(reach, range(-reach, max(reach, 1)))).amax(0)


def wrong_sliding_products(x, y, reach):
    """Inner products, no lengths."""
    return _cosines(x, y, _moves(reach)).amax(0) * x.flatten(1).norm(dim=1)[:, None] * y.flatten(1).norm(dim=1)


def wrong_sliding_length_of_what_is_left(x, y, reach):
    """Divides by the length after the move, when ink is lost."""
    a = F.normalize(x.flatten(1), dim=1)
    return torch.stack([a @ F.normalize(_moved(y, i, j).flatten(1), dim=1).T for i, j in _moves(reach)]).amax(0)


def wrong_sliding_one_move_for_all(x, y, reach):
    """The move that is best on average, for every pair."""
    found = _cosines(x, y, _moves(reach))
    return found[found.mean((1, 2)).argmax()]


def wrong_sliding_distance(x, y, reach):
    """Squared distances."""
    return -(torch.cdist(x.flatten(1), y.flatten(1)) ** 2)


def wrong_sliding_transposed(x, y, reach):
    """Means in rows."""
    return right_sliding_convolution(x, y, reach).T
