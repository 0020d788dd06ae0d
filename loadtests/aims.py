"""What `make bench` runs, in this order, and what each figure of it is held to."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Aim:
    """One figure of a program."""

    what: str
    path: str
    """Where the program's JSON has it: keys with slashes in between."""
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Program:
    """A command that measures, and writes JSON where --out says."""

    name: str
    command: str
    """A module below `loadtests`, with its arguments."""
    quick: str
    """Arguments that make it short: they show that it runs, and prove nothing."""
    limit_s: float
    """It is ended after this."""
    aims: tuple[Aim, ...]
    needs: str = ""
    """A folder without which it cannot run, and which `make baselines` makes."""
    is_long: bool = False
    """Runs only where it is named."""


VIT = "ViT-B/32"
LEARNT = "learnt_cap/{}_over_fixed"
PROGRAMS = (
    Program(
        "towers",
        "engine.towers --rounds 5",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim(f"{VIT} image tower in bf16, against open_clip eager in fp32", "cases/image_16/ratio/bf16", 1.7),
            Aim(f"{VIT} image tower in int8, against the same", "cases/image_16/ratio/int8", 3.0),
            Aim("text tower, 16 prompts of 8 to 16 words, against eager at 77", "cases/text_16/ratio/bf16", 6.0),
        ),
    ),
    Program(
        "decoding",
        "engine.decoding --rounds 5",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim("decoding a JPEG of 512 px, against Pillow, equal pixels", "cases/decode/jpeg 512/ratio/plumbline"),
            Aim("decoding a JPEG of 1024 px, against Pillow, equal pixels", "cases/decode/jpeg 1024/ratio/plumbline"),
        ),
    ),
    Program(
        "fclipscore",
        "scorers.fclipscore --rounds 5",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim("F-CLIPScore, 16 pairs of 4 images and 4 captions, against eager", "cases/shared/ratio/fp32", 8.0),
            Aim("F-CLIPScore, 16 pairs, nothing shared, against eager", "cases/distinct/ratio/fp32", 2.0),
            Aim("F-CLIPScore, best of 64, text side, against eager", "cases/best_of_64/ratio/fp32", 50.0),
        ),
    ),
    Program(
        "qualiclip",
        "scorers.qualiclip --rounds 5",
        quick="--rounds 1",
        limit_s=600,
        aims=(Aim("QualiCLIP, 16 images of mixed sizes, fp32, against eager", "cases/mixed_16/ratio/fp32", 1.5),),
    ),
    Program(
        "vqascore",
        "scorers.vqascore --rounds 3",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim("VQAScore, 1 image by 8 texts, SmolVLM, against `generate`", "cases/smolvlm/ratio/ours", 3.0),
            Aim("VQAScore, 1 image by 8 texts, CLIP-FlanT5, against the library", "cases/flant5/ratio/ours", 1.2),
        ),
    ),
    Program(
        "questions",
        "scorers.questions --rounds 3",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim("CPU time of 30 questions about an image, over 1, SmolVLM", "cases/smolvlm/over_one", most=4.0),
            Aim("the same, CLIP-FlanT5, whose encoder reads the image with each question", "cases/flant5/over_one"),
            Aim("that over the multiplications of 30, over 1", "cases/flant5/over_multiplications", most=1.15),
        ),
    ),
    Program(
        "best_of_16",
        "scorers.best_of_16 --rounds 3",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim("four scores, best of 16, bf16, against a loop over the libraries", "cases/best_of_16/ratio/bf16", 3.0),
            Aim("the same in fp32", "cases/best_of_16/ratio/fp32"),
        ),
    ),
    Program(
        "efficiency-32",
        "service.efficiency --items 32 --clients 4",
        quick="--rounds 1 --round-items 32",
        limit_s=600,
        aims=(
            Aim("REST over the engine's own rate, 32 items a request", "ratios/rest/rate", 0.90),
            Aim("the same by CPU time an item", "ratios/rest/cpu"),
            Aim("gRPC over REST, 32 items a request", "ratios/grpc_over_rest/rate", 1.0),
        ),
    ),
    Program(
        "efficiency-1",
        "service.efficiency --items 1 --clients 64",
        quick="--rounds 1 --round-items 32",
        limit_s=600,
        aims=(
            Aim("REST over the engine's own rate, 1 item a request, 64 clients", "ratios/rest/rate", 0.80),
            Aim("the same by CPU time an item", "ratios/rest/cpu"),
            Aim("gRPC over REST, 1 item a request, 64 clients", "ratios/grpc_over_rest/rate", 1.0),
        ),
    ),
    Program(
        "sharing",
        "service.sharing --rounds 5",
        quick="--rounds 1",
        limit_s=600,
        aims=(
            Aim("best of 16 in one request, against 16 separate pairs", "cases/best_of_16/ratio", 1.5),
            Aim("1 image by 32 texts, against 32 separate pairs", "cases/texts_32/ratio"),
            Aim("a pair that was asked before, against one that was not", "cases/again/ratio"),
        ),
    ),
    Program(
        "eight_scorers",
        "service.eight_scorers --rounds 5",
        quick="--rounds 1",
        limit_s=600,
        aims=(Aim("eight scorers in one request, against eight requests", "cases/eight_scorers/ratio"),),
    ),
    Program(
        "fastapi_open_clip",
        "service.baseline --baseline fastapi_open_clip --requests 128 --rounds 5",
        quick="--requests 64 --rounds 5",
        limit_s=600,
        aims=(
            Aim("rate against FastAPI + open_clip, 64 clients", "ratios/fastapi_open_clip/requests_a_second", 2.0),
            Aim("99th percentile of FastAPI + open_clip, over ours", "ratios/fastapi_open_clip/p99_ms", 1.0),
        ),
    ),
    *(
        Program(
            name,
            f"service.baseline --baseline {name} --python .venv-baselines/{name}/bin/python --requests 128 --rounds 5",
            quick="--requests 64 --rounds 5",
            limit_s=600,
            aims=(Aim(f"rate against {what}, 64 clients", f"ratios/{name}/requests_a_second", 1.5),),
            needs=f".venv-baselines/{name}",
        )
        for name, what in (("litserve_open_clip", "LitServe + open_clip"), ("infinity_clip", "infinity-emb"))
    ),
    Program(
        "clip_retrieval",
        "offline.clip_retrieval --images 128 --rounds 2 --workers 0 2",
        quick="--images 16 --rounds 1 --workers 0",
        limit_s=600,
        aims=(Aim("`plumbline batch` against clip-retrieval, both in fp32", "batch_over_clip_retrieval", 1.5),),
        needs=".venv-baselines/clip_retrieval",
    ),
    Program(
        "latency",
        "service.latency",
        quick="--requests 60 --requests-at-share 300 --rounds 1",
        limit_s=600,
        aims=(
            Aim("p99 over p50 at 70 % of the knee", "at_70_percent_of_the_knee/p99_over_p50", most=3.0),
            Aim("p99 there, batches of a learnt cap over those of a fixed one", LEARNT.format("p99"), most=0.9),
            Aim("p50 of the same", LEARNT.format("p50"), most=1.0),
        ),
    ),
    Program(
        "overload",
        "service.overload",
        quick="--quick",
        limit_s=3600,
        aims=(
            *(
                Aim(f"goodput at {times} of capacity, {what}, {items} a request, deadlines of 2 s", path, least)
                for service, what in (("vit", VIT), ("embedded", "the embedded four"))
                for items in ("1", "32")
                for times, least in (("2x", 0.95), ("4x", 0.90))
                for path in [f"services/{service}/{items}/deadlines/2s/{times}/goodput"]
            ),
            Aim(f"ms to refuse, p95, {VIT}, at 2x", "services/vit/1/deadlines/2s/2x/refused/p95_ms", most=20.0),
            Aim(
                f"ms of what is served, p99, {VIT}, at 2x", "services/vit/1/deadlines/2s/2x/served/p99_ms", most=2000.0
            ),
        ),
        is_long=True,
    ),
    Program(
        "soak",
        "service.soak --minutes 30 --log bench/soak.jsonl",
        quick="--minutes 9",
        limit_s=2400,
        aims=(Aim("memory, MiB an hour, lower end of the 95 % interval", "growth/total/low", most=0.0),),
        is_long=True,
    ),
)
