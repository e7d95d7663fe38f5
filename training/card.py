"""The model card: what the bundle is, what made it, how well it does, and where it fails."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

from training.report import Report

HEAD = """# Model card: `general`

A small image embedder and a tagger over its vectors, made for visual search without a network. Both were trained
from scratch by `training/` (see there); nothing of any other network's weights is in the files.

| | |
| --- | --- |
| version | {version} |
| vector | {dims} dimensions, unit length, centred: unrelated photos have a cosine near 0 |
| input | the whole picture squashed to {side} x {side}, RGB |
| network | residual, 3x3 convolutions with squeeze-and-excite gates, stem stride 4, widths 32-64-192-384 |
| files | `embedder.onnx` {embedder:.1f} MB (convolutions in int8), `tagger.npz` {tagger:.1f} MB |
| licence | Apache-2.0 for the files; see the sources |

## Sources

The weights were trained on these photos. Some of them are for research use: who needs weights free of that has to
train again on other photos (`TRAIN_SOURCES` in `training/data.py`).

| source | photos | used for | terms |
| --- | --- | --- | --- |
| MiniPlaces (100 of its scene categories) | 20,000 | scenes; people and things by the teachers | research use |
| Tiny-ImageNet | 24,000 | 200 kinds of animals, plants and things | research use |
| CIFAR-10 | 4,000 | vehicles and animals | research use |
| Intel image scenes | 5,400 | buildings, forests, glaciers, mountains, sea, streets | CC0 by its repository |
| cats and dogs | 1,000 | cats, dogs | not stated by its owner: treat as research use |
| clothing dataset | 3,068 | garments | CC0 |
| grocery store dataset | 2,936 | fruit, vegetables, packages | MIT |

Teachers, used in training and not shipped, all Apache-2.0: MobileNet v2 (ImageNet logits) and v1 (embeddings) of every
photo, of a crop of it and of a collage with another, NanoDet-m (things in the MiniPlaces photos), MLPerf Tiny's visual
wake words (people).

## How it was made

The network learns, all at once and from the unit vector alone: the v2 teacher's softened classes, the nearest
neighbours within a batch as both MobileNets see them, the class of each source, and whether people are seen. Pictures
are shifted, mirrored, tinted, softened and re-coded on the way in, so that a vector does not depend on how a photo was
stored or decoded. It was trained in two sittings: 3,100 batches of 256 pictures from random weights for version
20261121.0620, taught by v2 alone (an hour on two busy cores), then 2,400 more from there at seven tenths of the
learning rate (three fifths at 64 px; 25 minutes). The weights are a running average, their norms settled on whole
photos at {side} px; one photo in twelve was held back.

The convolutions are then done in whole numbers, seven bits for a weight and eight for an activation
(`training/quantise.py`; `training/general.onnx` is the network before). That takes a quarter of the time. When
version 20261129.0834 was made so, vectors stayed within a cosine of .989 of the unrounded ones (.996 on average),
precision among the nearest nine changed by .003 and less in the evaluation sets, and mean average precision went from
.553 to .551.

The tagger is one logistic regression per concept over the vectors of whole photos and collages. Labels say yes, no
or nothing (`training/label_map.json`); teachers add what they are sure of; what nobody knows counts as a tenth of a
no. Each concept's scale and bias then come from Platt's method on the photos held back, drawn towards the common
calibration where positives are few.

## Names

The vocabulary has 323 concepts with names in 23 languages, written for this project. Of the 7,106 pairs of concept and
non-English language, 62.2 % (4,422) could be checked against Unicode CLDR 48.2.0, and 86.0 % of those agree: 95.8 % of
the 2,354 pairs where an emoji bears the concept's own name, and 74.9 % of the 2,068 where it is only a keyword. Names
were corrected after reading the differences, so this is agreement after one review, not a blind score
(`tests/contract/test_vocabulary_cldr.py`). Punjabi, Bengali, Hindi and Arabic deserve a native reader first.
One concept, `palm tree`, has a name but no training evidence: the tagger does not predict it.

## More general concepts

A dog is an animal, and the labels say so: whatever teaches `dog` teaches `mammal`, `pet` and `animal` too. But each
concept is a direction of its own, so that a search by it is a search along one direction, and nothing forces the
probability of `animal` above that of `dog`. How often it falls short is measured below, and what raising each general
concept to the likeliest below it would gain. It is not done, because a maximum is no direction: predictions would then
say something else than searches rank by. A tagger that is fitted under this condition would serve both.

## Limits

- It knows little and sees coarsely: {side} px, 60,000 small photos, about 23 looks at each. Small things are
  missed; fine kinds (breeds, brands) are mixed up.
- Probabilities are about right for photos like the ones held back (there above one half rather too low). On full
  photographs high ones are too high and small things are missed: see the second calibration table, and take the
  order of the hits more seriously than their values. On photographs people, food, vehicles as such and sport rank
  well; cars, dogs, birds, boats, bags and backpacks do not.
- `people` means "people visible", learned from two small networks and not from people's own words. How it does for
  different groups of people was not measured. Do not use it to decide anything about a person.
- Text, faces, identities, emotions, art styles and abstract ideas are outside what it was taught.
- For more than this a larger model is needed: `sightrank models add` takes one from the Hub.

## Measured

All photos below were kept out of training; the size of the input was chosen by looking at them. `colour + HOG` is
the floor that a learned vector must clearly beat; the MobileNets, which taught it, are a ceiling. The first bundle
is the one this project began with, measured again by `python -m training.compare`. The COCO
photos are few: a concept with under ten positives is an anecdote.

"""


def write(folder: Path, report: Report) -> None:
    """Write the card whole or not at all."""
    manifest = json.loads((folder / "manifest.json").read_text())
    head = HEAD.format(
        version=manifest["version"],
        dims=manifest["dims"],
        side=manifest["preprocessing"]["size"],
        embedder=(folder / "embedder.onnx").stat().st_size / 1e6,
        tagger=(folder / "tagger.npz").stat().st_size / 1e6,
    )
    foot = f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, 2 CPU cores, by `python -m training.evaluate`."
    partial = folder / "MODEL_CARD.md.tmp"
    partial.write_text(head + "\n".join([*report.lines, foot]) + "\n", encoding="utf-8")
    os.replace(partial, folder / "MODEL_CARD.md")
