"""CLIPs and backends that several folders of tests share."""

from pathlib import Path

import pytest

from loadtests.goldens.clips import GoldenClip, build_golden, build_tiny
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.engines import Backend
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def b32(weights_dir: Path) -> GoldenClip:
    """ViT-B/32 with QuickGELU, 600 MB."""
    return build_golden("b32_quickgelu", weights_dir)


@pytest.fixture(scope="session")
def b16(weights_dir: Path) -> GoldenClip:
    """ViT-B/16 with GELU, 600 MB."""
    return build_golden("b16_gelu", weights_dir)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP in open_clip's layout."""
    return build_tiny(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="session")
def tiny_spec(tiny_folder: Path) -> ClipSpec:
    return ClipSpec.of(ClipSection(checkpoint=tiny_folder))


@pytest.fixture(scope="session")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """One thread, and an engine cache of the session's own."""
    return Tuning(tmp_path_factory.mktemp("clip-engines"), num_threads=1)


@pytest.fixture(scope="session")
def torch_fp32(tuning: Tuning) -> Backend:
    return open_backend("torch", precision="fp32", tuning=tuning)


@pytest.fixture(scope="session")
def openvino_fp32(tuning: Tuning) -> Backend:
    return open_backend("openvino", precision="fp32", tuning=tuning)
