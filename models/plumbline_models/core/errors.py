"""Every error of Plumbline, one tree.

    PlumblineError                       500  internal
    ├── RequestError                     422  invalid_request        wrong as a whole, or one item of it
    │   ├── MalformedRequestError        400  malformed_request      not JSON, not UTF-8, not multipart
    │   ├── InvalidFieldError            422  invalid_field          well formed, but not the schema
    │   ├── UnknownScorerError           422  unknown_scorer
    │   ├── NoItemsError                 422  no_items
    │   ├── TooManyItemsError            413  too_many_items
    │   ├── RequestTooLargeError         413  request_too_large
    │   ├── UnsupportedMediaTypeError    415  unsupported_media_type
    │   ├── RouteNotFoundError           404  not_found
    │   ├── MethodNotAllowedError        405  method_not_allowed
    │   ├── MissingTextError             422  missing_text
    │   ├── MissingQuestionsError        422  missing_questions
    │   ├── TextTooLongError             413  text_too_long
    │   ├── UnknownArtefactError         404  unknown_artefact       no calibration of that name, say
    │   ├── BoundToOtherError            422  bound_to_other         made with another scorer, weights or conventions
    │   ├── NoThresholdError             422  no_threshold           calibrated on too few labels
    │   ├── TooManyArtefactsError        413  too_many_artefacts     the store holds as many as it may
    │   └── ImageError                   422  image_unusable
    │       ├── MissingImageError        422  missing_image
    │       ├── ImageUndecodableError    422  image_undecodable      truncated, not read, or no image
    │       ├── ImageTooLargeError       413  image_too_large        in bytes, in pixels or by a side
    │       ├── ImageTooSmallError       422  image_too_small
    │       ├── UnknownImageError        422  unknown_image          names no entry and no part
    │       ├── UrlSourceRefusedError    422  url_source_refused
    │       ├── UrlUnreachableError      422  url_unreachable        no host, no image, or no sound reply
    │       └── UrlTimeoutError          504  url_timeout
    ├── AccessError                      403  forbidden
    │   ├── UnauthenticatedError         401  unauthenticated
    │   └── MissingScopeError            403  missing_scope
    ├── CapacityError                    503  unavailable            carries `retry_after_s`
    │   ├── OverloadedError              429  overloaded             no time left, or the queue is full
    │   ├── RateLimitedError             429  rate_limited           the caller's key has used what it may
    │   ├── NotReadyError                503  not_ready              still loading
    │   ├── StoreUnavailableError        503  store_unavailable      full, locked, or not to be reached
    │   └── DrainingError                503  draining               about to stop
    ├── DeadlineExceededError            504  deadline_exceeded
    └── SetupError                       500  setup_failed           found at start-up, never in a request
        ├── ConfigError                  500  invalid_config
        ├── LicenceError                 500  licence_forbidden      weights that the operator does not allow
        ├── UnknownArchError             500  unknown_architecture
        ├── BackendUnavailableError      500  backend_unavailable
        ├── CheckpointError              500  checkpoint_unusable
        │   ├── CheckpointNotFoundError  500  checkpoint_not_found
        │   ├── ChecksumError            500  checksum_mismatch
        │   ├── UnsafeCheckpointError    500  unsafe_checkpoint      would run code when loaded
        │   └── StateDictError           500  state_dict_mismatch
        └── EngineError                  500  engine_failed          would not compile or run

An error is raised with one sentence for the caller and keyword facts for the log. Only `detail` may be shown:
facts can hold paths. Errors cross process borders, so no class defines a constructor of its own.
"""

from typing import ClassVar


class PlumblineError(Exception):
    """Something Plumbline cannot do, said in one sentence.

    Args:
        detail: The sentence for the caller.
        facts: What the log should hold beside it.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, /, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.detail, self.facts)


def _rebuild(kind: type[PlumblineError], detail: str, facts: dict[str, object]) -> PlumblineError:
    return kind(detail, **facts)


class RequestError(PlumblineError):
    """The request, or one item of it, is wrong."""

    status, code, title = 422, "invalid_request", "Invalid request"


class MalformedRequestError(RequestError):
    """The body cannot be parsed at all."""

    status, code, title = 400, "malformed_request", "Malformed request"


class InvalidFieldError(RequestError):
    """The body parses but does not match the schema; fact `errors` lists pointer and reason."""

    code, title = "invalid_field", "Invalid field"


class UnknownScorerError(RequestError):
    """A request names a scorer that is not loaded."""

    code, title = "unknown_scorer", "Unknown scorer"


class NoItemsError(RequestError):
    """There is nothing to score."""

    code, title = "no_items", "No items"


class TooManyItemsError(RequestError):
    """More items than `limits.max_items`."""

    status, code, title = 413, "too_many_items", "Too many items"


class RequestTooLargeError(RequestError):
    """More bytes than `limits.max_request_bytes`."""

    status, code, title = 413, "request_too_large", "Request too large"


class UnsupportedMediaTypeError(RequestError):
    """Neither JSON nor multipart form data."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class RouteNotFoundError(RequestError):
    """No such route."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowedError(RequestError):
    """The route exists, but not for this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class MissingTextError(RequestError):
    """A scorer needs a text and the item has none."""

    code, title = "missing_text", "Missing text"


class MissingQuestionsError(RequestError):
    """A scorer needs questions and the item has none."""

    code, title = "missing_questions", "Missing questions"


class TextTooLongError(RequestError):
    """More characters than `limits.max_text_chars`."""

    status, code, title = 413, "text_too_long", "Text too long"


class UnknownArtefactError(RequestError):
    """The store holds nothing of that kind and name."""

    status, code, title = 404, "unknown_artefact", "Unknown artefact"


class BoundToOtherError(RequestError):
    """What was kept was made with another scorer, other weights or other conventions than those that are loaded."""

    code, title = "bound_to_other", "Bound to another"


class NoThresholdError(RequestError):
    """A calibration had too few labels for a threshold."""

    code, title = "no_threshold", "No threshold"


class TooManyArtefactsError(RequestError):
    """The store holds as many of that kind as it may."""

    status, code, title = 413, "too_many_artefacts", "Too many artefacts"


class ImageError(RequestError):
    """One image cannot be used."""

    code, title = "image_unusable", "Unusable image"


class MissingImageError(ImageError):
    """A scorer needs an image and the item has none."""

    code, title = "missing_image", "Missing image"


class ImageUndecodableError(ImageError):
    """The bytes are no image, only a part of one, or of a kind that is not read."""

    code, title = "image_undecodable", "Undecodable image"


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow, or a side beyond what preprocessing can afford."""

    status, code, title = 413, "image_too_large", "Image too large"


class ImageTooSmallError(ImageError):
    """Fewer pixels than a scorer can work on."""

    code, title = "image_too_small", "Image too small"


class UnknownImageError(ImageError):
    """The item names an image that the request does not carry."""

    code, title = "unknown_image", "Unknown image"


class UrlSourceRefusedError(ImageError):
    """Images by URL are not fetched, or not from there."""

    code, title = "url_source_refused", "URL source refused"


class UrlUnreachableError(ImageError):
    """The image's URL leads to no host, to no image, or to a reply that is broken."""

    code, title = "url_unreachable", "URL unreachable"


class UrlTimeoutError(ImageError):
    """The image's URL was not answered in time."""

    status, code, title = 504, "url_timeout", "URL timeout"


class AccessError(PlumblineError):
    """The caller may not do this."""

    status, code, title = 403, "forbidden", "Forbidden"


class UnauthenticatedError(AccessError):
    """No key, or one that is not known."""

    status, code, title = 401, "unauthenticated", "Unauthenticated"


class MissingScopeError(AccessError):
    """The key is known, and not for this."""

    code, title = "missing_scope", "Missing scope"


class CapacityError(PlumblineError):
    """Try again later: fact `retry_after_s` says when."""

    status, code, title = 503, "unavailable", "Unavailable"

    @property
    def retry_after_s(self) -> float:
        """Seconds after which a retry is likely to be served; at least 0."""
        seconds = self.facts.get("retry_after_s", 1.0)
        return max(0.0, float(seconds)) if isinstance(seconds, int | float) else 1.0


class EncodersAwayError(CapacityError):
    """The group that holds an encoder has no replica; what needs none of its encoders is answered."""

    code, title = "encoders_away", "Encoders away"


class OverloadedError(CapacityError):
    """There is no time for the work, or no room; facts `reason` and `estimated_wait_ms` say more."""

    status, code, title = 429, "overloaded", "Overloaded"


class RateLimitedError(CapacityError):
    """The caller's key has used as many items, or has as many requests under way, as it may."""

    status, code, title = 429, "rate_limited", "Rate limited"


class NotReadyError(CapacityError):
    """The encoders are still being loaded or compiled."""

    code, title = "not_ready", "Not ready"


class StoreUnavailableError(CapacityError):
    """What outlives the process cannot be read or written now; scoring goes on."""

    code, title = "store_unavailable", "Store unavailable"


class SupersededError(CapacityError):
    """The encoders run a newer configuration; the same request is answered under that one."""

    code, title = "superseded", "Superseded"


class DrainingError(CapacityError):
    """The service is about to stop and takes no new work."""

    code, title = "draining", "Draining"


class DeadlineExceededError(PlumblineError):
    """The caller's deadline passed first."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class SetupError(PlumblineError):
    """The service cannot start as configured."""

    code, title = "setup_failed", "Setup failed"


class ConfigError(SetupError):
    """The configuration is not valid."""

    code, title = "invalid_config", "Invalid configuration"


class LicenceError(SetupError):
    """Weights have a licence of a class that the configuration forbids."""

    code, title = "licence_forbidden", "Forbidden licence"


class UnknownArchError(SetupError):
    """No such open_clip architecture or pretrained tag."""

    code, title = "unknown_architecture", "Unknown architecture"


class BackendUnavailableError(SetupError):
    """The backend is not installed, or has no device here."""

    code, title = "backend_unavailable", "Backend unavailable"


class CheckpointError(SetupError):
    """The weights cannot be used."""

    code, title = "checkpoint_unusable", "Unusable checkpoint"


class CheckpointNotFoundError(CheckpointError):
    """There is no such file, tag or repository."""

    code, title = "checkpoint_not_found", "Checkpoint not found"


class ChecksumError(CheckpointError):
    """The file is not the one that the configuration names."""

    code, title = "checksum_mismatch", "Checksum mismatch"


class UnsafeCheckpointError(CheckpointError):
    """Loading the file would run code from it."""

    code, title = "unsafe_checkpoint", "Unsafe checkpoint"


class StateDictError(CheckpointError):
    """The tensors do not fit the architecture."""

    code, title = "state_dict_mismatch", "State dict mismatch"


class EngineError(SetupError):
    """A graph would not compile, or an engine would not run."""

    code, title = "engine_failed", "Engine failed"


def error_classes(root: type[PlumblineError] = PlumblineError) -> tuple[type[PlumblineError], ...]:
    """Every class of the tree, parents first."""
    found: list[type[PlumblineError]] = [root]
    for child in root.__subclasses__():
        found.extend(error_classes(child))
    return tuple(found)
