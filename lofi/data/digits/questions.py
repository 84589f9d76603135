"""Questions about digit scenes, with answers that are right by construction.

Three sets mirror POPE (is it there), ScienceQA (lettered options, several skills) and VQAv2 (open answers).
"""

from dataclasses import dataclass

import numpy as np

from lofi.data.digits.scenes import COLOUR_NAMES, COMPANION, MAX_DIGITS, MIN_DIGITS, POPULARITY, Scene

LETTERS = "ABCD"
SHORT_SUFFIX = "\nAnswer the question using a single word or phrase."
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
DIGITS = tuple(str(digit) for digit in range(10))
SKILLS = ("presence", "color", "reading", "count")


@dataclass(frozen=True)
class Question:
    """A question without its prompt suffix; lettered ones carry their options, `answer` is then the letter."""

    text: str
    answer: str
    skill: str
    choices: tuple[str, ...] = ()
    category: str = ""

    @property
    def prompt(self) -> str:
        """What follows `<image>` and a newline in the prompt of a LLaVA model."""
        if not self.choices:
            return self.text + SHORT_SUFFIX
        options = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True))
        return self.text + options + LETTER_SUFFIX


def existence(digit: int, scene: Scene, *, category: str = "") -> Question:
    """Ask whether a digit is in the scene."""
    answer = "yes" if digit in scene.digits else "no"
    return Question(f"Is there a {digit} in the image?", answer, "existence", category=category)


def colour_of(digit: int, scene: Scene) -> Question:
    """The colour of a digit that is in the scene."""
    return Question(f"What color is the {digit}?", scene.colour_of(digit), "color")


def reading(colour: str, scene: Scene) -> Question:
    """The only digit of a colour."""
    (digit,) = scene.with_colour(colour)
    return Question(f"Which number is {colour}?", str(digit), "reading")


def count(scene: Scene) -> Question:
    """How many digits the scene has."""
    return Question("How many numbers are in the image?", str(len(scene.placed)), "count")


def lettered(question: Question, others: list[str], rng: np.random.Generator) -> Question:
    """The same question with its answer and three other options in random order."""
    choices = [question.answer, *others]
    rng.shuffle(choices)
    letter = LETTERS[choices.index(question.answer)]
    return Question(question.text, letter, question.skill, choices=tuple(choices))


def absent(scene: Scene) -> list[int]:
    """The digits that are not in the scene."""
    return [digit for digit in range(10) if digit not in scene.digits]


def unique_colours(scene: Scene) -> list[str]:
    """Colours that exactly one digit has."""
    return [colour for colour in COLOUR_NAMES if len(scene.with_colour(colour)) == 1]


def negatives(scene: Scene, rng: np.random.Generator) -> dict[str, int]:
    """One absent digit for each POPE category, all different.

    adversarial: the companion of a digit that is there; popular: the commonest absent digit; random: any.
    """
    free = absent(scene)
    tempting = [COMPANION[digit] for digit in scene.digits if COMPANION[digit] in free]
    adversarial = int(rng.choice(tempting or free))
    free.remove(adversarial)
    popular = max(free, key=lambda digit: (POPULARITY[digit], -digit))
    free.remove(popular)
    return {"random": int(rng.choice(free)), "popular": popular, "adversarial": adversarial}


def pope_questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Four questions: one digit that is there and one that is not, for the adversarial and for one other category."""
    categories = ("adversarial", str(rng.choice(["random", "popular"])))
    present = rng.permutation(scene.digits)[: len(categories)].tolist()
    missing = negatives(scene, rng)
    questions = []
    for category, digit in zip(categories, present, strict=True):
        questions.append(existence(digit, scene, category=category))
        questions.append(existence(missing[category], scene, category=category))
    return questions


def lettered_question(skill: str, scene: Scene, rng: np.random.Generator) -> Question:
    """One four-option question of a skill; `reading` needs a colour that exactly one digit has."""
    if skill == "presence":
        answer = str(rng.choice(scene.digits))
        others = [str(digit) for digit in rng.choice(absent(scene), 3, replace=False)]
        return lettered(Question("Which number is in the image?", answer, skill), others, rng)
    if skill == "color":
        question = colour_of(int(rng.choice(scene.digits)), scene)
        return lettered(question, [c for c in COLOUR_NAMES if c != question.answer], rng)
    if skill == "count":
        first = MIN_DIGITS - int(rng.integers(2))
        numbers = [str(number) for number in range(first, first + MAX_DIGITS - MIN_DIGITS + 2)]
        question = count(scene)
        return lettered(question, [n for n in numbers if n != question.answer], rng)
    if skill == "reading":
        question = reading(str(rng.choice(unique_colours(scene))), scene)
        rest = [str(d) for d in rng.permutation([d for d in scene.digits if str(d) != question.answer])]
        far = [str(d) for d in rng.permutation(absent(scene))]
        return lettered(question, (rest[:2] + far)[:3], rng)
    raise ValueError(f"unknown skill {skill!r}; choose from {', '.join(SKILLS)}")


def sqa_questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Four questions, one of each skill; without a unique colour a second colour question replaces reading."""
    skills = [skill if skill != "reading" or unique_colours(scene) else "color" for skill in SKILLS]
    questions = [lettered_question(skill, scene, rng) for skill in skills]
    while len({question.text for question in questions}) < len(questions):
        questions[SKILLS.index("reading")] = lettered_question("color", scene, rng)
    return questions


def vqa_questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Four open questions: two colours, the count, and the digit of a unique colour (else a third colour)."""
    first, second, third = rng.permutation(scene.digits)[:3].tolist()
    unique = unique_colours(scene)
    last = reading(str(rng.choice(unique)), scene) if unique else colour_of(third, scene)
    return [colour_of(first, scene), colour_of(second, scene), count(scene), last]


def caption(scene: Scene) -> str:
    """All digits with their colours in raster order."""
    return " ".join(f"{placed.colour} {placed.digit}" for placed in scene.placed)
