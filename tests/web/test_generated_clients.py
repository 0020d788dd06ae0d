"""Clients that are generated from the service's description compile, and score against the service."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Route

from plumbline_client import Client, Item
from tests.certificates import Authority
from tests.docs.pages import blocks
from tests.web.conftest import Served, npm_install, program
from tests.web.generated import make_python, pack_typescript, run

HERE = Path(__file__).parent
MAKE_OPENAPI = HERE.parents[1] / "docs" / "make_openapi.py"
STRICT = {
    "compilerOptions": {
        "target": "ES2022", "module": "NodeNext", "moduleResolution": "NodeNext", "strict": True,
        "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True, "types": ["node"], "outDir": "out",
    },
    "files": ["consumer.ts", "example.ts"],
}  # fmt: skip


@pytest.fixture(scope="module")
def packed(service: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_typescript(tmp_path_factory.mktemp("npm"), service.url)


@pytest.fixture(scope="module")
def project(packed: Path, service: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project that has installed the package."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text(json.dumps({"type": "module", "private": True}), encoding="utf-8")
    npm_install(folder, str(packed), "typescript@5.9", "@types/node@20")
    (folder / "tsconfig.json").write_text(json.dumps(STRICT), encoding="utf-8")
    (folder / "consumer.ts").write_text((HERE / "consumer.ts").read_text(encoding="utf-8"), encoding="utf-8")
    [example] = (block.text for block in blocks("ts"))
    (folder / "example.ts").write_text(example.replace("http://localhost:8000", service.url), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def told(project: Path, service: Served, key_service: tuple[Served, str], gallery: Path) -> Any:
    """What the program prints that uses it."""
    served, key = key_service
    run(project / "node_modules" / ".bin" / "tsc", folder=project)
    node = program("node", "nodejs")
    images = (gallery / "red_circle.png", gallery / "green_star.png")
    pair = Authority(project).sign("unsigned")
    return json.loads(
        run(node, "out/consumer.js", service.url, served.url, key, *images, pair.key, pair.cert, folder=project)
    )


def test_the_package_holds_the_client_and_its_types_alone(project: Path) -> None:
    installed = project / "node_modules" / "plumbline-client"
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    modules = {"form", "index", "options", "rewards", "schema", "sending", "stream", "types"}
    files = {f"dist/{name}{kind}" for name in modules for kind in (".js", ".d.ts")}
    assert names == {"package.json", "README.md", *files}


def test_typescript_scores_as_python_does(told: Any, service: Served, gallery: Path) -> None:
    circle, star = gallery / "red_circle.png", gallery / "green_star.png"
    items = [Item(circle, "a red circle"), Item(circle, "a green star"), Item(star, "a green star")]
    with Client(service.url, timeout_ms=120_000) as client:
        results = client.score(items).results
    expected = [{name: score.value for name, score in each.scores.items()} for each in results]
    assert told["scored"][:3] == [pytest.approx(each, abs=2e-5) for each in expected]
    assert told["scored"][3] == "image_undecodable"
    assert set(told["scored"][4]) == set(expected[0])


def test_the_example_of_its_page_scores(told: Any, project: Path, gallery: Path) -> None:
    del told  # it compiles both
    shutil.copy(gallery / "red_circle.png", project)
    assert "clipscore" in run(program("node", "nodejs"), "out/example.js", folder=project)


def test_typescript_ranks_filters_embeds_and_lists(told: Any) -> None:
    assert (told["ranked"], told["texts"], told["filtered"]) == ([1], [1, 0], ["accept", "reject"])
    assert told["dim"] > 0
    assert told["selected"] == 1
    loaded = [each for each in told["scorers"] if not each[0].startswith("classifier:")]  # others' requests make some
    assert loaded == [[name, True] for name in ("clipscore", "fclipscore", "vqascore", "qualiclip")]
    assert told["models"] == 6


def test_typescript_scores_videos_and_hears_guards(told: Any) -> None:
    value, least, num_frames = told["film"]
    assert (value, num_frames) == (least, 2)
    assert {"fooling_suspect", "ood_score", "adversarial_suspect"} <= set(told["flags"])


def test_typescript_keeps_decisions_uses_them_and_forgets_them(told: Any) -> None:
    threshold, k, names, verdicts = told["cut"]
    assert (threshold, k, verdicts) == (0.25, 19, ["accept", "reject"])
    assert "ts.launch" in names  # among those that others have made
    assert told["combined"] == ["reward", 0.5, ["accept", "reject"]]
    num_images, scorers, num_ranked, classifiers = told["learnt"]
    assert (num_images, num_ranked) == (5, 2)
    assert "classifier:shapes" in scorers
    assert "shapes" in classifiers
    num_values, referred, severity = told["drift"]
    assert (num_values, severity) == (100, "none")
    assert "qualiclip" in referred
    assert told["refused"] == ["unknown_artefact", "unknown_artefact", "forbidden"]


def test_typescript_measures_sets(told: Any) -> None:
    assert told["sets"] == [3, ["1", "inf"], [[0, 2]], 2, 2, True]


def test_typescript_keeps_sets_and_compares_with_them(told: Any) -> None:
    num_kept, has_same_dim, names, num_compared, is_as_sent = told["kept"]
    assert (num_kept, has_same_dim, num_compared, is_as_sent) == (2, True, 2, True)
    assert "ts.launch" in names


def test_typescript_has_the_methods_of_the_python_client(told: Any) -> None:
    python = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    of_python = {"close"}  # connections are the platform's
    of_typescript = {"constructor", "scoreStream"}  # Python has streams over gRPC, and cuts what is more than a request
    shared = {re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in python - of_python}
    assert set(told["methods"]) == shared | of_typescript


def test_typescript_asks_once_whether_a_service_is_ready(told: Any) -> None:
    assert told["ready"] == [True, False, False, "not_found"]
    assert told["readyTried"] == ["a", None]  # with the client's header, and then once by a client of none


def test_typescript_gives_rewards_and_says_why_there_is_none(told: Any) -> None:
    values, codes, of_all, combined, refusals = told["rewards"]
    assert values == [pytest.approx(told["scored"][0]["vqascore"], abs=2e-5), None, pytest.approx(of_all[1], abs=2e-5)]
    assert codes == [None, "image_undecodable", None]
    assert combined == pytest.approx(2 * of_all[0], abs=4e-5)
    assert refusals == [
        "There are 2 images and 1 prompts: give one for each, or one for all.",
        "Rewards are of one scorer or combination: name it with scorer.",
    ]


def test_typescript_tells_a_failure_of_tls_from_a_service_that_is_not_ready(told: Any) -> None:
    assert told["tls"] == ["unexpected_reply", "unexpected_reply", "unexpected_reply", 3]  # one attempt each


def test_typescript_sends_what_callers_say_of_a_call(told: Any) -> None:
    assert told["names"] == ["ts.named", "ts.nowhere", "nobody"]
    assert told["claims"] == [["batch", True], ["interactive", False]]


def test_typescript_refuses_headers_without_showing_them(told: Any) -> None:
    key, value, name = told["refusals"]
    assert "The header authorization must be printable" in key
    assert "secret" not in key
    assert value.startswith("The header x-tenant must be printable")
    assert name == '"x tenant" cannot be the name of a header.'


def test_typescript_streams_in_order(told: Any) -> None:
    assert told["streamed"] == [[f"n{index}", "ok"] for index in range(7)]


def test_typescripts_errors_are_values_and_what_has_no_room_is_sent_again(told: Any) -> None:
    assert told["codes"] == ["unknown_scorer", "unauthenticated", "ok", "no_answer", "cancelled", "ok", "not_ready"]
    assert told["gone"].startswith("http://127.0.0.1:9/v1/scorers cannot be reached: ")


def test_what_the_playground_shows_as_typescript_runs(
    browser: Browser, project: Path, service: Served, gallery: Path
) -> None:
    page = browser.new_page()
    page.goto(service.url)
    page.locator(".verdict").wait_for(timeout=60_000)
    page.get_by_text("Copy as code").click()
    page.get_by_role("tab", name="TypeScript").click()
    (project / "copied.js").write_text(page.locator("#code-panel").inner_text(), encoding="utf-8")
    page.close()
    shutil.copy(gallery / "red_circle.png", project)
    assert "vqascore" in run(program("node", "nodejs"), "copied.js", folder=project)


def test_the_description_is_the_same_without_a_service(service: Served, tmp_path: Path) -> None:
    run(sys.executable, MAKE_OPENAPI, tmp_path / "openapi.json", folder=tmp_path)
    made = json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8"))
    assert made == httpx.get(f"{service.url}/openapi.json").json()


@pytest.fixture(scope="module")
def python(service: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return make_python(tmp_path_factory.mktemp("python"), service.url)  # type: ignore[return-value]


def test_python_that_is_generated_scores(python: Path, service: Served, gallery: Path) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    example = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
    ran = subprocess.run(
        [python, HERE / "generated_client.py", service.url, gallery / "red_circle.png"],
        input=json.dumps(example), cwd=python.parents[2], env={"PYTHONPATH": str(python.parents[2])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    in_json, in_form = json.loads(ran.stdout)
    assert [result["status"] for result in in_json["results"]] == ["ok", "ok"]
    assert in_form["results"][0]["scores"]["vqascore"]["value"] > 0.5


PAGE = """<script type="module">
  import { Plumbline } from "/dist/index.js";
  const image = await (await fetch("/red_circle.png")).blob();
  const answer = await new Plumbline(SERVICE).score([{ image, text: "a red circle" }], { timeoutMs: 120000 });
  document.title = answer.ok ? String(answer.value.results[0].scores.vqascore.value > 0.5) : answer.problem.detail;
</script>"""


@pytest.mark.parametrize(
    ("origin", "title"), [("http://pages.test", "true"), ("http://others.test", "cannot be reached")]
)
def test_typescript_scores_in_a_browser_where_the_service_allows_its_page(
    browser: Browser, project: Path, service: Served, gallery: Path, *, origin: str, title: str
) -> None:
    installed = project / "node_modules" / "plumbline-client"

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(origin)
        if path.startswith("/dist/"):
            route.fulfill(path=installed / path[1:], content_type="text/javascript")
        elif path == "/red_circle.png":
            route.fulfill(path=gallery / "red_circle.png")
        else:
            route.fulfill(body=PAGE.replace("SERVICE", json.dumps(service.url)), content_type="text/html")

    page = browser.new_page()
    page.route(f"{origin}/**", answer)
    page.goto(f"{origin}/")
    page.wait_for_function("document.title !== ''", timeout=120_000)
    assert title in page.title()
    page.close()
