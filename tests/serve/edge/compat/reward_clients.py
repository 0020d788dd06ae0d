"""Clients of the reward services, as their trainers have them: what they send, and how they react to the reply."""

import base64
import math
import pickle
from collections.abc import Sequence
from typing import Any

import httpx
import urllib3
from urllib3.util import Retry

TRIES = 3


class FlowFactory:
    """Posts prompts and PNGs; tries again, at once, whatever is not a 200 with JSON."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.num_sent = 0
        assert httpx.get(f"{server_url}/health", trust_env=False).is_success  # once at start, by every rank

    def rewards(self, prompts: Sequence[str], images: Sequence[bytes]) -> list[float]:
        pngs = [base64.b64encode(each).decode() for each in images]
        body = {
            "prompt": list(prompts),
            "image": pngs,
            "video": None,
            "condition_images": None,
            "condition_videos": None,
        }
        for attempt in range(TRIES):
            self.num_sent += 1
            reply = httpx.post(f"{self.server_url}/compute", json=body, trust_env=False)
            if reply.status_code == 200:
                break
            if attempt == TRIES - 1:
                raise ConnectionError(reply.text)
        found = reply.json()
        if found.get("error"):
            raise RuntimeError(found["error"])
        return [float(each) for each in found["rewards"]]


class UniRL:
    """Posts samples; the first value of each reward counts, and a sample without one has failed."""

    def __init__(self, base_url: str, rewards: Sequence[str]) -> None:
        self.base_url, self.rewards = base_url, list(rewards)
        reply = httpx.get(f"{base_url}/health", trust_env=False)
        if reply.status_code != 200 or not set(rewards) <= reply.json()["rewards"].keys():
            raise ValueError("a required reward is not ready")

    def score(self, samples: Sequence[tuple[str, bytes]]) -> tuple[list[dict[str, float | None]], list[dict[str, str]]]:
        requests = [
            {
                "history": [{"text": text, "image_b64": base64.b64encode(image).decode()}],
                "required_rewards": self.rewards,
                "metadata": None,
            }
            for text, image in samples
        ]
        reply = httpx.post(f"{self.base_url}/score", json={"requests": requests}, trust_env=False)
        reply.raise_for_status()
        body = reply.json()
        assert len(body["results"]) == len(body["errors"]) == len(samples)
        return [{name: self._first(each.get(name)) for name in self.rewards} for each in body["results"]], body[
            "errors"
        ]

    def _first(self, values: dict[str, Any] | None) -> float | None:
        value = next(iter((values or {}).values()), None)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if is_number else None  # type: ignore[arg-type]


class FlowGrpo:
    """Posts a pickle; tries a 500 again and again, and unpickles whatever else comes back."""

    def __init__(self, url: str, tries: int = 2) -> None:
        self.url = url
        retries = Retry(total=tries, status_forcelist=[500], allowed_methods=None, backoff_factor=0)
        self._pool = urllib3.PoolManager(retries=retries)

    def outputs(self, images: Sequence[bytes], **more: Any) -> list[float]:
        body = pickle.dumps({"images": list(images), **more})
        reply = self._pool.request("POST", self.url, body=body, timeout=20.0)
        found: list[float] = pickle.loads(reply.data)["outputs"]  # noqa: S301 - as the trainer does
        return found


class VerlOmni:
    """Posts a pickle of one image; tries again what may pass, and unpickles errors first."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.num_sent = 0

    def score(self, image: bytes, prompt: str) -> float:
        body = pickle.dumps({"images": [image], "prompts": [prompt], "metadata": {}})
        headers = {"content-type": "application/octet-stream"}
        for attempt in range(TRIES):
            self.num_sent += 1
            reply = httpx.post(self.server_url, content=body, headers=headers, trust_env=False)
            try:
                found = pickle.loads(reply.content)  # noqa: S301 - as the trainer does
            except (pickle.UnpicklingError, EOFError):
                found = None
            may_pass = reply.status_code in (408, 429) or reply.status_code >= 500
            if not may_pass or attempt == TRIES - 1:
                break
        if not isinstance(found, dict) or reply.status_code != 200 or found.get("error") or not found.get("scores"):
            raise RuntimeError(found["error"] if isinstance(found, dict) else reply.status_code)
        return float(found["scores"][0])
