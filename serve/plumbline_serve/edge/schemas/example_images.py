"""Two small images for requests to try, drawn for this: PNGs of 64 by 64 pixels."""

from pydantic import JsonValue

RED_CIRCLE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAATUlEQVR42mNgGL6A8Q+Uwf6fgYGBiYGBgYOhAcIQ"
    "YHCAMBQYFCAMBwYBCAMO/v//gSRCMqOBAV37AYYPEMYDhgcQxgeGA0guRHHzEAEA1FEPHQnPZWIAAAAASUVORK5CYII="
)
BLUE_SQUARES = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX///8oWuZqoTa1AAAAG0lEQVR42mNgGK7g//8HzP//NzDB+IOWMaQBAJ1e"
    "BYQmtNG5AAAAAElFTkSuQmCC"
)

EXAMPLE_IMAGE: dict[str, JsonValue] = {"b64": RED_CIRCLE}
"""A red circle."""
OTHER_IMAGE: dict[str, JsonValue] = {"b64": BLUE_SQUARES}
"""Two blue squares."""
