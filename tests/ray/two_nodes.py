"""Runs the application on a cluster of two nodes on this machine, asks it, breaks it, and prints what happened as JSON.

Three encoder groups: `clip` on the first node and by load, `quality` on the second, `plain` only when it is asked for.
A process of its own, since Ray belongs to a whole process: `two_nodes.py CACHE_DIR PORT GRPC_PORT < requests.json`, a
list of three requests.
"""

import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import httpx
import ray
from ray import serve as ray_serve
from ray.cluster_utils import Cluster
from ray.serve._private.common import ReplicaState
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from ray.util.state import list_actors

from loadtests.service.images import draw_images
from plumbline_serve.app import APP_NAME, grpc_options
from plumbline_serve.settings import Settings

STORE: dict[str, Any] = {"object_store_memory": 150 * 2**20}
WAIT_S = 120.0
ITEMS_PER_CALL = 8
CLIP = {
    "scorers": ["clipscore"],
    "placement": {"resources": {"first": 1}},
    "autoscale": {"min": 1, "max": 3, "target_queue_s": 0.02, "up_after_s": 0.5, "down_after_s": 2},
}
QUALITY = {"scorers": ["qualiclip"], "placement": {"resources": {"second": 1}}}
PLAIN = {
    "scorers": ["integrity"],
    "autoscale": {"min": 0, "max": 1, "target_queue_s": 1, "up_after_s": 0, "down_after_s": 2},
}
BEFORE, AFTER = "", "A photo depicts "
"""Templates of clipscore: what the configuration changes."""


def main(cache_dir: str, port: int, grpc_port: int) -> None:
    """A head without CPUs to spare, and a node for each of two groups."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, **STORE})
    first = nodes.add_node(num_cpus=4, resources={"first": 10}, **STORE)
    second = nodes.add_node(num_cpus=2, resources={"second": 10}, **STORE)
    ray.init(address=nodes.address, log_to_driver=False)
    with suppress(TimeoutError):  # Ray gives its proxies a minute; on a busy machine they come up later
        ray_serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            grpc_options=grpc_options(Settings(grpc_port=grpc_port)),
        )
    url = f"http://127.0.0.1:{port}"
    small, large, new = json.load(sys.stdin)
    deploy(arguments(cache_dir, grpc_port, BEFORE))
    until(lambda: httpx.get(f"{url}/readyz", timeout=60).status_code == httpx.codes.OK)
    names = {first.node_id: "first", second.node_id: "second"}
    found = {
        "small": answer(url, small),
        "large": answer(url, large),
        "nodes": {group: [names.get(node) for node in nodes_of(group)] for group in ("clip", "quality")},
        "metrics": httpx.get(f"{url}/metrics", timeout=60).text,
        "killed": killed(url, new),
        "asleep": asleep(url, new),
        "scaled": scaled(url),
        "changed": changed(url, small, lambda template: deploy(arguments(cache_dir, grpc_port, template))),
        "refused": refused(url, small, lambda: deploy({"scorers": {"no such": {}}})),
    }
    print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads
    ray_serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


def arguments(cache_dir: str, grpc_port: int, template: str) -> dict[str, Any]:
    """The settings, as a Serve configuration file has them."""
    return {
        "cache_dir": cache_dir,
        "grpc_port": grpc_port,
        "scorers": {"clipscore": {"template": template}, "qualiclip": {}, "integrity": {}},
        "replicas": {"layout": "split", "drain_timeout_s": 10},
        "groups": {"clip": CLIP, "quality": QUALITY, "plain": PLAIN},
    }


def deploy(settings: dict[str, Any]) -> None:
    """What `serve deploy` has the controller do."""
    application = {"name": APP_NAME, "route_prefix": "/", "import_path": "plumbline_serve.app:build", "args": settings}
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))


def killed(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """One group's replica ends while both are asked: what its scorer is told, and the other's."""
    with Load(url, ["clipscore", "qualiclip"]) as load:
        load.wait_for(10)
        (actor,) = living("quality")
        ray.kill(ray.get_actor(str(actor.name), namespace="serve"))
        until(lambda: groups(url)["quality"] == "away")
        away, models = answer(url, body), httpx.get(f"{url}/v1/models", timeout=60).json()["models"]
        ready = httpx.get(f"{url}/readyz", timeout=60).status_code
        until(lambda: groups(url)["quality"] == "ready")
        load.wait_for(10)
    return {"away": away, "models": len(models), "readyz": ready, **load.found}


def asleep(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """A group without replicas: whether the service is ready, and what the first call is told and the next."""
    until(lambda: groups(url)["plain"] == "asleep")
    ready = httpx.get(f"{url}/readyz", timeout=60).status_code
    asked = {**body, "scorers": ["integrity"]}
    first = answer(url, asked)
    until(lambda: groups(url)["plain"] == "ready")
    return {"readyz": ready, "first": first, "then": answer(url, asked)}


def scaled(url: str) -> list[int]:
    """Replicas of the group by load: before it, under it, and after it."""
    until(lambda: num_running("clip") == 1)  # it may have grown under the load before
    counts = [num_running("clip")]
    with Load(url, ["clipscore"], num_callers=8):
        until(lambda: num_running("clip") == 3)
        counts.append(num_running("clip"))
    until(lambda: num_running("clip") == 1)
    return [*counts, num_running("clip")]


def changed(url: str, body: dict[str, Any], deploy_with: Callable[[str], None]) -> dict[str, Any]:
    """Another configuration under load: what callers are told meanwhile, and what is there afterwards."""
    before = answer(url, body)
    with Load(url, ["clipscore", "qualiclip"]) as load:
        load.wait_for(10)
        deploy_with(AFTER)
        until(lambda: status() == "RUNNING" and template(url) == AFTER)
        load.wait_for(20)
    return {"before": before, "after": answer(url, body), **load.found}


def refused(url: str, body: dict[str, Any], deploy_nonsense: Callable[[], None]) -> dict[str, Any]:
    """A configuration that is none: what Ray says of it, and what callers are told."""
    deploy_nonsense()
    until(lambda: status() == "DEPLOY_FAILED")
    message = ray_serve.status().applications[APP_NAME].message
    return {"said": "no such" in message, "still": answer(url, body), "template": template(url)}


class Load:
    """Callers without retries who ask, each call with new images, while the context lasts."""

    def __init__(self, url: str, scorers: list[str], num_callers: int = 2) -> None:
        self._url, self._scorers = url, scorers
        self._answered, self._failed = threading.Semaphore(0), Counter[str]()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, num_answers: int) -> None:
        for _ in range(num_answers):
            assert self._answered.acquire(timeout=WAIT_S)

    @property
    def found(self) -> dict[str, Any]:
        """What failed, by the call's status, or by the scorer and its error's code."""
        return {"failed": dict(self._failed)}

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=WAIT_S) as client:
            for number, images in enumerate(draw_images(ITEMS_PER_CALL, is_new=True)):
                if self._is_over.is_set():
                    return
                items = [{"image": {"part": name}, "text": f"circle {number} {name}"} for name in images]
                request = json.dumps({"items": items, "scorers": self._scorers})
                files = {"request": ("request", request, "application/json")}
                parts = {name: (name, data, "image/jpeg") for name, data in images.items()}
                reply = client.post("/v1/score", files={**files, **parts})
                if reply.status_code != httpx.codes.OK:
                    self._failed[f"{reply.status_code} {reply.json().get('code')}"] += 1
                else:
                    self._count(reply.json())
                self._answered.release()

    def _count(self, reply: dict[str, Any]) -> None:
        for result, scorer in itertools.product(reply["results"], self._scorers):
            entry = result["scores"][scorer] if result["status"] == "ok" else result
            if "error" in entry:
                self._failed[f"{scorer} {entry['error']['code']}"] += 1


def answer(url: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = httpx.post(f"{url}/v1/score", json=body, timeout=WAIT_S)
    return {"status": reply.status_code, "ids": reply.headers.get_list("x-request-id"), "body": reply.json()}


def groups(url: str) -> dict[str, str]:
    found: dict[str, str] = httpx.get(f"{url}/readyz", timeout=60).json().get("groups", {})
    return found


def template(url: str) -> str:
    scorers = httpx.get(f"{url}/v1/scorers", timeout=60).json()["scorers"]
    return str(next(scorer["conventions"]["template"] for scorer in scorers if scorer["id"] == "clipscore"))


def status() -> str:
    return str(ray_serve.status().applications[APP_NAME].status.value)


def num_running(group: str) -> int:
    return int(ray_serve.status().applications[APP_NAME].deployments[group].replica_states.get(ReplicaState.RUNNING, 0))


def living(group: str) -> list[Any]:
    actors = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
    return [actor for actor in actors if f"#{group}#" in str(actor.name)]


def nodes_of(group: str) -> list[str]:
    return [str(actor.node_id) for actor in living(group)]


def until(holds: Callable[[], bool]) -> None:
    """Wait until it does.

    Raises:
        TimeoutError: It did not within two minutes.
    """
    for _ in range(int(WAIT_S / 0.25)):
        with suppress(httpx.HTTPError):
            if holds():
                return
        time.sleep(0.25)
    raise TimeoutError(f"{holds}: {ray_serve.status()}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
