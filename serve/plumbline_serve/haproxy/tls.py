"""TLS, which HAProxy ends in front of the gateways: its words for it, and certificates that change while it runs.

HAProxy reads certificates through links in the service's own folder, so no key is copied, and whoever replaces a file
in place or by a new one is noticed. It then takes the new certificate over its admin socket, without a new process and
without closing a connection.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.private_files import check_private
from plumbline_serve.settings.access import TlsSettings

log = logging.getLogger(__name__)

REST_PROTOCOLS, GRPC_PROTOCOLS = "h2,http/1.1", "h2"
"""What each port offers by ALPN."""
PERIOD_S = 2.0
_MINIMUM = "TLSv1.2"
_FOLDER, _CERT, _CLIENT_CA = "tls", "service.pem", "clients.pem"
_REPLY_S = 5.0


def check_certificates(tls: TlsSettings) -> None:
    """See that the certificates can be used, and that nobody but its owner can use the private key.

    Raises:
        ConfigError: They cannot, or others can; the sentence names the file.
    """
    if tls.cert is None:
        return
    key = tls.key or tls.cert
    check_private(key, "The file of the private key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key, password="")  # nosec B106  # else a terminal would be asked
    except (OSError, ValueError) as error:  # ssl's own are of the first kind
        raise ConfigError(f"tls.cert and tls.key cannot be used: {_reason(error)}.", path=str(tls.cert)) from None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            raise ConfigError(f"tls.client_ca cannot be used: {_reason(error)}.", path=str(tls.client_ca)) from None


def bind_words(tls: TlsSettings, folder: Path, protocols: str) -> str:
    """What HAProxy's line of an address says of TLS; empty where there is none.

    Args:
        tls: Whose certificates.
        folder: Of the service.
        protocols: By ALPN.
    """
    if tls.cert is None:
        return ""
    cert = _linked(folder, _CERT, tls.cert)
    if tls.key is not None:
        _linked(folder, f"{_CERT}.key", tls.key)  # where HAProxy looks for it
    words = f"ssl crt {cert} alpn {protocols} ssl-min-ver {_MINIMUM}"
    if tls.client_ca is None:
        return words
    return f"{words} ca-file {_linked(folder, _CLIENT_CA, tls.client_ca)} verify required"


def local_front(folder: Path, name: str) -> Path:
    """A socket by which HAProxy answers this user alone, without TLS: to see whether callers would be answered.

    Args:
        folder: Of the service.
        name: Of the wire.
    """
    return folder / name


class CertificateWatch:
    """Hands changed certificates to HAProxy.

    Args:
        tls: Which.
        folder: Of the service, which `bind_words` was given.
        admin: HAProxy's admin socket; there may be one more in each folder beside it.
    """

    def __init__(self, tls: TlsSettings, folder: Path, admin: Path) -> None:
        self._tls = tls
        self._folder = folder / _FOLDER
        self._admin = admin
        self._files = [path for path in (tls.cert, tls.key, tls.client_ca) if path is not None]
        self._seen = [_signature(path) for path in self._files]

    def start(self, period_s: float = PERIOD_S) -> None:
        """Look at the files from now on, on a thread of its own."""
        if not self._files:
            return
        period = threading.Event()

        def watch() -> None:
            while not period.wait(period_s):
                self.refresh()

        threading.Thread(target=watch, name="certificates", daemon=True).start()

    def refresh(self) -> None:
        """Hand the certificates on if they changed; those that cannot be used are logged, and the old ones stay."""
        now = [_signature(path) for path in self._files]
        if now == self._seen:
            return
        try:
            check_certificates(self._tls)
            self._hand_on()
        except ConfigError as error:  # of a pair, one file may be new and the other not yet
            log.warning("the certificates stay as they were: %s", error.detail)
        except OSError as error:
            log.error("HAProxy did not take new certificates: %s", error)
        else:
            log.warning("HAProxy has new certificates")
        self._seen = now

    def _hand_on(self) -> None:
        files = [path for path in (self._tls.cert, self._tls.key) if path is not None]
        self._set("ssl cert", self._folder / _CERT, files)
        if self._tls.client_ca is not None:
            self._set("ssl ca-file", self._folder / _CLIENT_CA, [self._tls.client_ca])

    def _set(self, kind: str, name: Path, files: Iterable[Path]) -> None:
        lines = [line for path in files for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        content = "\n".join(lines)  # an empty line would end it
        sockets = [path for path in (self._admin, *self._admin.parent.glob(f"*/{self._admin.name}")) if path.exists()]
        for path in sockets:
            _command(path, f"set {kind} {name} <<\n{content}\n")
            reply = _command(path, f"commit {kind} {name}")
            if "Success" not in reply:
                raise OSError(reply.strip() or "no reply")


def _linked(folder: Path, name: str, file: Path) -> Path:
    link = folder / _FOLDER / name
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(file.expanduser().absolute())
    return link


def _command(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(_REPLY_S)
        admin.connect(str(path))
        admin.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: admin.recv(4096), b"")).decode(errors="replace")


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
