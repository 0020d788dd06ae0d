"""TLS of all four clients: whom they trust, and who they are."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline_client.errors import UsageError

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates, each the path of a PEM file; where there are none, public authorities are trusted.

    Args:
        ca: Of the authorities that the service's certificate may come from.
        cert: The client's own, where the service asks for one.
        key: Its private key; None: it is in the file of the certificate.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def context(self) -> ssl.SSLContext:
        """For REST.

        Raises:
            UsageError: A file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:  # ssl's own as well
            raise UsageError(f"The certificates cannot be used: {error.strerror or error}.") from error
        return context

    def credentials(self) -> "grpc.ChannelCredentials":
        """For gRPC.

        Raises:
            UsageError: A file cannot be used.
        """
        import grpc  # noqa: PLC0415 - of an extra, which REST does without

        self.context()  # gRPC says nothing of a file that it cannot use
        chain, key = _bytes(self.cert), _bytes(self.cert if self.key is None else self.key)
        return grpc.ssl_channel_credentials(_bytes(self.ca), key, chain)


def _bytes(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
