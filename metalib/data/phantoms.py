"""phantoms(): drawn microscope images whose lesion, and whose slide, are known because we put them there."""

import math
from functools import partial

import torch
from torch import Tensor

from metalib.arguments import check_number, check_whole
from metalib.data.images import ClassImages
from metalib.functional import seeded


def phantoms(slides: int = 40, per_slide: int = 20, *, contrast: float = 0.3, nuisance: float = 1.0, size: int = 28,
             seed: int = 0) -> ClassImages:
    """Images of a round cell, healthy or with a lesion, half of each on every slide; uint8 RGB, 3 x size x size.

        image_c = tint_c (0.5 + brightness + pattern + 0.2 cell + contrast lesion) + noise

    The truth is `contrast`: the lesion is a bright spot of this height at a random place in the cell, and 0 leaves
    nothing to find. The nuisance belongs to the slide and says nothing about the lesion: a tint of each colour, a
    brightness and a background pattern of three waves, equal in all images of a slide; 0 makes all slides alike.

    Classes "healthy" and "lesion"; facts "slide" and "brightness" (the slide's, a number). Whatever predicts a label
    that was drawn for a slide has recognised the slide.

    Args:
        slides, per_slide: how many, and how many images of each, an even number.
        contrast: height of the lesion, in units of full brightness.
        nuisance: how much slides differ, 1 for a tint of 15 % and a brightness of 0.08 (standard deviations).
        size: pixels.
        seed: of everything random.

    Raises:
        ValueError: an odd `per_slide`; numbers that are none.
    """
    check_whole(1, slides=slides, per_slide=per_slide, size=size)
    check_number(contrast, "contrast")
    check_number(nuisance, "nuisance")
    if per_slide % 2:
        raise ValueError(f"per_slide={per_slide}: expected an even number, half of them with a lesion")
    S, M, g = slides, slides * per_slide, seeded(seed)
    normal, uniform = (partial(f, generator=g, dtype=torch.float64) for f in (torch.randn, torch.rand))
    axis = torch.linspace(-1, 1, size, dtype=torch.float64)  # float64: the same bytes on every machine
    at = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))  # (2, H, W)
    tint, brightness = (nuisance * 0.15 * normal(S, 3)).exp(), normal(S)
    waves, phase = 4 * normal(S, 3, 2), 2 * math.pi * uniform(S, 3, 1, 1)
    pattern = (torch.einsum("skd,dhw->skhw", waves, at) + phase).sin().mean(1)  # (S, H, W)
    slide, lesion = torch.arange(M) // per_slide, torch.arange(M) % 2

    def spot(centre: Tensor, radius: Tensor | float) -> Tensor:  # (M, H, W)
        return (-(at - centre[..., None, None]).square().sum(1) / (2 * torch.as_tensor(radius) ** 2)).exp()

    centre = 0.5 * uniform(M, 2) - 0.25
    angle, away = 2 * math.pi * uniform(M), 0.3 * uniform(M).sqrt()
    place = centre + away[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    light = (0.5 + nuisance * (0.08 * brightness[:, None, None] + 0.1 * pattern))[slide]
    light = light + 0.2 * spot(centre, 0.45) + contrast * lesion[:, None, None] * spot(place, 0.15)
    images = tint[slide][..., None, None] * light[:, None] + 0.05 * normal(M, 3, size, size)
    return ClassImages.from_arrays((255 * images.clamp(0, 1)).round().to(torch.uint8), lesion,
                                   names=("healthy", "lesion"),
                                   about={"slide": [f"slide {s:03d}" for s in slide.tolist()],
                                          "brightness": nuisance * brightness[slide]})
