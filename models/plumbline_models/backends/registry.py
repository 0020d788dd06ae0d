"""Which backends there are, as data; each is imported when it is chosen."""

import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from plumbline_models.backends.ahead import AheadCompiler
from plumbline_models.backends.devices import c_compiler, compute_capability, cuda_devices
from plumbline_models.backends.tensorrt.library import rtx_refusal
from plumbline_models.backends.tuning import Device, PrecisionChoice, Tuning
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, PlumblineError

logger = logging.getLogger(__name__)
_CPU_BUILD: Final = "+cpu"  # how versions of torch end that know no GPU


class BackendModule(Protocol):
    """What the module of a backend defines, or one of its variants."""

    def open_backend(self, precision: PrecisionChoice, tuning: Tuning) -> Backend:
        """Open it for the device and precision that the tuning and this machine settle on.

        Args:
            precision: What the configuration asks for.
            tuning: As for every backend.
        """
        ...

    def devices(self) -> tuple[str, ...]:
        """What it could run on here, for people."""
        ...


class AheadModule(BackendModule, Protocol):
    """A backend's module that also compiles ahead of time."""

    def open_compiler(self, precision: PrecisionChoice, tuning: Tuning) -> AheadCompiler:
        """Open what builds engines into `tuning.cache_dir`; needs a device only where the compiler does.

        Args:
            precision: What the configuration asks for.
            tuning: As for every backend.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """One backend.

    Args:
        module: Where its `BackendModule` is.
        packages: Distributions of which any one makes it available, named as they are imported; none: nothing
            is needed.
        hint: What to do when it is not available.
        automatic_on: Kinds of device for which `auto` may choose it, `cpu` and `cuda`.
        capabilities: Compute capabilities of the GPUs for which it may; None: of all.
        needs_compiler: Whether it does nothing without a C compiler.
        compiles_ahead: Whether its module is an `AheadModule`.
        variant: The attribute of the module that is the `BackendModule`; None: it is the module itself.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    hint: str
    automatic_on: frozenset[str] = frozenset()
    capabilities: frozenset[str] | None = None
    needs_compiler: bool = False
    compiles_ahead: bool = False
    variant: str | None = None

    @property
    def installed(self) -> str | None:
        """The first of its packages that is installed."""
        return next((package for package in self.packages if importlib.util.find_spec(package) is not None), None)

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return not self.packages or self.installed is not None

    def refusal(self, gpus: Sequence[str]) -> str | None:
        """Why its package does not run on the first of these GPUs; None: it does."""
        return rtx_refusal(gpus[0]) if gpus and self.installed == "tensorrt_rtx" else None

    def is_meant_for(self, kind: str, gpus: Sequence[str]) -> bool:
        """Whether `auto` may choose it, were it installed.

        Args:
            kind: `cpu`, or `cuda` for the first of the GPUs.
            gpus: As `cuda_devices` describes them.
        """
        is_any = kind == "cpu" or self.capabilities is None
        return kind in self.automatic_on and (is_any or compute_capability(gpus[0]) in (self.capabilities or ()))

    def lack(self, kind: str, gpus: Sequence[str]) -> str | None:
        """What keeps `auto` from choosing it, in a sentence; None: nothing.

        Args:
            kind: `cpu`, or `cuda` for the first of the GPUs.
            gpus: As `cuda_devices` describes them.
        """
        if not self.is_installed:
            return f"It is not installed: {self.hint}."
        if self.needs_compiler and c_compiler() is None:
            return "It needs a C compiler (cc, gcc or clang), and none is on the path."
        if kind == "cpu":
            return None
        if self.installed == "torch" and (_version("torch") or "").endswith(_CPU_BUILD):
            return "The torch that is installed was built for CPUs alone."
        return self.refusal(gpus)

    def load(self) -> BackendModule:
        """Import its module, and with it its framework."""
        module = importlib.import_module(self.module)
        return cast("BackendModule", module if self.variant is None else getattr(module, self.variant))


BACKENDS: tuple[BackendEntry, ...] = (  # in the order in which `auto` prefers them
    BackendEntry(
        name="tensorrt",
        module="plumbline_models.backends.tensorrt.backend",
        variant="TENSORRT",
        packages=("tensorrt", "tensorrt_rtx"),
        hint="pip install 'plumbline-serve[gpu]', or 'plumbline-serve[rtx]'",
        automatic_on=frozenset({"cuda"}),
        compiles_ahead=True,
    ),
    BackendEntry(
        name="tensorrt-rtx",
        module="plumbline_models.backends.tensorrt.backend",
        variant="TENSORRT_RTX",
        packages=("tensorrt_rtx",),
        hint="pip install 'plumbline-serve[rtx]'",
        compiles_ahead=True,
    ),
    BackendEntry(
        name="torch-compile",
        module="plumbline_models.backends.torch_compile.backend",
        packages=("torch",),
        hint="pip install torch",
        automatic_on=frozenset({"cuda"}),
        capabilities=frozenset({"9.0", "10.0", "10.3"}),  # Hopper, Blackwell in data centres: no tensorrt_rtx for them
        needs_compiler=True,
    ),
    BackendEntry(
        name="openvino",
        module="plumbline_models.backends.openvino.backend",
        packages=("openvino",),
        hint="pip install openvino",
        automatic_on=frozenset({"cpu"}),
        compiles_ahead=True,
    ),
    BackendEntry(
        name="torch",
        module="plumbline_models.backends.torch_backend",
        packages=("torch",),
        hint="pip install torch",
        automatic_on=frozenset({"cpu", "cuda"}),
    ),
    BackendEntry(
        name="fake",
        module="plumbline_models.backends.fake",
        packages=(),
        hint="It is part of Plumbline.",
    ),
)


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One backend on this machine, for `plumbline doctor`."""

    name: str
    is_available: bool
    version: str | None
    devices: tuple[str, ...]
    hint: str
    """What to do about it; empty when it is available."""


class BackendRegistry:
    """Opens backends by name.

    Args:
        entries: In the order in which `auto` prefers them.
        find_gpus: Lists the CUDA GPUs that this process may use.
    """

    def __init__(
        self,
        entries: Sequence[BackendEntry] = BACKENDS,
        *,
        find_gpus: Callable[[], Sequence[str]] = cuda_devices,
    ) -> None:
        self._entries = tuple(entries)
        self._find_gpus = find_gpus

    def open(self, name: str, *, precision: PrecisionChoice, tuning: Tuning) -> Backend:
        """Open a backend; see `open_backend`.

        Args:
            name: As in `BACKENDS`, or `auto`.
            precision: What the configuration asks for.
            tuning: As for every backend.
        """
        backend = self._load(self.choose(name, tuning.device)).open_backend(precision, tuning)
        logger.info(
            "Compiling with the %s backend in %s.",
            backend.name,
            backend.precision,
            extra={"backend": backend.name, "precision": backend.precision},
        )
        return backend

    def open_compiler(self, name: str, *, precision: PrecisionChoice, tuning: Tuning) -> AheadCompiler:
        """Open what compiles ahead of time; see `open_compiler`.

        Args:
            name: As in `BACKENDS`, or `auto`.
            precision: What the configuration asks for.
            tuning: As for every backend.
        """
        entry = self.choose(name, tuning.device)
        if not entry.compiles_ahead:
            raise ConfigError(f"The {entry.name} backend compiles nothing ahead of time.", backend=entry.name)
        return cast("AheadModule", self._load(entry)).open_compiler(precision, tuning)

    def choose(self, name: str, device: Device) -> BackendEntry:
        """The backend of that name, or the one that `auto` means here; loads nothing.

        Args:
            name: As in `BACKENDS`, or `auto`.
            device: That it has to run on; `auto`: a GPU, where there is one.
        """
        return self._choose(device) if name == "auto" else self._find(name)

    def statuses(self) -> tuple[BackendStatus, ...]:
        """Look at every backend that serves real scores, importing those that are installed."""
        return tuple(_inspect(entry) for entry in self._entries if entry.automatic_on)

    def _load(self, entry: BackendEntry) -> BackendModule:
        if not entry.is_installed:
            raise BackendUnavailableError(
                f"The {entry.name} backend is not installed. Install it with: {entry.hint}.", backend=entry.name
            )
        try:
            return entry.load()
        except (ImportError, OSError) as error:
            raise BackendUnavailableError(
                f"The {entry.name} backend is installed but does not load.", backend=entry.name, reason=str(error)
            ) from error

    def _find(self, name: str) -> BackendEntry:
        for entry in self._entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self._entries)
        raise ConfigError(f"There is no backend called {name}; there are {known}.", backend=name)

    def _choose(self, device: Device) -> BackendEntry:
        kinds = {"cpu", "cuda"} if device == "auto" else {device}
        gpus = self._find_gpus() if "cuda" in kinds else ()
        if not gpus:
            kinds.discard("cuda")
        if not kinds:
            raise BackendUnavailableError("There is no CUDA GPU here that this process may use.")
        hints: list[str] = []
        for kind in sorted(kinds, reverse=True):  # a GPU first
            for entry in (entry for entry in self._entries if entry.is_meant_for(kind, gpus)):
                lack = entry.lack(kind, gpus)
                if lack is None:
                    return entry
                level = logging.WARNING if entry.is_installed else logging.INFO
                logger.log(level, "The %s backend would come first. %s", entry.name, lack)
                hints += [] if entry.is_installed else [entry.hint]
        raise BackendUnavailableError(f"No backend is installed. Install one with: {' or '.join(hints)}.")


def _inspect(entry: BackendEntry) -> BackendStatus:
    package = entry.installed
    if package is None:
        return BackendStatus(entry.name, is_available=False, version=None, devices=(), hint=entry.hint)
    version = _version(package)
    try:
        found = entry.load().devices()
        refusal = entry.refusal(found)
    except (ImportError, OSError, PlumblineError) as error:
        hint = error.detail if isinstance(error, PlumblineError) else f"{package} does not load: {error}"
        return BackendStatus(entry.name, is_available=False, version=version, devices=(), hint=hint)
    return BackendStatus(entry.name, is_available=refusal is None, version=version, devices=found, hint=refusal or "")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
