"""How families without a usable chat template are asked, by `model_type`: the one table of published prompt forms.

The processors of these families put the pictures' tokens into the prompt themselves, so a template that a folder brings
would put them there twice; the form is what counts for them.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from dpn_platform.benchmarks.prompts import SHORT_SENTENCE


@dataclass(frozen=True)
class PromptForm:
    """One family's form.

    Attributes:
        after: behind the pictures, with `{question}`.
        before: before the pictures.
        short: in place of `after` where the benchmark wants a word or phrase; it replaces the sentence that says so.
        takes_lists: whether the processor takes texts and pictures as one list; another one takes them apart.
        several_pictures: whether a question may show more than one.
        ends: a token that also ends an answer; the form is of those whose tokenizer knows it.
        never: tokens that are never generated.
    """

    after: str
    before: str = ""
    short: str | None = None
    takes_lists: bool = False
    several_pictures: bool = True
    ends: str | None = None
    never: tuple[str, ...] = ()

    def texts(self, question: str) -> tuple[str, str]:
        """What stands before the pictures, and behind them."""
        bare = question.removesuffix(SHORT_SENTENCE).rstrip()
        if self.short is not None and bare != question:
            return self.before, self.short.format(question=bare)
        return self.before, self.after.format(question=question)


_NO_PICTURES = ("<image>", "<fake_token_around_image>")
#: of a family's forms, the first that fits the tokenizer
FORMS: dict[str, tuple[PromptForm, ...]] = {
    # Questions for a short answer: arXiv 2305.06500, appendix E (GQA, VizWiz). All others as they stand: the model
    # card, and lmms-eval's models/instructblip.py.
    "instructblip": (PromptForm("{question}", short="Question: {question} Short answer:", several_pictures=False),),
    "idefics": (
        # The instructed models: model card of HuggingFaceM4/idefics-9b-instruct, with its end and its bad words.
        PromptForm(
            "{question}<end_of_utterance>\nAssistant:",
            before="User:",
            takes_lists=True,
            ends="<end_of_utterance>",
            never=_NO_PICTURES,
        ),
        # The base models: transformers' task guide "Image tasks with IDEFICS", visual question answering.
        PromptForm(
            "Question: {question} Answer:",
            before="Instruction: Provide an answer to the question. Use the image to answer.\n",
            takes_lists=True,
            never=_NO_PICTURES,
        ),
    ),
}


def find_form(model_type: str, vocabulary: Container[str]) -> PromptForm | None:
    """The form for a kind of model with these tokens; None where its chat template says how it is asked."""
    forms = FORMS.get(model_type, ())
    return next((form for form in forms if form.ends is None or form.ends in vocabulary), None)
