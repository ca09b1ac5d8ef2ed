"""Answers to chapter 2's code exercises beside the book's own: right ones in other styles, and plausible wrong ones."""

import random

import torch


def _perm(n, generator):
    return torch.randperm(int(n), generator=generator)


def right_draw_lists(counts, way, shot, query, generator):
    """Plain lists, from Python's own generator, seeded by the given one."""
    rng = random.Random(int(torch.randint(2**60, (), generator=generator)))
    classes = rng.sample(range(len(counts)), way)
    return classes, [rng.sample(range(int(counts[c])), shot + query) for c in classes]


def right_draw_numpy(counts, way, shot, query, generator):
    """Random keys, sorted; NumPy arrays, in a list."""
    def choose(n, k):
        return torch.rand(int(n), generator=generator, dtype=torch.float64).numpy().argsort()[:k]

    classes = choose(len(counts), way)
    return [classes, [choose(counts[c], shot + query) for c in classes]]


def right_draw_without_replacement(counts, way, shot, query, generator):
    """multinomial without replacement, indices as floats."""
    def choose(n, k):
        return torch.multinomial(torch.ones(int(n), dtype=torch.float64), k, generator=generator)

    classes = choose(len(counts), way)
    return classes, torch.stack([choose(counts[c], shot + query) for c in classes]).double()


def wrong_draw_sorted(counts, way, shot, query, generator):
    """Sorted classes: a class's rank gives its label away."""
    classes = _perm(len(counts), generator)[:way].sort().values
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def wrong_draw_rest_sorted(counts, way, shot, query, generator):
    """The first label random, the others sorted."""
    classes = _perm(len(counts), generator)[:way]
    classes = torch.cat([classes[:1], classes[1:].sort().values])
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def wrong_draw_class_window(counts, way, shot, query, generator):
    """Neighbouring classes, from a random start."""
    classes = (torch.randint(len(counts), (), generator=generator) + torch.arange(way)) % len(counts)
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def wrong_draw_shuffled_window(counts, way, shot, query, generator):
    """Neighbouring classes in random order: every label is fair, and the choice is not."""
    classes = (torch.randint(len(counts), (), generator=generator) + _perm(way, generator)) % len(counts)
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def wrong_draw_image_window(counts, way, shot, query, generator):
    """Neighbouring images, from a random start."""
    classes = _perm(len(counts), generator)[:way]
    k = torch.arange(shot + query)
    return classes, torch.stack([(torch.randint(int(counts[c]), (), generator=generator) + k) % counts[c]
                                 for c in classes])


def wrong_draw_lowest_queries(counts, way, shot, query, generator):
    """A random support, and the first images that are left as queries."""
    classes = _perm(len(counts), generator)[:way]
    rows = []
    for c in classes:
        support = _perm(counts[c], generator)[:shot]
        rows.append(torch.cat([support, torch.tensor([i for i in range(int(counts[c])) if i not in support][:query])]))
    return classes, torch.stack(rows)


def wrong_draw_shared(counts, way, shot, query, generator):
    """One permutation for all classes: each class is fair, and the classes move together."""
    classes = _perm(len(counts), generator)[:way]
    keys = torch.rand(int(counts.max()), generator=generator, dtype=torch.float64)
    return classes, torch.stack([keys[:int(counts[c])].argsort()[:shot + query] for c in classes])


def wrong_draw_replacement(counts, way, shot, query, generator):
    """With replacement: the query can repeat the support."""
    classes = _perm(len(counts), generator)[:way]
    return classes, torch.stack([torch.randint(int(counts[c]), (shot + query,), generator=generator) for c in classes])


def wrong_draw_class_replacement(counts, way, shot, query, generator):
    """Classes with replacement: one class under two labels."""
    classes = torch.randint(len(counts), (way,), generator=generator)
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def wrong_draw_smallest(counts, way, shot, query, generator):
    """One size for all: the later examples of large classes are never drawn."""
    classes = _perm(len(counts), generator)[:way]
    return classes, torch.stack([_perm(counts.min(), generator)[:shot + query] for _ in classes])


def wrong_draw_first_twenty(counts, way, shot, query, generator):
    """Never looks beyond the first twenty examples of a class, as many as an Omniglot class has."""
    classes = _perm(len(counts), generator)[:way]
    return classes, torch.stack([_perm(counts[c].clamp(max=20), generator)[:shot + query] for c in classes])


def wrong_draw_first_ten_classes(counts, way, shot, query, generator):
    """Never looks beyond the first ten classes."""
    return right_draw_without_replacement(counts[:10], way, shot, query, generator)


def wrong_draw_largest(counts, way, shot, query, generator):
    """The other size for all: indices outside the small classes."""
    classes = _perm(len(counts), generator)[:way]
    return classes, torch.stack([_perm(counts.max(), generator)[:shot + query] for _ in classes])


def wrong_draw_counts_in_order(counts, way, shot, query, generator):
    """counts[n] of the label instead of counts[c] of the class."""
    classes = _perm(len(counts), generator)[:way]
    return classes, torch.stack([_perm(counts[n], generator)[:shot + query] for n in range(way)])


def wrong_draw_by_size(counts, way, shot, query, generator):
    """A class as likely as it is large."""
    classes = torch.multinomial(counts.double(), way, generator=generator)
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def wrong_draw_global(counts, way, shot, query, generator):
    """The global generator: nobody can draw these episodes again."""
    classes = torch.randperm(len(counts))[:way]
    return classes, torch.stack([torch.randperm(int(counts[c]))[:shot + query] for c in classes])


def wrong_draw_global_examples(counts, way, shot, query, generator):
    """The global generator for the examples alone."""
    classes = _perm(len(counts), generator)[:way]
    return classes, torch.stack([torch.randperm(int(counts[c]))[:shot + query] for c in classes])


def wrong_draw_reseeded(counts, way, shot, query, generator):
    """A new generator with the old seed in every call: the same episode again and again."""
    return right_draw_without_replacement(counts, way, shot, query,
                                          torch.Generator().manual_seed(generator.initial_seed()))


def wrong_draw_constant(counts, way, shot, query, generator):
    """No randomness at all."""
    return torch.arange(way), torch.arange(shot + query).expand(way, -1)


def wrong_draw_sorted_examples(counts, way, shot, query, generator):
    """Sorted examples: the support is always the oldest."""
    classes, examples = right_draw_without_replacement(counts, way, shot, query, generator)
    return classes, examples.sort(1).values


def wrong_draw_from_one(counts, way, shot, query, generator):
    """Indices from 1."""
    classes, examples = right_draw_without_replacement(counts, way, shot, query, generator)
    return classes, examples + 1


def wrong_draw_one_shot(counts, way, shot, query, generator):
    """Ignores `shot`."""
    return right_draw_without_replacement(counts, way, 1, query, generator)


_LAST = []


def wrong_draw_alternates(counts, way, shot, query, generator):
    """Every other episode has the classes of the one before: each episode is fair, and the sequence is not."""
    classes = _perm(len(counts), generator)[:way]
    if _LAST:
        classes = _LAST.pop()
    else:
        _LAST.append(classes)
    return classes, torch.stack([_perm(counts[c], generator)[:shot + query] for c in classes])


def _pairs(episodes):
    """(T, NK, NQ): is query j a copy of support i?"""
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    return (s[:, :, None] == q[:, None]).all(-1)


def right_copied_loops(episodes):
    """Loops, a plain list of floats."""
    return [sum(any(torch.equal(a, b) for a in s) for b in q) / len(q)
            for s, q in zip(episodes.support.x, episodes.query.x)]


def right_copied_bytes(episodes):
    """Sets of bytes, a tuple; float32."""
    found = []
    for s, q in zip(episodes.support.x.numpy(), episodes.query.x.numpy()):
        seen = {a.tobytes() for a in s}
        found.append(torch.tensor([b.tobytes() in seen for b in q]).float().mean())
    return tuple(found)


def right_copied_differences(episodes):
    """The largest difference is 0; a NumPy array."""
    s, q = episodes.support.x, episodes.query.x
    far = (q[:, :, None] - s[:, None]).abs().amax((-3, -2, -1))  # (T, NQ, NK)
    return (far.amin(2) == 0).sum(1).numpy() / q.shape[1]


def wrong_copied_pairs(episodes):
    """Counts pairs: a support image that is there twice counts twice."""
    return _pairs(episodes).double().sum((1, 2)) / episodes.query.x.shape[1]


def wrong_copied_all_tasks(episodes):
    """Looks in the supports of every task."""
    s, q = episodes.support.x.flatten(2).flatten(0, 1), episodes.query.x.flatten(2)
    return (q[:, :, None] == s).all(-1).any(-1).double().mean(-1)


def wrong_copied_any_pixel(episodes):
    """Any pixel: paper is equal everywhere."""
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    return (s[:, :, None] == q[:, None]).any(-1).any(1).double().mean(-1)


def wrong_copied_ink(episodes):
    """Equal ink: the sums of the pixels agree."""
    s, q = episodes.support.x.double().flatten(2).sum(-1), episodes.query.x.double().flatten(2).sum(-1)
    return ((s[:, :, None] - q[:, None]).abs() < 1e-9).any(1).double().mean(-1)


def wrong_copied_near(episodes):
    """Near-equal: no pixel differs by more than a twentieth."""
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    return ((s[:, :, None] - q[:, None]).abs() < 0.05).all(-1).any(1).double().mean(-1)


def wrong_copied_isclose(episodes):
    """Near-equal: torch.isclose as it comes."""
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    return torch.isclose(s[:, :, None], q[:, None]).all(-1).any(1).double().mean(-1)


def wrong_copied_every_second_row(episodes):
    """Compares every second row of the images."""
    s, q = episodes.support.x[..., ::2, :].flatten(2), episodes.query.x[..., ::2, :].flatten(2)
    return (s[:, :, None] == q[:, None]).all(-1).any(1).double().mean(-1)


def wrong_copied_one_channel(episodes):
    """Compares the first channel alone."""
    s, q = episodes.support.x[:, :, 0].flatten(2), episodes.query.x[:, :, 0].flatten(2)
    return (s[:, :, None] == q[:, None]).all(-1).any(1).double().mean(-1)


def wrong_copied_supports(episodes):
    """The fraction of supports that a query copies."""
    return _pairs(episodes).any(2).double().mean(-1)


def wrong_copied_same_position(episodes):
    """Compares query j with support j."""
    n = min(episodes.support.x.shape[1], episodes.query.x.shape[1])
    s, q = episodes.support.x[:, :n].flatten(2), episodes.query.x[:, :n].flatten(2)
    return (s == q).all(-1).double().sum(-1) / episodes.query.x.shape[1]


def wrong_copied_first_support(episodes):
    """Compares with the first support image alone."""
    return _pairs(episodes)[:, 0].double().mean(-1)


def wrong_copied_same_label(episodes):
    """Counts a copy only where the labels agree."""
    agree = episodes.support.y[:, :, None] == episodes.query.y[:, None]
    return (_pairs(episodes) & agree).any(1).double().mean(-1)


def wrong_copied_number(episodes):
    """The number, not the fraction."""
    return _pairs(episodes).any(1).sum(-1)


def wrong_copied_batch(episodes):
    """One fraction for the whole meta-batch."""
    return _pairs(episodes).any(1).double().mean()


def wrong_copied_percent(episodes):
    """In percent."""
    return 100 * _pairs(episodes).any(1).double().mean(-1)


def wrong_copied_zero(episodes):
    """A constant: nothing is ever a copy."""
    return torch.zeros(episodes.tasks)
