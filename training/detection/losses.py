"""Which places answer for which box, and what their answers cost.

Places are matched as in TOOD (Feng et al. 2021): the ten whose class and box fit a box best. Classes are learnt by the
quality focal loss (Li et al. 2020), whose target is how well the place's box fits; boxes by generalised intersection
over union (Rezatofighi et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional

CANDIDATES = 10
CLASS_POWER, OVERLAP_POWER = 0.5, 6.0
BOX_WEIGHT = 2.0
FOCUS = 2.0


@dataclass(frozen=True)
class Truth:
    """Boxes of a batch, padded: pixels [n,m,4], classes [n,m], trust 0..1 [n,m] (0: padding).

    `unsure` boxes [n,k,5] are left, top, right, bottom, class: places inside learn nothing about that class.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    trust: torch.Tensor
    unsure: torch.Tensor


def overlap(one: torch.Tensor, other: torch.Tensor, *, generalised: bool = False) -> torch.Tensor:
    """Intersection over union of boxes that broadcast; generalised: less what the hull has in excess."""
    start, end = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    common = (end - start).clamp(min=0).prod(-1)
    union = _area(one) + _area(other) - common
    found = common / union.clamp(min=1e-6)
    if not generalised:
        return found
    start, end = torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])
    hull = (end - start).prod(-1).clamp(min=1e-6)
    return found - (hull - union) / hull


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def inside(centres: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Whether each of the places [p,2] lies in each of the boxes [n,m,4]: [n,m,p]."""
    start = centres[None, None] - boxes[:, :, None, :2]
    end = boxes[:, :, None, 2:] - centres[None, None]
    return torch.minimum(start, end).amin(-1) > 0


@torch.no_grad()
def match(
    logits: torch.Tensor, found: torch.Tensor, truth: Truth, centres: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The box each place answers for [n,p] (-1: none), and its class's target 0..1 [n,p]."""
    fits = overlap(truth.boxes[:, :, None], found[:, None])
    index = truth.classes[:, :, None].expand(-1, -1, logits.shape[1])
    likely = logits.sigmoid().transpose(1, 2).gather(1, index)
    allowed = inside(centres, truth.boxes) & (truth.trust > 0)[:, :, None]
    merit = likely**CLASS_POWER * fits**OVERLAP_POWER * allowed
    # A tiny merit by nearness keeps small boxes from having no place at all while predictions are still poor.
    middle = (truth.boxes[:, :, None, :2] + truth.boxes[:, :, None, 2:]) / 2
    far = (middle - centres[None, None]).norm(dim=-1)
    merit = merit + 1e-9 * allowed / (1 + far)
    best = merit.topk(min(CANDIDATES, merit.shape[2]), dim=2)
    chosen = torch.zeros_like(merit).scatter(2, best.indices, 1.0) * allowed
    owned = chosen * (fits + 1e-6)
    strongest, box = owned.max(1)
    box = torch.where(strongest > 0, box, -1)
    top_merit = (merit * chosen).amax(2, keepdim=True).clamp(min=1e-12)
    top_fit = (fits * chosen).amax(2, keepdim=True)
    target = (merit / top_merit * top_fit).gather(1, box.clamp(min=0)[:, None])[:, 0]
    return box, torch.where(box >= 0, target.clamp(0, 1), 0.0)


def loss(
    logits: torch.Tensor, found: torch.Tensor, truth: Truth, centres: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes' cost and the boxes' cost."""
    box, quality = match(logits, found, truth, centres)
    answers = box >= 0
    picked = box.clamp(min=0)
    trust = truth.trust.gather(1, picked)
    classes = truth.classes.gather(1, picked)
    wanted = torch.zeros_like(logits)
    wanted.scatter_(2, classes[..., None], (quality * trust * answers)[..., None])
    weight = (wanted - logits.sigmoid()).abs() ** FOCUS
    if truth.unsure.shape[1]:
        ignored = inside(centres, truth.unsure[..., :4])
        # Padding has an empty box, inside of which no place lies.
        one_hot = functional.one_hot(truth.unsure[..., 4].long(), logits.shape[2]).to(logits.dtype)
        veto = torch.einsum("nkp,nkc->npc", ignored.to(logits.dtype), one_hot)
        weight = weight * ((veto == 0) | (wanted > 0))
    share = quality * trust * answers
    total = share.sum().clamp(min=1.0)
    cost = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight
    meant = truth.boxes.gather(1, picked[..., None].expand(-1, -1, 4))
    miss = (1 - overlap(found, meant, generalised=True)) * (share + 0.05 * trust * answers)
    return cost.sum() / total, BOX_WEIGHT * miss.sum() / total
