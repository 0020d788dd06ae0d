"""What is loaded."""

from pydantic import BaseModel, Field


class ScorerEntry(BaseModel):
    """One loaded scorer."""

    id: str
    summary: str
    low: float | None = Field(description="Lowest possible value; null where there is none.")
    high: float | None = Field(description="Highest possible value; null where there is none.")
    higher_is_better: bool
    needs_text: bool
    encoders: list[str] = Field(description="What it computes with, by key in `GET /v1/models`.")
    precision: str = Field(description="Of its encoders, each once: attributions are computed in fp32 always.")
    backend: str
    paper: str = Field(description="An arXiv identifier.")
    licence: str = Field(description="Of the weights behind it.")
    conventions: dict[str, str] = Field(description="How the value is made, as configured, by setting.")
    context_length: int | None = Field(description="Tokens that a text is cut to; null where no text is cut.")


class ScorersReply(BaseModel):
    """Every loaded scorer."""

    scorers: list[ScorerEntry]


class EncoderEntry(BaseModel):
    """One loaded encoder."""

    key: str
    kind: str = Field(description="`image`, `text`, or `pair` for both together.")
    arch: str
    source: str = Field(description="Where the weights come from: a tag, a hub name, a file name, or `embedded`.")
    licence: str
    sha256: str
    dim: int
    backend: str
    precision: str
    device: str
    notes: dict[str, str]


class ModelsReply(BaseModel):
    """Every loaded encoder."""

    models: list[EncoderEntry]
