"""The bodies of requests about decisions, as `requests` has those about scores."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from plumbline_models.decisions.conformal import Direction
from plumbline_serve.edge.rules import calibrated_fault, classes_fault, reference_fault
from plumbline_serve.edge.schemas.base import Request, given, refuse
from plumbline_serve.edge.schemas.requests import Combination, ImageSource
from plumbline_serve.edge.values import (
    ArtefactName,
    ClassifierName,
    Combinations,
    Correlation,
    CorrelationInterval,
    Finite,
    PerClass,
    PerLabel,
    Seed,
    Share,
    Shots,
    TagText,
    Temperature,
    Window,
)


class CalibrationRequest(Request):
    """Find a threshold from labelled scores, and keep it."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"combine": {"minProperties": 1}}, "required": ["combine"]},
            "then": {"allOf": [given(without=("scorer",)), {"properties": {"combine": {"maxProperties": 1}}}]},
            "else": given("scorer"),
        }
    )

    name: ArtefactName = Field(description="By which a filter's condition uses it. One of the same name is replaced.")
    scorer: str | None = Field(None, description="Whose scores they are, as this service gives them now.")
    combine: Combinations[Combination] = Field(
        default_factory=dict,
        description="Or the combination whose values they are, by its name: one, in place of a scorer.",
    )
    alpha: Share = Field(description="Share of good ones that may be lost, or of bad ones that may pass.")
    direction: Direction = Field(
        description="`keep_good`: at most alpha of the good ones are lost. `reject_bad`: at most alpha of the bad ones "
        "pass."
    )
    scores: PerLabel[Finite] = Field(description="Of items that nobody chose by their score.")
    labels: PerLabel[bool] = Field(description="Whether each is of a good one; as many as scores.")
    groups: PerLabel[TagText] | None = Field(
        None,
        description="The group of each, such as the class of its prompt, as many as scores: every group gets a "
        "threshold of its own beside that of all.",
    )
    confidence: Share | None = Field(
        None,
        description="The promise holds for such a share of calibrations, which takes more labels. By default it holds "
        "on average over calibrations.",
    )

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        refuse(calibrated_fault(self.scorer, self.combine))
        return self


class SelectRequest(Request):
    """Choose one of N images for a text."""

    text: str
    images: list[ImageSource] = Field(description="What to choose from.")
    scorer: str | None = Field(
        None,
        description="Or a combination. By default the request's only combination, else the first loaded scorer that "
        "takes an image and a text.",
    )
    combine: Combinations[Combination] = Field(default_factory=dict, description="By the name that `scorer` may give.")
    correlation: Correlation | None = Field(
        None,
        description="Of the score with what people want, over images that nobody chose, within prompts "
        "(`plumbline calibrate --human`). Without it nothing is certified.",
    )
    correlation_interval: CorrelationInterval | None = Field(
        None, description="Its lower and upper end, with the correlation between them. The lower one is used."
    )
    temperature: Temperature | None = Field(
        None,
        description="An image is drawn by the softmax of score over temperature. By default the best is chosen.",
    )
    seed: Seed | None = Field(None, description="Of the draw: the same one, the same image. By default any.")


class ClassifierRequest(Request):
    """Learn classes from a few images of each, and keep that as a scorer `classifier:NAME`."""

    name: ClassifierName = Field(description="It scores as `classifier:NAME`. One of the same name is replaced.")
    classes: PerClass[Shots[ImageSource]] = Field(
        description="Images by class, at least 2 of each. The scorer's value is the probability of the first class."
    )
    prompts: PerClass[str] = Field(description="What a caption of each class says, by class.")
    scorer: str | None = Field(
        None, description="Whose encoders; by default those of the first loaded scorer with one of images and of texts."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        refuse(classes_fault(self.classes, self.prompts))
        return self


class ReferenceRequest(Request):
    """Keep what a scorer's scores are compared with from now on, in the place of the one before."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"from_live": {"const": True}}, "required": ["from_live"]},
            "then": given(without=("values",)),
            "else": given("values"),
        }
    )

    scorer: str
    values: Window[Finite] | None = Field(
        None, description="Scores of a time that was good, at least 100. Only how many lay where is kept."
    )
    from_live: bool = Field(
        default=False, description="What is counted now instead, of all replicas, with what the images are like."
    )

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        refuse(reference_fault(self.values, from_live=self.from_live))
        return self
