"""Problems, as RFC 9457 has them."""

from pydantic import BaseModel, Field


class FieldFault(BaseModel):
    """One faulty field."""

    pointer: str = Field(description="Where, as a JSON pointer (RFC 6901) into the request.")
    detail: str = Field(description="What is wrong there.")


class ItemProblem(BaseModel):
    """Why one item, or one scorer for it, failed; its neighbours are not concerned."""

    type: str = Field(description="A stable URI, one for each code; an identifier and not a page.")
    title: str
    status: int = Field(description="The HTTP status that a whole request would have got for this.")
    detail: str = Field(description="One sentence for the caller.")
    code: str = Field(description="Stable, in snake_case; docs/problems.md lists all.")
    errors: list[FieldFault] = Field(default_factory=list, description="Faulty fields; absent where there are none.")
    retry_after_ms: int = Field(
        default_factory=int, description="When a retry is likely to be served; 429 and 503 only."
    )


class Problem(ItemProblem):
    """Why a whole request failed."""

    request_id: str
