"""Answers to chapter 6's code exercise beside the book's own: right ones in other styles, and plausible wrong ones."""

import torch

from metalib import meta_gradient


def _weighted(learner, parts, shares, **how):
    total, loss = {}, 0.0
    for part, share in zip(parts, shares):
        loss += share * float(meta_gradient(learner, part, **how))
        for k, p in learner.named_parameters():
            total[k] = total.get(k, 0) + share * p.grad
    return total, loss


def _shares(parts):
    return [part.tasks / sum(p.tasks for p in parts) for part in parts]


def right_in_chunks_library(learner, episodes, size):
    """meta_gradient's own `chunk=`; a list, NumPy arrays and a tensor."""
    loss = meta_gradient(learner, episodes, map="vmap", chunk=size)
    return [{k: p.grad.numpy() for k, p in learner.named_parameters()}, loss]


def right_in_chunks_sums(learner, episodes, size):
    """Sums first, the division at the end; the result is left in p.grad as well."""
    total, loss, seen = {k: torch.zeros_like(p) for k, p in learner.named_parameters()}, 0.0, 0
    for part in reversed(episodes.split(size)):
        loss, seen = loss + part.tasks * meta_gradient(learner, part), seen + part.tasks
        for k, p in learner.named_parameters():
            total[k] += part.tasks * p.grad
    for k, p in learner.named_parameters():
        p.grad = total[k] / seen
    return {k: p.grad for k, p in learner.named_parameters()}, loss / seen


def right_in_chunks_loop(learner, episodes, size):
    """The loop over tasks in each chunk."""
    parts = episodes.split(size)
    return _weighted(learner, parts, _shares(parts), map="loop", threads=1)


def wrong_in_chunks_mean_of_means(learner, episodes, size):
    """The mean of the chunks' means: right only if the chunks are equal."""
    parts = episodes.split(size)
    return _weighted(learner, parts, [1 / len(parts)] * len(parts))


def wrong_in_chunks_accumulates(learner, episodes, size):
    """Trusts p.grad to accumulate, as backward() would; meta_gradient overwrites it."""
    parts = episodes.split(size)
    loss = sum(share * float(meta_gradient(learner, part)) for share, part in zip(_shares(parts), parts))
    return {k: p.grad for k, p in learner.named_parameters()}, loss


def wrong_in_chunks_drop_last(learner, episodes, size):
    """Drops the incomplete last chunk, as a data loader with drop_last does."""
    parts = [p for p in episodes.split(size) if p.tasks == size] or [episodes]
    return _weighted(learner, parts, _shares(parts))


def wrong_in_chunks_all_at_once(learner, episodes, size):
    """Ignores `size`: the right numbers, and the memory of all tasks at once."""
    return _weighted(learner, [episodes], [1.0])


def wrong_in_chunks_number_of_chunks(learner, episodes, size):
    """Takes `size` for the number of chunks."""
    parts = episodes.split(-(-episodes.tasks // size))
    return _weighted(learner, parts, _shares(parts))


def wrong_in_chunks_one_by_one(learner, episodes, size):
    """Ignores `size`: one task at a time, always."""
    parts = episodes.split(1)
    return _weighted(learner, parts, _shares(parts))


def wrong_in_chunks_first(learner, episodes, size):
    """The first chunk alone."""
    return _weighted(learner, episodes.split(size)[:1], [1.0])


def wrong_in_chunks_sum(learner, episodes, size):
    """The sum over chunks, not divided."""
    parts = episodes.split(size)
    return _weighted(learner, parts, [1.0] * len(parts))


def wrong_in_chunks_full_share(learner, episodes, size):
    """Every chunk counts as `size` tasks."""
    parts = episodes.split(size)
    return _weighted(learner, parts, [size / episodes.tasks] * len(parts))


def wrong_in_chunks_loss_of_last(learner, episodes, size):
    """The gradient is right; the loss is the last chunk's."""
    parts = episodes.split(size)
    return _weighted(learner, parts, _shares(parts))[0], meta_gradient(learner, parts[-1])


def wrong_in_chunks_loss_mean_of_means(learner, episodes, size):
    """The gradient is right; the loss is a mean of means."""
    parts = episodes.split(size)
    return (_weighted(learner, parts, _shares(parts))[0],
            sum(float(meta_gradient(learner, part)) for part in parts) / len(parts))


def wrong_in_chunks_weights_only(learner, episodes, size):
    """The biases get the last chunk's gradient."""
    parts = episodes.split(size)
    total, loss = _weighted(learner, parts, _shares(parts))
    return {k: p.grad if k.endswith("bias") else total[k] for k, p in learner.named_parameters()}, loss


def wrong_in_chunks_no_names(learner, episodes, size):
    """A list of gradients."""
    grads, loss = right_in_chunks_sums(learner, episodes, size)
    return list(grads.values()), loss
