"""Every source that decides what a graph computes is part of its fingerprint: each is changed by a byte, and it moves.

Which sources there are is read from the imports of the modules that build the graph, wherever in a file they stand.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import plumbline_models

PACKAGE = Path(plumbline_models.__file__).parent
VQA = Path(__file__).parents[2] / "golden" / "vqascore"
BUILDERS = {
    "clip_image": ("graphs.clip_graphs",),
    "clip_text": ("graphs.clip_graphs",),
    "clip_text_attribution": ("graphs.attribution_graphs",),
    "clip_text_vectors": ("graphs.attribution_graphs",),
    "qualiclip": ("graphs.qualiclip_graph",),
    "flant5_image": ("checkpoints.flant5_states",),
    "flant5_score": ("checkpoints.flant5_states",),
    "causal_image": ("graphs.causal_image", "checkpoints.causal_networks"),
    "causal_answer": ("graphs.causal_answer", "checkpoints.causal_networks"),
}
DECIDING = ("checkpoints", "graphs", "text")
FACTS = frozenset(
    {
        # They find files, whose digests are in the fingerprint,
        *("checkpoints.digest", "checkpoints.embedded", "checkpoints.paths", "checkpoints.sources", "checkpoints.tags"),
        *("checkpoints.causal_origin", "checkpoints.flant5_origin", "checkpoints.flant5_folders"),
        # or read configurations, prompts and vocabularies, and what they read is in it.
        *("checkpoints.clip_spec", "checkpoints.hugging_face_arch", "checkpoints.vqa_family", "graphs.fingerprint"),
        *("text.byte_level", "text.causal_families", "text.plain_text", "text.sentence_pieces"),
    }
)
PROGRAM = """
import json, sys
from pathlib import Path
from plumbline_models.backends.fake import FakeBackend
from plumbline_models.checkpoints.causal import CausalCheckpoint
from plumbline_models.checkpoints.clip_spec import ClipSection, ClipSpec
from plumbline_models.checkpoints.flant5 import FlanT5Checkpoint
from plumbline_models.checkpoints.quality_prompts import QUALICLIP
from plumbline_models.encoders.causal_image import CausalImageEncoder
from plumbline_models.encoders.causal_readers import CausalNetwork
from plumbline_models.encoders.flant5_image import FlanT5ImageEncoder
from plumbline_models.encoders.flant5_pair import FlanT5PairEncoder
from plumbline_models.graphs import fingerprint
from plumbline_models.graphs.attribution_graphs import AttributionSpec, attribution_graph, vectors_graph
from plumbline_models.graphs.causal_rules import AnswerRules
from plumbline_models.graphs.clip_graphs import clip_image_graph, clip_text_graph
from plumbline_models.graphs.qualiclip_graph import qualiclip_graph
from plumbline_models.text.causal_families import CAUSAL_FAMILIES
from plumbline_models.text.questions import Asking

package, vqa, modules = Path(sys.argv[1]), sys.argv[2], json.load(sys.stdin)
clip, quality = ClipSpec.of(ClipSection()), ClipSpec.of(ClipSection(arch="mini-qualiclip"))
flant5 = FlanT5Checkpoint(str(package / "embedded" / "mini-flant5"))
causal = CausalCheckpoint(vqa + "/smolvlm_tiny", CAUSAL_FAMILIES["smolvlm"])

def graphs():
    spec = AttributionSpec(clip, (1,), 1)
    yield from (clip_image_graph(clip), clip_text_graph(clip), attribution_graph(spec), vectors_graph(spec))
    yield qualiclip_graph(quality, QUALICLIP)
    yield FlanT5ImageEncoder(flant5, FakeBackend())._graph()
    yield FlanT5PairEncoder(flant5, FakeBackend(), asking=Asking())._graph()
    yield CausalImageEncoder(causal, FakeBackend)._graph()
    network = CausalNetwork(causal, AnswerRules(0, 1, None, num_axes=1, repetition_penalty=1.0))
    yield network.graph("causal_answer", network.tail_inputs)

def prints():
    fingerprint._source_digest.cache_clear()
    return {graph.name: graph.fingerprint for graph in graphs()}

usual, moved = prints(), {}
for module in modules:
    file = package.joinpath(*module.split(".")).with_suffix(".py")
    source = file.read_bytes()
    file.write_bytes(source + b"#")
    found = prints()
    moved[module] = [name for name in found if found[name] != usual[name]]
    file.write_bytes(source)
print(json.dumps(moved))
"""


def imported(module: str) -> Iterator[str]:
    """Modules of the package that a module imports, not counting what only types need."""
    tree = ast.parse(PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    typing = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in typing and node.module is not None:
            for name in (node.module, *(f"{node.module}.{each.name}" for each in node.names)):
                local = name.removeprefix("plumbline_models.")
                if local != name and PACKAGE.joinpath(*local.split(".")).with_suffix(".py").is_file():
                    yield local


def behind(builders: tuple[str, ...]) -> set[str]:
    """What decides a graph."""
    seen: set[str] = set()
    todo = list(builders)
    while todo:
        module = todo.pop()
        if module not in seen and module not in FACTS and module.startswith(DECIDING):
            seen.add(module)
            todo += imported(module)
    return seen


def test_a_byte_of_any_source_behind_a_graph_moves_its_fingerprint(tmp_path: Path) -> None:
    package = tmp_path / "plumbline_models"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "training"))
    expected = {name: behind(builders) for name, builders in BUILDERS.items()}
    modules = sorted(set().union(*expected.values()))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, package, VQA],
        input=json.dumps(modules),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    moved = json.loads(ran.stdout)
    missing = {name: [each for each in sorted(needed) if name not in moved[each]] for name, needed in expected.items()}
    assert {name: each for name, each in missing.items() if each} == {}
