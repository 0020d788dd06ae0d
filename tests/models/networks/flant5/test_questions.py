"""The wording of prompts, and templates that cannot work."""

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_models.text.questions import CONVERSATIONS, QuestionTemplate


def test_the_default_wording_is_the_papers():
    template = QuestionTemplate()
    assert template.head.endswith("to the user's questions. USER: ")
    assert template.tail("a dog") == '\nDoes this figure show "a dog"? Please answer yes or no. ASSISTANT: '
    assert template.answer_for("a dog") == "Yes"


@pytest.mark.parametrize(
    ("conversation", "head", "tail"),
    [
        pytest.param("t5_chat_no_system", "USER: ", "\nIs it a dog? ASSISTANT: "),
        pytest.param("t5_chat_no_system_no_user", "", "\nIs it a dog? : "),
        pytest.param("t5_plain", "", "Is it a dog?"),
    ],
)
def test_conversations_stand_around_image_and_question(conversation, head, tail):
    template = QuestionTemplate("Is it {}?", "Yes", conversation)
    assert (template.head, template.tail("a dog")) == (head, tail)


def test_a_captions_braces_are_left_alone():
    template = QuestionTemplate("Is it {}?", "It is {}.")
    assert template.tail("{} {0} {text}").startswith("\nIs it {} {0} {text}?")
    assert template.answer_for("{}") == "It is {}."


def test_the_answer_alone_may_hold_the_caption():
    assert QuestionTemplate("", "{}").answer_for("a dog") == "a dog"


@pytest.mark.parametrize(
    ("question", "answer", "conversation", "reason"),
    [
        pytest.param("Is it?", "Yes", "t5_chat", "needs a {}", id="no place for the caption"),
        pytest.param("{} or {}?", "Yes", "t5_chat", "question may hold one {}", id="two places"),
        pytest.param("{0}?", "Yes", "t5_chat", "question may hold one {}", id="a numbered place"),
        pytest.param("{}?", "{}{}", "t5_chat", "answer may hold one {}", id="two places in the answer"),
        pytest.param("{}?", " ", "t5_chat", "must not be empty", id="no answer"),
        pytest.param("{}?", "Yes", "t5", "no conversation 't5'", id="unknown conversation"),
    ],
)
def test_templates_that_cannot_work_are_refused(question, answer, conversation, reason):
    with pytest.raises(ConfigError, match=reason):
        QuestionTemplate(question, answer, conversation)


def test_an_unknown_conversation_is_told_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        QuestionTemplate(conversation="none")
    assert all(name in caught.value.detail for name in CONVERSATIONS)
