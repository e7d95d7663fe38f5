"""The table of model types: what the models of each take and give, and what they are told (api-spec 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2

from sightrank.vision.fitting import FitOptions

FieldKind = resources_pb2.ModelTypeField.ModelTypeFieldType

#: Clarifai's numbers and names of comparisons.
COMPARISONS: Final[Mapping[str, int]] = {
    name: number for name, number in resources_pb2.ValueComparator.items() if number
}
#: Statuses in which an annotation writer may write.
WRITTEN_STATUSES: Final[Mapping[str, int]] = {
    name: status_code_pb2.StatusCode.Value(f"ANNOTATION_{name}")
    for name in ("SUCCESS", "PENDING", "AWAITING_REVIEW", "REVIEW_DENIED")
}
MAX_NEIGHBOURS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that a model of a type is told. ``path``: where in the Model. ``least`` and ``most`` bound a number;
    ``options`` are the ids of a choice, each with the number that stands for it.
    """

    path: str
    kind: FieldKind.ValueType
    description: str
    default: str | float | bool | None = None
    least: float | None = None
    most: float | None = None
    whole: bool = False
    options: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeCard:
    """A type of models. ``creatable``: PostModels makes models of it; ``trainable``: PostModelVersions trains them.
    A creatable type that is not trainable is an operator of workflows: its models work at once.
    """

    id: str
    title: str
    description: str
    input_fields: tuple[str, ...]
    output_fields: tuple[str, ...]
    creatable: bool = False
    trainable: bool = False
    fields: tuple[Field, ...] = ()
    aliases: frozenset[str] = frozenset()

    @property
    def params(self) -> tuple[Field, ...]:
        """The fields that are sent in ``output_info.params``."""
        return tuple(field for field in self.fields if field.path.startswith(PARAMS))


PARAMS = "output_info.params."
_CONCEPTS = "output_info.data.concepts"


def _param(name: str, kind: FieldKind.ValueType, description: str, **more: Any) -> Field:
    return Field(path=PARAMS + name, kind=kind, description=description, **more)


_COMPARISON = _param(
    "concept_threshold_type",
    FieldKind.ENUM,
    "How values are compared with the threshold of their concept: > (1), >= (2), < (3), <= (4), == (5).",
    default="GREATER_THAN",
    options=tuple(COMPARISONS.items()),
)
THRESHOLDS = Field(
    path=_CONCEPTS,
    kind=FieldKind.ARRAY_OF_CONCEPTS_WITH_THRESHOLD,
    description="The concepts that may pass, each with its threshold as `value`, 0 to 1. None passes without any.",
)
_LEARNING = FitOptions()
_TAUGHT = (
    Field(
        path=_CONCEPTS,
        kind=FieldKind.ARRAY_OF_CONCEPTS,
        description="The concepts to learn; all of the app where there are none.",
    ),
    Field(
        path="output_info.output_config.concepts_mutually_exclusive",
        kind=FieldKind.BOOLEAN,
        description="Whether a picture has exactly one of the concepts: their values then sum to 1.",
        default=False,
    ),
    Field(
        path="train_info.dataset",
        kind=FieldKind.DATASET,
        description="The dataset whose inputs are learnt from; all inputs of the app where there is none.",
    ),
    Field(
        path="train_info.params.strength",
        kind=FieldKind.NUMBER,
        description="How much each label counts against a plain direction; more follows labels more closely.",
        default=_LEARNING.strength,
    ),
    Field(
        path="train_info.params.background_weight",
        kind=FieldKind.NUMBER,
        description="How many negatives all unlabelled areas are worth together; 0 leaves them out.",
        default=_LEARNING.background_weight,
    ),
    Field(
        path="train_info.params.seed",
        kind=FieldKind.NUMBER,
        description="Chooses what is random; the same examples and the same seed give the same version.",
        default=float(_LEARNING.seed),
        whole=True,
    ),
)

TYPES: Final = (
    TypeCard(
        id="visual-classifier",
        title="Visual Classifier",
        description="Predicts which concepts are in an image. Yours learn from labels, by the vectors of their app.",
        input_fields=("image",),
        output_fields=("concepts",),
        creatable=True,
        trainable=True,
        fields=_TAUGHT,
    ),
    TypeCard(
        id="visual-embedder",
        title="Visual Embedder",
        description="Describes an image by a vector, for search by similarity.",
        input_fields=("image",),
        output_fields=("embeddings",),
    ),
    TypeCard(
        id="visual-detector",
        title="Visual Detector",
        description="Finds things in an image and tells where they are.",
        input_fields=("image",),
        output_fields=("regions[...]",),
    ),
    TypeCard(
        id="multimodal-embedder",
        title="Multimodal Embedder",
        description="Describes images and texts by vectors of one space, for search by both.",
        input_fields=("image", "text"),
        output_fields=("embeddings",),
    ),
    TypeCard(
        id="clusterer",
        title="Clusterer",
        description="Names the part of the space that an image's vector lies in: alike images share it.",
        input_fields=("image",),
        output_fields=("clusters",),
    ),
    TypeCard(
        id="embedding-classifier",
        title="Transfer-learned Classifier",
        description="Learns concepts from labels in seconds, by the vectors of its app.",
        input_fields=("image",),
        output_fields=("concepts",),
        creatable=True,
        trainable=True,
        fields=_TAUGHT,
    ),
    TypeCard(
        id="knn-concept",
        title="Nearest Neighbours",
        description="Predicts the concepts of the most similar labelled areas of the app. Labels count at once.",
        input_fields=("image",),
        output_fields=("concepts",),
        creatable=True,
        fields=(
            Field(
                path=_CONCEPTS,
                kind=FieldKind.ARRAY_OF_CONCEPTS,
                description="The concepts to tell apart; all labelled ones of the app where there are none.",
            ),
            _param(
                "k",
                FieldKind.NUMBER,
                "How many neighbours vote, each weighted by its similarity.",
                default=5.0,
                whole=True,
                least=1,
                most=MAX_NEIGHBOURS,
            ),
        ),
    ),
    TypeCard(
        id="concept-threshold",
        title="Concept Thresholder",
        description="Lets concepts pass whose values compare as wanted with their thresholds.",
        input_fields=("concepts",),
        output_fields=("concepts",),
        creatable=True,
        aliases=frozenset({"concept-thresholder"}),  # what the guide's programs say
        fields=(THRESHOLDS, _COMPARISON),
    ),
    TypeCard(
        id="region-threshold",
        title="Region Thresholder",
        description="Lets regions pass that have a concept whose value compares as wanted with its threshold.",
        input_fields=("regions[...].data.concepts",),
        output_fields=("regions[...].data.concepts",),
        creatable=True,
        fields=(THRESHOLDS, _COMPARISON),
    ),
    TypeCard(
        id="concept-synonym-mapper",
        title="Concept Synonym Mapper",
        description="Replaces predicted concepts by the app's concepts that are their synonyms (concept relations).",
        input_fields=("concepts",),
        output_fields=("concepts",),
        creatable=True,
        fields=(
            _param(
                "knowledge_graph_id",
                FieldKind.STRING,
                "The knowledge graph whose relations count; all relations of the app where it is empty.",
                default="",
            ),
        ),
    ),
    TypeCard(
        id="image-crop",
        title="Image Cropper",
        description="Cuts regions out of the image, for the nodes behind it to look at.",
        input_fields=("image", "regions[...]"),
        output_fields=("regions[...].data.image",),
        creatable=True,
        aliases=frozenset({"image-cropper"}),
        fields=(
            _param(
                "margin",
                FieldKind.NUMBER,
                "How much of a region's height and width is added on each side.",
                default=0.0,
                least=0,
                most=1,
            ),
        ),
    ),
    TypeCard(
        id="annotation-writer",
        title="Annotation Writer",
        description="Labels inputs with the concepts and regions it is given, in somebody's name.",
        input_fields=("concepts", "regions[...]"),
        output_fields=("concepts", "regions[...]"),
        creatable=True,
        fields=(
            _param(
                "annotation_status",
                FieldKind.ENUM,
                "The status of the annotations: SUCCESS (24150), PENDING (24151) …",
                default="SUCCESS",
                options=tuple(WRITTEN_STATUSES.items()),
            ),
            _param(
                "annotation_user_id",
                FieldKind.STRING,
                "The user in whose name to write; the app's owner where it is empty.",
                default="",
            ),
            _param("annotation_info", FieldKind.JSON, "The annotation_info of the annotations.", default=None),
        ),
    ),
)
