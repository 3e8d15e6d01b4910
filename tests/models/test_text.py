import itertools
import random

from models.arithmetic.problems import CUE, STEP_END, State, grade, held_out, right_line, training
from models.arithmetic.text import Noise, documents, write, wrong_line
from models.arithmetic.tokenizer import IDS, build

TOKENIZER = build()
DENSE = Noise(clean=0.0, cue=(0.4, 0.6), silent=0.1)


def chain_of(document):
    """A document's text after its prompt."""
    return TOKENIZER.decode(document.ids[document.ids.index(IDS["<|assistant|>"]) + 1 :])


def test_documents_repeat_for_a_seed():
    first, again = (list(itertools.islice(documents(1, (1, 6), DENSE), 20)) for _ in range(2))
    assert first == again


def test_prompt_and_cue_are_never_learned():
    for document in itertools.islice(documents(2, (2, 9), DENSE), 100):
        prompt = document.ids.index(IDS["<|assistant|>"]) + 1
        assert not any(document.learned[:prompt])
        for token, learned in zip(document.ids, document.learned, strict=True):
            assert not (learned and token == IDS[CUE])


def test_clean_documents_are_the_worked_solution_learned_whole():
    problem = next(training(4))
    document = write(random.Random(0), problem, Noise(clean=1.0))
    assert chain_of(document) == problem.solution + "<|end|>"
    assert all(document.learned[document.ids.index(IDS["<|assistant|>"]) + 1 :])


def test_nothing_wrong_is_learned_to_the_end_of_its_line():
    rng = random.Random(5)
    seen = 0
    for problem in itertools.islice(training(6, (3, 9)), 200):
        document = write(rng, problem, Noise(clean=0.0, cue=(0.4, 0.6), cut=0.0))
        start = document.ids.index(IDS["<|assistant|>"]) + 1
        lines = [[]]
        for token, learned in zip(document.ids[start:], document.learned[start:], strict=True):
            lines[-1].append((token, learned))
            if token == IDS[STEP_END]:
                lines.append([])
        grades = grade(problem, TOKENIZER.decode(document.ids[start:], skip_special_tokens=True))
        for line, each in zip(lines, grades, strict=False):
            if "The" in each.line:
                break
            learned = [flag for token, flag in line if token != IDS[CUE]]
            assert all(learned) == each.right
            assert each.right or (not learned[-1] and learned == sorted(learned)[::-1])
            seen += not each.right
    assert seen > 100


def test_every_reworked_line_is_right():
    rng = random.Random(7)
    reworked = 0
    for problem in itertools.islice(training(8, (3, 9)), 200):
        text = chain_of(write(rng, problem, DENSE)).replace("<|end|>", "")
        for each in grade(problem, text):
            assert each.right or not each.reworked
            reworked += each.reworked
    assert reworked > 300


def test_wrong_lines_differ_from_the_right_one_and_keep_its_form():
    rng = random.Random(9)
    for problem in held_out(40, seed=1):
        state = State(problem.values[3], 3)
        line = wrong_line(rng, problem, state)
        assert line != right_line(problem, state)
        assert " = " in line or line.startswith("The result is")


def test_some_documents_go_on_from_a_wrong_line_without_a_cue():
    rng = random.Random(10)
    found = 0
    for problem in itertools.islice(training(11, (4, 9)), 100):
        chain = chain_of(write(rng, problem, Noise(clean=0.0, cue=(0.0, 0.0), silent=0.3)))
        verdicts = [each.right for each in grade(problem, chain.replace("<|end|>", ""))]
        found += (False, True) in itertools.pairwise(verdicts)
    assert found > 20
