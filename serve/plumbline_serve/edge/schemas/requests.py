"""The bodies of REST's requests. Fields and their order are those of `messages`, but where JSON writes an image."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

from plumbline_models.core.questions import ExpectedAnswer
from plumbline_serve import messages
from plumbline_serve.edge.rules import (
    bounds_fault,
    choice_fault,
    combination_fault,
    pictures_fault,
    query_fault,
    term_fault,
)
from plumbline_serve.edge.schemas.base import Request, Strict, given, refuse
from plumbline_serve.edge.values import (
    ArtefactName,
    AtLeastOne,
    Channels,
    Combinations,
    Conditions,
    Finite,
    Frames,
    ItemTexts,
    Method,
    Moderate,
    NumWords,
    QuestionIndices,
    ScorerNames,
    SidePx,
    TagText,
)
from plumbline_serve.messages import Pool

_IMAGES = "Images that items name by their key: sent, decoded and encoded once for all items that name them."


class RawShape(Strict):
    """The shape of raw pixels: the part holds `height * width * channels` bytes, uint8, row by row."""

    height: SidePx = Field(description="Pixels.")
    width: SidePx = Field(description="Pixels.")
    channels: Channels = Field(
        3, description="3: RGB. 4: RGBA with straight alpha, treated as the transparency of a file."
    )


_SOURCES = (("Base64Source", "b64", ""), ("UrlSource", "url", ""), ("PartSource", "part", "raw"))
"""The forms of a source: title, the field that it has, and one that it may have beside it."""


def _as_union(schema: dict[str, Any]) -> None:
    """Write the schema of sources as one of three objects, as generators of clients understand it."""
    known = schema.pop("properties")
    for name in ("type", "additionalProperties"):
        schema.pop(name)
    schema["oneOf"] = [
        {
            "title": title,
            "type": "object",
            "properties": {name: known[name] if name == beside else _one_of_many(field, name, known) for name in known},
            "required": [field],
            "additionalProperties": False,
        }
        for title, field, beside in _SOURCES
    ]


def _one_of_many(field: str, name: str, known: dict[str, Any]) -> dict[str, JsonValue]:
    """A field where another decides: it is given, or null, which is the same as left out."""
    return {"type": "string", "description": known[name]["description"]} if name == field else {"type": "null"}


class ImageSource(Strict):
    """One image: exactly one of `b64`, `url` and `part`."""

    model_config = ConfigDict(json_schema_extra=_as_union)

    b64: str | None = Field(
        None,
        description="A compressed image file (PNG, JPEG, WebP and others) in base64 (RFC 4648: either alphabet, with "
        "or without padding and line breaks), or a `data:` URL of one.",
    )
    url: str | None = Field(
        None, description="Where to fetch the image from. A service may refuse URLs, except `data:` URLs of base64."
    )
    part: str | None = Field(None, description="multipart/form-data only: the name of the part with the image.")
    raw: RawShape | None = Field(None, description="With `part`: its bytes are pixels and not a compressed file.")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        refuse(choice_fault(b64=self.b64, url=self.url, part=self.part))
        refuse("may have raw only beside part" if self.raw is not None and self.part is None else None)
        return self


def _image_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "key"
    return "source" if isinstance(value, dict | ImageSource) else None


ImageRef: TypeAlias = Annotated[
    Annotated[str, Tag("key")] | Annotated[ImageSource, Tag("source")],
    Discriminator(_image_kind, custom_error_type="image", custom_error_message="must be a string or an object"),
]


class Question(Strict):
    """A yes-or-no question about the image."""

    text: str
    expect: ExpectedAnswer = Field("yes", description="The right answer.")
    tag: TagText | None = Field(None, description="What kind of question it is: questions of one tag get one rate.")
    depends_on: QuestionIndices = Field(
        default_factory=list,
        description="Questions of the same item by index, from 0: where one of them fails, this one counts as 0.",
    )


class Item(Strict):
    """One image or video, one text, or both."""

    model_config = ConfigDict(json_schema_extra={"not": given("image", "frames")})

    id: str | None = Field(None, description="Comes back in the result; by default the item's index.")
    image: ImageRef | None = Field(None, description="A key of `images`, or a source of its own.")
    text: str | None = Field(None, description="The prompt or caption.")
    references: ItemTexts | None = Field(None, description="Captions that the text is compared with: refclipscore.")
    reference_image: ImageRef | None = Field(
        None, description="What the image is compared with, named as `image` is: image_similarity."
    )
    phrases: ItemTexts | None = Field(
        None, description="Parts of the text that are held against the image too: phrase_clipscore."
    )
    questions: list[Question] | None = Field(None, description="What is asked about the image: questions.")
    frames: Frames[ImageRef] | None = Field(
        None, description="Of a video, in its order, in place of `image`, each named as `image` is."
    )
    pool: Pool = Field(
        "mean",
        description="With `frames`: how their values become one. The `mean`; `min`, the value of the worst frame; or "
        "`clip4clip`, the value of the frames' mean encoding where a scorer compares encodings of images and texts, "
        "and the mean elsewhere.",
    )

    group: TagText | None = Field(None, description="The class that a calibration with groups has a threshold for.")

    @model_validator(mode="after")
    def _check_pictures(self) -> Self:
        refuse(pictures_fault(self.image, self.frames))
        return self


class _ItemsRequest(Request):
    images: dict[str, ImageSource] = Field(default_factory=dict, description=_IMAGES)
    items: list[Item] = Field(description="At least one; the service's limits say how many.")


_MEAN_TERM: dict[str, JsonValue] = {"allOf": [given("min", "max"), {"properties": {"weight": {"exclusiveMinimum": 0}}}]}


class Term(Strict):
    """One score of a combination."""

    model_config = ConfigDict(
        json_schema_extra={"if": given("min"), "then": given("max"), "else": given(without=("max",))}
    )

    scorer: str
    weight: Moderate = 1.0
    min: Moderate | None = Field(
        None,
        description="The value that counts as 0, as do those below. Without bounds the value counts as it is.",
    )
    max: Moderate | None = Field(
        None, description="The value that counts as 1, as do those above. Where lower is better the two change places."
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        refuse(term_fault(self.min, self.max))
        return self


class Combination(Strict):
    """Several scores as one, higher is better; an error where one of them is."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"method": {"const": "harmonic"}}},
            "then": {"properties": {"terms": {"items": _MEAN_TERM}}},
        }
    )

    method: Method = Field(
        description="`sum` of weight times value, or weighted `harmonic` mean, which one low value sinks."
    )
    terms: Conditions[Term]

    @model_validator(mode="after")
    def _check_terms(self) -> Self:
        refuse(combination_fault(self.method, [messages.Term(**term.model_dump()) for term in self.terms]))
        return self


class GuardOptions(Strict):
    """What guards look at."""

    views: bool = Field(default=False, description="Encode each image in three views too, for `adversarial_suspect`.")
    explain: bool = Field(default=False, description="Numbers and their lines beside the flags.")


class ScoreRequest(_ItemsRequest):
    """Score items in one batch."""

    scorers: ScorerNames | None = Field(None, description="By default every loaded scorer that an item allows.")
    combine: Combinations[Combination] = Field(
        default_factory=dict,
        description="By the name that each has among the scores; the scorers of its terms run as well.",
    )
    guards: GuardOptions | None = Field(
        None, description="Have guards look at each image; flags stand beside the scores. `{}`: without views."
    )


class Threshold(Strict):
    """One condition: bounds, both inclusive, or a calibration in their place."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"if": given(without=("min", "max")), "then": given("calibration")},
                {"if": given("calibration"), "then": given(without=("min", "max"))},
            ]
        }
    )

    scorer: str = Field(description="Or a combination: of the request, or that which the calibration was made of.")
    min: Finite | None = None
    max: Finite | None = None
    min_words: NumWords | None = Field(
        None,
        description="Fewest words, punctuation apart, of a text that the value is trusted for: an item with fewer is "
        "rejected, and `reasons` says so. A text without words scores fclipscore 0, its best.",
    )
    calibration: ArtefactName | None = Field(
        None, description="One of this scorer, by name (`/v1/calibrations`): its threshold must be met."
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        refuse(bounds_fault(self.min, self.max, self.calibration))
        return self


class Policy(Strict):
    """Thresholds that must all hold."""

    all: Conditions[Threshold]


class FilterRequest(_ItemsRequest):
    """Accept or reject items by a policy."""

    policy: Policy
    combine: Combinations[Combination] = Field(
        default_factory=dict, description="By the name that a condition gives for its scorer."
    )
    explain: bool = Field(default=False, description="Run every scorer of the policy even on rejected items.")


class RankRequest(Request):
    """Order N images for one text, or N texts for one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": given("text"),
            "then": given("text", "images", without=("image", "texts")),
            "else": given("image", "texts", without=("text", "images")),
        }
    )

    text: str | None = Field(None, description="With `images`.")
    images: list[ImageSource] | None = Field(None, description="What to order for `text`.")
    image: ImageSource | None = Field(None, description="With `texts`.")
    texts: list[str] | None = Field(None, description="What to order for `image`.")
    scorer: str | None = Field(
        None,
        description="Or a combination. By default the request's only combination, else the first loaded scorer that "
        "takes an image and a text.",
    )
    combine: Combinations[Combination] = Field(default_factory=dict, description="By the name that `scorer` may give.")
    top_k: AtLeastOne | None = Field(None, description="Places to answer; by default all.")

    @model_validator(mode="after")
    def _check_query(self) -> Self:
        given = {"text": self.text, "images": self.images, "image": self.image, "texts": self.texts}
        refuse(query_fault({name for name, value in given.items() if value is not None}))
        return self


class EmbedRequest(Request):
    """Embed images or texts."""

    model_config = ConfigDict(
        json_schema_extra={"if": given("images"), "then": given(without=("texts",)), "else": given("texts")}
    )

    images: list[ImageSource] | None = None
    texts: list[str] | None = None
    scorer: str | None = Field(None, description="Whose encoder; by default the first loaded scorer's that has both.")
    encoding: Literal["float", "base64"] = Field(
        "float", description="Each vector as a list of numbers, or as base64 of little-endian float32."
    )

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        refuse(choice_fault(images=self.images, texts=self.texts))
        return self
