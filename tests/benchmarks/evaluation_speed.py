"""Samples per second of the runner's worker against the same model asked one by one, and transformers' padded batches.

    python -m tests.benchmarks.evaluation_speed --batch-size 16 --rounds 5

All three are given encoded pictures' pixels and texts, and give texts: preparing pictures and tokenising count. Short
answers, several questions per picture. Rounds are interleaved; what is printed are medians over rounds of ratios
within a round. One by one is what the authors' evaluation does (the same model, batch 1); transformers runs the same
dense weights, padded on the left, in batches of the file's order.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, LlavaProcessor

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.benchmarks.files.questions import PictureRef, Question
from dpn_platform.evaluation.answering.contract import Picture
from dpn_platform.evaluation.answering.loading import find_checkpoint, load_model
from dpn_platform.evaluation.runner.actor import AnswererSettings, ShardAnswerer
from tests.benchmarks.speed_case import toy_config

WORDS = [f"w{number}" for number in range(400)]
TEMPLATE = (
    "{% for message in messages %}<s>USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)
Asked = list[tuple[str, Picture]]
Way = Callable[[Asked, int], list[str]]


def save_models(folder: Path, method: str) -> tuple[str, str]:
    """One set of random weights as a checkpoint of ours with a method, and as transformers' LLaVA."""
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer(WORDS)
    base = toy_config().base
    base.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    config = DpnConfig(base_config=base, router_token_id=tokenizer.convert_tokens_to_ids("<ROUTER>"))
    model = DpnForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
        model.lm_head.weight[tokenizer.eos_token_id] = 0  # answers end at the limit
    side = base.vision_config.image_size
    theirs = LlavaForConditionalGeneration(base)
    theirs.load_state_dict(model.state_dict(), strict=True)
    theirs.generation_config.eos_token_id = tokenizer.eos_token_id
    theirs.save_pretrained(folder / "theirs")
    square = {"height": side, "width": side}
    LlavaProcessor(
        CLIPImageProcessor(size=square, crop_size=square),
        tokenizer,
        patch_size=base.vision_config.patch_size,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder / "theirs")
    model.configure_method(Method(name=method))
    model.save_pretrained(folder / "ours")
    visual = model.num_visual_tokens()
    DpnProcessor(tokenizer, image_size=side, tokens_per_image=visual, template="short").save_pretrained(folder / "ours")
    return str(folder / "ours"), str(folder / "theirs")


def make_questions(options: argparse.Namespace, side: int = 96) -> Asked:
    """Texts of 10 to 60 words; every picture is asked several times."""
    rng = np.random.default_rng(options.seed)
    count = options.questions // options.per_picture
    arrays = [rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for _ in range(count)]
    pictures = [Picture(str(number), Image.fromarray(array)) for number, array in enumerate(arrays)]
    texts = [" ".join(rng.choice(WORDS, rng.integers(10, 60))) for _ in range(count * options.per_picture)]
    return [(text, pictures[number // options.per_picture]) for number, text in enumerate(texts)]


def the_runner(ours: str, options: argparse.Namespace) -> Way:
    """The actor of `dpn evaluate`, without Ray around it."""
    checkpoint = find_checkpoint(ours)
    answerer = ShardAnswerer(AnswererSettings(checkpoint, ours, options.batch_size, use_gpu=options.gpu))

    def way(asked: Asked, limit: int) -> list[str]:
        places = [PictureRef(picture.sha) for _, picture in asked]
        questions = [
            Question(number, number, text, text, limit, (places[number],), "", "")
            for number, (text, _) in enumerate(asked)
        ]
        pictures = {place: picture for place, (_, picture) in zip(places, asked, strict=True)}
        answers, _ = answerer.answer(questions, pictures)
        answerer.model.forget_pictures()
        return [answers[number].text for number in range(len(asked))]

    return way


def in_batches(folder: str, batch_size: int, options: argparse.Namespace) -> Way:
    """A model behind our interface, in the order of the file and without memory of pictures."""
    model = load_model(find_checkpoint(folder), use_gpu=options.gpu)

    def way(asked: Asked, limit: int) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(asked), batch_size):
            batch = [model.encode(text, [picture]) for text, picture in asked[start : start + batch_size]]
            texts += [answered.text for answered in model.answer(batch, limit)[0]]
            model.forget_pictures()
        return texts

    return way


def measure(ways: dict[str, Way], asked: Asked, limit: int, rounds: int) -> dict[str, list[float]]:
    """Questions per second of every way, round by round, the ways in turn; a first round warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way(asked, limit)
            if number:
                speeds[name].append(len(asked) / (time.perf_counter() - started))
    return speeds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--per-picture", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--methods", nargs="+", default=["dense", "dpn"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    asked = make_questions(options)
    print(f"{len(asked)} questions, {options.per_picture} per picture, batches of {options.batch_size}")
    print(f"{'method':<8}{'tokens':>7}{'runner/s':>10}{'/ one by one':>14}{'/ transformers':>16}{'same answers':>14}")
    for method in options.methods:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = save_models(Path(folder), method)
            ways = {
                "runner": the_runner(ours, options),
                "one": in_batches(ours, 1, options),
                "theirs": in_batches(theirs, options.batch_size, options),
            }
        for limit in options.tokens:
            answers = {name: way(asked, limit) for name, way in ways.items()}
            same = [name for name in ("one", "theirs") if answers[name] == answers["runner"]]
            speeds = measure(ways, asked, limit, options.rounds)
            ratios = [
                median(mine / other for mine, other in zip(speeds["runner"], speeds[name], strict=True))
                for name in ("one", "theirs")
            ]
            print(
                f"{method:<8}{limit:>7}{median(speeds['runner']):>10.1f}{ratios[0]:>14.2f}{ratios[1]:>16.2f}"
                f"{', '.join(same):>14}"
            )


if __name__ == "__main__":
    main()
