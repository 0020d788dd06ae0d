"""Every file of the packages behind a graph is part of its fingerprint: each is changed by a byte, and it moves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import plumbline_models

PACKAGE = Path(plumbline_models.__file__).parent
VQA = Path(__file__).parents[2] / "golden" / "vqascore"
PACKAGES = {
    "clip_image": ("networks/clip", "weights"),
    "clip_text": ("networks/clip", "weights"),
    "clip_text_attribution": ("networks/attribution", "networks/clip", "weights"),
    "clip_text_vectors": ("networks/attribution", "networks/clip", "weights"),
    "qualiclip": ("networks/qualiclip", "networks/clip", "weights"),
    "flant5_image": ("networks/flant5", "weights"),
    "flant5_score": ("networks/flant5", "weights"),
    "causal_image": ("networks/causal", "weights"),
    "causal_answer": ("networks/causal", "weights"),
}
PROGRAM = """
import json, sys
from pathlib import Path
from plumbline_models.backends.fake import FakeBackend
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.qualiclip.prompts import QUALICLIP
from plumbline_models.networks.causal.image_encoder import CausalImageEncoder
from plumbline_models.networks.causal.engines import CausalNetwork
from plumbline_models.networks.flant5.image_encoder import FlanT5ImageEncoder
from plumbline_models.networks.flant5.pair_encoder import FlanT5PairEncoder
from plumbline_models.core.source_digest import source_digest
from plumbline_models.networks.attribution.graph import AttributionSpec, attribution_graph, vectors_graph
from plumbline_models.networks.causal.rules import AnswerRules
from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph
from plumbline_models.networks.qualiclip.encoder import qualiclip_graph
from plumbline_models.networks.causal.families import CAUSAL_FAMILIES
from plumbline_models.text.questions import QuestionTemplate

package, vqa, files = Path(sys.argv[1]), sys.argv[2], json.load(sys.stdin)
clip, quality = ClipSpec.of(ClipSection()), ClipSpec.of(ClipSection(arch="mini-qualiclip"))
flant5 = FlanT5Checkpoint(str(package / "embedded" / "mini-flant5"))
causal = CausalCheckpoint(vqa + "/smolvlm_tiny", CAUSAL_FAMILIES["smolvlm"])

def graphs():
    spec = AttributionSpec(clip, (1,), 1)
    yield from (clip_image_graph(clip), clip_text_graph(clip), attribution_graph(spec), vectors_graph(spec))
    yield qualiclip_graph(quality, QUALICLIP)
    yield FlanT5ImageEncoder(flant5, FakeBackend())._graph()
    yield FlanT5PairEncoder(flant5, FakeBackend(), template=QuestionTemplate())._graph()
    yield CausalImageEncoder(causal, FakeBackend)._graph()
    network = CausalNetwork(causal, AnswerRules(0, 1, None, num_axes=1, repetition_penalty=1.0))
    yield network.graph("causal_answer", network.tail_inputs)

def prints():
    source_digest.cache_clear()
    return {graph.name: graph.fingerprint for graph in graphs()}

usual, moved = prints(), {}
for name in files:
    file = package / name
    source = file.read_bytes()
    file.write_bytes(source + b"#")
    found = prints()
    moved[name] = [graph for graph in found if found[graph] != usual[graph]]
    file.write_bytes(source)
print(json.dumps(moved))
"""


def files_of(packages: tuple[str, ...]) -> set[str]:
    """All source and data files of some packages."""
    found = (path for name in packages for path in (PACKAGE / name).rglob("*"))
    return {str(path.relative_to(PACKAGE)) for path in found if path.is_file() and path.suffix != ".pyc"}


def test_a_byte_of_any_file_behind_a_graph_moves_its_fingerprint(tmp_path: Path) -> None:
    package = tmp_path / "plumbline_models"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    expected = {graph: files_of(packages) for graph, packages in PACKAGES.items()}
    files = sorted(set().union(*expected.values()))
    assert "networks/clip/byte_pairs.py" in files
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, package, VQA],
        input=json.dumps(files),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    moved = json.loads(ran.stdout)
    found = {graph: {file for file in files if graph in moved[file]} for graph in expected}
    assert found == expected
