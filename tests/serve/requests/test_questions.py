"""Questions about images on the path of a request, beside VQAScore on the same network."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import skimage.data
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from plumbline_models.core.errors import InvalidFieldError, MissingQuestionsError, TextTooLongError, TooManyItemsError
from plumbline_models.core.questions import Question
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage, FilterRequest, Item, ItemFailure, ScoreRequest, Threshold
from plumbline_serve.messages.audits import AuditRequest, ElementRates, Elements
from plumbline_serve.metrics import exposition
from plumbline_serve.settings import Settings

TINY = Path(__file__).parents[2] / "golden" / "vqascore" / "smolvlm_tiny"
CASE = json.loads((TINY / "golden.json").read_text(encoding="utf-8"))["cases"][0]
NAMES = ("astronaut", "coffee")
TOLERANCE = 3e-5  # as of the golden numbers


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def assembly(folder):
    section = {"family": "smolvlm", "model": str(TINY)}
    worded = 'Does this figure show "{}"? Please answer Yes or No.'
    settings = Settings(
        backend="torch",
        precision="fp32",
        scorers={"vqascore": section, "questions": section | {"prompt": worded, "threshold": 1e-9}},
        limits={"max_questions": 40, "max_text_chars": 200},
        edge={"audits": True},
        cache_dir=folder,
    )
    async with assembled(settings) as assembly:
        yield assembly


@pytest.fixture(scope="module")
def table():
    return {name: EncodedImage(png(getattr(skimage.data, name)())) for name in NAMES}


def png(pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def probability(image: str, text: str) -> float:
    return dict(zip(CASE["images"], CASE["scores_raw_logits_fp32"], strict=True))[image][CASE["texts"].index(text)]


def asked(*texts: str, **more) -> tuple[Question, ...]:
    return tuple(Question(text, **more) for text in texts)


async def test_questions_of_all_items_are_answered_on_one_network_that_reads_each_image_once(assembly, table):
    prefixes, texts = assembly.scorers["vqascore"].pair._loaded.engine._engine._module._kept, CASE["texts"]
    items = [Item(name, name, None, questions=asked(*texts)) for name in NAMES]
    items.append(Item("both", "coffee", texts[0], questions=asked(texts[1], tag="cup")))
    reply = await assembly.service.score(ScoreRequest(items, images=table))
    assert [set(result.scores) for result in reply.results] == [{"questions"}, {"questions"}, {"vqascore", "questions"}]
    for name, result in zip(NAMES, reply.results, strict=False):
        answers = result.scores["questions"].details["answers"]
        expected = [probability(name, text) for text in texts]
        assert [each["p_yes"] for each in answers] == pytest.approx(expected, abs=TOLERANCE)
        assert result.scores["questions"].value == pytest.approx(sum(expected) / len(expected), abs=TOLERANCE)
    both = reply.results[2].scores
    assert both["vqascore"].value == pytest.approx(probability("coffee", texts[0]), abs=TOLERANCE)
    assert both["questions"].value == pytest.approx(probability("coffee", texts[1]), abs=TOLERANCE)
    assert both["questions"].details["rates"] == {"cup": 1.0}
    assert len(prefixes) == 1 + len(NAMES)  # one of each image, and that of the blank one when loading


async def test_a_question_is_no_caption_in_the_cache(table, folder):
    plain = Settings(
        backend="torch", precision="fp32", cache_dir=folder,
        scorers={"vqascore": (section := {"family": "smolvlm", "model": str(TINY)}), "questions": section},
    )  # fmt: skip
    item = Item("1", "coffee", "Is there a cup?", questions=asked("Is there a cup?"))
    result: Any
    async with assembled(plain) as other:
        (result,) = (await other.service.score(ScoreRequest([item], images=table))).results
        listed = {entry.id: entry for entry in await other.service.scorers()}
        notes = {name for encoder in await other.service.encoders() for name in encoder.notes}
    assert result.scores["questions"].details["answers"][0]["p_yes"] != result.scores["vqascore"].value
    assert listed["questions"].conventions["question"] == "{} Please answer Yes or No."
    assert listed["questions"].encoders == listed["vqascore"].encoders
    assert {"vqascore.question", "questions.question"} <= notes


@pytest.mark.parametrize(
    ("questions", "kind"),
    [
        pytest.param(
            (Question("a", depends_on=(1,)), Question("b", depends_on=(0,))), InvalidFieldError, id="a circle"
        ),
        pytest.param((Question("a", depends_on=(7,)),), InvalidFieldError, id="no such parent"),
        pytest.param((Question("a" * 201),), TextTooLongError, id="too long"),
        pytest.param((Question("\ud800"),), InvalidFieldError, id="half a character"),
    ],
)
async def test_an_item_whose_questions_make_no_sense_fails_alone(assembly, table, questions, kind):
    items = [Item("bad", "coffee", "a cup", questions=questions), Item("good", "coffee", None, questions=asked("a"))]
    bad, good = (await assembly.service.score(ScoreRequest(items, images=table))).results
    assert isinstance(bad, ItemFailure)
    assert type(bad.error) is kind
    assert set(good.scores) == {"questions"}


async def test_a_faulty_dependency_is_pointed_at(assembly, table):
    items = [
        Item("0", "coffee", "a"),
        Item("1", "coffee", None, questions=(*asked("a"), Question("b", depends_on=(2,)))),
    ]
    _, bad = (await assembly.service.score(ScoreRequest(items, images=table))).results
    assert [fault["pointer"] for fault in bad.error.facts["errors"]] == ["/items/1/questions/1/depends_on"]


async def test_metrics_count_items_with_questions_by_their_means(assembly, table):
    before = counted(assembly)
    items = [
        Item("0", "coffee", None, questions=asked("a cup", "a spoon", "a dog")),
        Item("1", "astronaut", None, questions=asked("a helmet")),
        Item("2", EncodedImage(b"no image"), None, questions=asked("a cup")),
    ]
    request = ScoreRequest(items, images=table, scorers=["questions"])
    results = (await assembly.service.score(request)).results
    grown = {name: value - before.get(name, 0.0) for name, value in counted(assembly).items()}
    assert (grown["items_total ok"], grown["items_total error"]) == (2, 1)  # however many questions an item has
    means = [result.scores["questions"].value for result in results[:2]]
    buckets = {name.split()[1]: number for name, number in grown.items() if name.startswith("score_bucket")}
    assert buckets == {bound: sum(mean <= float(bound) for mean in means) for bound in buckets}


def counted(assembly) -> dict[str, float]:
    """What metrics say of the scorer `questions`, by name and label."""
    families = text_string_to_metric_families(exposition([assembly.instruments.snapshot()]).decode())
    samples = [each for family in families for each in family.samples if each.labels.get("scorer") == "questions"]
    labels = [each.labels.get("outcome", each.labels.get("le", "")) for each in samples]
    names = [each.name.removeprefix("plumbline_") for each in samples]
    return {f"{name} {label}".strip(): each.value for name, label, each in zip(names, labels, samples, strict=True)}


async def test_an_item_without_questions_is_told_so(assembly, table):
    request = ScoreRequest([Item("1", "coffee", "a cup")], images=table, scorers=["vqascore", "questions"])
    (result,) = (await assembly.service.score(request)).results
    assert isinstance(result.scores["questions"], MissingQuestionsError)
    assert result.scores["vqascore"].value > 0


async def test_questions_are_counted_over_all_items(assembly, table):
    items = [Item(str(index), "coffee", None, questions=asked(*"abcdefghijklmnopqrstu")) for index in range(2)]
    with pytest.raises(TooManyItemsError, match="42 questions; at most 40"):
        await assembly.service.score(ScoreRequest(items, images=table))


async def test_a_filter_asks_questions_last(assembly, table):
    policy = [Threshold("questions", min=0.0), Threshold("vqascore", min=1.0)]
    item = Item("1", "coffee", "a cup", questions=asked("a cup"))
    (verdict,) = (await assembly.service.filter(FilterRequest(policy, [item], images=table))).results
    assert (verdict.verdict, verdict.failed, set(verdict.scores)) == ("reject", ["vqascore"], {"vqascore"})
    (verdict,) = (await assembly.service.filter(FilterRequest(policy[:1], [item], images=table))).results
    assert verdict.verdict == "accept"


async def test_an_audit_asks_every_image_about_every_element(assembly, table):
    elements = Elements(explicit=["cup", "astronaut"], implied=["spoon"], forbidden=["flag"], markers=[])
    images = [table["coffee"], EncodedImage(b"none"), table["astronaut"]]
    request = AuditRequest(images, groups=["x", "y"], labels=["x", "y", None], elements=elements)
    reply = await assembly.service.measure(request)
    questions = asked("Is there a cup?", "Is there a astronaut?", "Is there a spoon?", "Is there a flag?")
    items = [Item(name, name, None, questions=questions) for name in ("coffee", "astronaut")]
    scored = await assembly.service.score(ScoreRequest(items, images=table, scorers=["questions"]))
    answers = [[each["p_yes"] for each in result.scores["questions"].details["answers"]] for result in scored.results]
    is_there = [[probability >= 0.5 for probability in each] for each in answers]
    assert reply.elements == ElementRates(
        explicit_missing=1 - sum(sum(each[:2]) for each in is_there) / 4,
        implied_missing=1 - sum(each[2] for each in is_there) / 2,
        hallucination=sum(each[3] for each in is_there) / 2,
        cultural_accuracy=None,
        n=2,
    )
    assert (reply.n, reply.num_unknown) == (2, 1)
    many = Elements(explicit=[str(number) for number in range(21)])
    with pytest.raises(TooManyItemsError, match="questions"):
        await assembly.service.measure(AuditRequest(images[:2], groups=["x", "y"], labels=["x", "y"], elements=many))
