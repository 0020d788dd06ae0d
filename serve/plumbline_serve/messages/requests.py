"""What callers ask for.

Requests hold what the caller sent, unchecked beyond its shape: limits, names and images are checked on the request
path, so that all wires refuse the same with the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from plumbline_models.core.questions import Question
from plumbline_serve.messages.combination import Combination
from plumbline_serve.messages.decisions import CalibrationRequest
from plumbline_serve.messages.drift import ReferenceRequest
from plumbline_serve.messages.images import ImageSource
from plumbline_serve.scheduling.request_context import Priority

Pool: TypeAlias = Literal["mean", "min", "clip4clip"]
"""Of the values of a video's frames: their mean, the worst of them, or the value of the frames' mean encoding."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image, one text, or both."""

    id: str
    image: str | ImageSource | None
    """A key of the request's images, a source of its own, or nothing."""
    text: str | None
    references: Sequence[str] = ()
    """Captions that the text is compared with, as `refclipscore` does; none where it is empty."""
    reference_image: str | ImageSource | None = None
    """What the image is compared with, as `image_similarity` does; named as `image` is."""
    phrases: Sequence[str] = ()
    """Parts of the text that are held against the image too, as `phrase_clipscore` does; none where it is empty."""
    questions: Sequence[Question] = ()
    """About the image, as `questions` asks them; none where it is empty."""
    frames: Sequence[str | ImageSource] = ()
    """Of a video, in place of the image; each named as `image` is."""
    pool: Pool = "mean"
    """How the values of frames become one."""
    group: str | None = None
    """The class that calibrations with groups have a threshold for; None: the threshold of all."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What guards look at."""

    views: bool = False
    """Whether each image is encoded in three views too, for `adversarial_suspect`."""
    explain: bool = False
    """Whether numbers and their lines come beside the flags."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score items in one batch."""

    items: Sequence[Item]
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    scorers: Sequence[str] | None = None
    """None: every loaded scorer that an item allows."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """By the name that each has among the scores; the scorers of its terms run as well."""
    guards: GuardOptions | None = None
    """None: guards do not look."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition of a filter: bounds, both inclusive, or a calibration in their place."""

    scorer: str
    """Or a combination: of the request, or that which the calibration was made of."""
    min: float | None = None
    max: float | None = None
    min_words: int | None = None
    """Fewest words of a text that the scorer's value is trusted for; one with fewer is rejected."""
    calibration: str | None = None
    """One of this scorer, by name, whose threshold must be met; without bounds."""


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """Accept or reject items by thresholds that must all hold."""

    policy: Sequence[Threshold]
    items: Sequence[Item]
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """By the name that a condition gives for its scorer."""
    explain: bool = False
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Order N images for one text, or N texts for one image."""

    images: Sequence[ImageSource]
    texts: Sequence[str]
    scorer: str | None = None
    """Or a combination; None: the request's only combination, else the first loaded scorer of an image and a text."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """By the name that `scorer` may give."""
    top_k: int | None = None
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Embed images or texts, one of the two."""

    images: Sequence[ImageSource] = ()
    texts: Sequence[str] = ()
    scorer: str | None = None
    """Whose encoder to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class SelectRequest:
    """Choose one of N images for a text, and say what the choice is certain to gain."""

    text: str
    images: Sequence[ImageSource]
    scorer: str | None = None
    """As for a ranking."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    correlation: float | None = None
    """Of the value with what people want, within prompts; None: nothing is certified."""
    correlation_interval: Sequence[float] | None = None
    """Its lower and upper end; the lower one is used."""
    temperature: float | None = None
    """None: the best. Else one is drawn by the softmax of value over temperature."""
    seed: int | None = None
    """Of the draw; None: every draw is another."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class ClassifierRequest:
    """Learn classes from a few images of each, and keep that as a scorer `classifier:NAME`."""

    name: str
    classes: Mapping[str, Sequence[ImageSource]]
    """Images by class, two or more of each; the scorer's value is the probability of the first."""
    prompts: Mapping[str, str]
    """What a caption of each class says."""
    scorer: str | None = None
    """Whose encoders; None: those of the first loaded scorer that has one of images and one of texts."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


KeptRequest: TypeAlias = CalibrationRequest | ClassifierRequest | ReferenceRequest
Request: TypeAlias = ScoreRequest | FilterRequest | RankRequest | SelectRequest | EmbedRequest | KeptRequest
