"""The witness of an answer that two engines made: what it exists for, planted, must make it complain."""

import json

import pytest

from support.answers import Broken
from support.stream import Streamed
from support.witness import Exchange, check_spliced

# Of an answer of these pieces, each of which is the token of its place, the first engine made so many.
PIECES = ["The", " sea", "—", "grey", " and", " wide", "—", "was", " calm", ".", " Nobody", " was"]
SEAM = 7
BEGUN = {"text": "".join(PIECES[:SEAM]), "tokens": list(range(SEAM))}
PROMPT = 9


def record(piece, **more):
    return {"message": {"content": piece}, "done": False, **more}


def end(prompt, tokens):
    return record("") | {"done": True, "done_reason": "length", "prompt_eval_count": prompt, "eval_count": tokens}


END = end(PROMPT, len(PIECES))


def exchange(request, *records, cut=b""):
    made = Exchange()
    made.asked += b"POST /api/chat HTTP/1.1\r\n\r\n" + json.dumps(request).encode()
    made.told += b"HTTP/1.1 200 OK\r\n\r\n"
    for each in records:
        line = json.dumps(each).encode() + b"\n"
        made.told += b"%x\r\n%b\r\n" % (len(line), line)
    made.told += cut
    return made


def told(first, last):
    return [record(PIECES[token], jarvis={"tokens": [token]}) for token in range(first, last)]


def begin():
    """The part of the engine that dies; it takes half a record with it."""
    request = {"messages": [{"content": "?"}], "options": {"num_predict": len(PIECES)}}
    return exchange(request, *told(0, SEAM), cut=b'2f\r\n{"message":')


def go_on(begun=BEGUN, limit=len(PIECES) - SEAM):
    request = {"messages": [{"content": "?"}], "options": {"num_predict": limit}, "jarvis": {"continue": begun}}
    return exchange(request, *told(SEAM, len(PIECES)), end(PROMPT + SEAM, len(PIECES) - SEAM))


def check(records, *parts):
    answer = Streamed()
    for each in records:
        answer.take(json.dumps(each))
    check_spliced(answer, parts or (begin(), go_on()))


def shown(*pieces):
    return [*map(record, pieces), END]


def test_a_whole_answer_passes():
    check(shown(*PIECES))


def test_a_piece_that_is_dropped_or_doubled_is_seen():
    for at in range(len(PIECES)):
        for wrong in (PIECES[:at] + PIECES[at + 1 :], PIECES[: at + 1] + PIECES[at:]):
            with pytest.raises(Broken, match="shown"):
                check(shown(*wrong))


def test_going_on_from_anything_but_what_was_told_is_seen():
    text, tokens = BEGUN["text"], BEGUN["tokens"]
    wrong = [None, {}, {**BEGUN, "text": text[:-1]}, {**BEGUN, "text": text + "—"}]
    wrong += [{**BEGUN, "tokens": each} for each in (None, tokens[:-1], [*tokens, SEAM])]
    for begun in wrong:
        with pytest.raises(Broken, match="asked to go on from"):
            check(shown(*PIECES), begin(), go_on(begun))


def test_a_limit_that_forgets_what_was_used_is_seen():
    for limit in (len(PIECES), len(PIECES) - SEAM - 1, len(PIECES) - SEAM + 1):
        with pytest.raises(Broken, match="asked for"):
            check(shown(*PIECES), begin(), go_on(limit=limit))


def test_a_wrong_end_is_seen():
    records = list(map(record, PIECES))
    with pytest.raises(Broken, match="ended 0 times"):
        check(records)
    with pytest.raises(Broken, match="after the end"):
        check([*records, END, END])
    with pytest.raises(Broken, match="ended 1 times"):
        check([*records, {**END, "done_reason": "stop"}])
    for prompt, tokens in ((PROMPT + SEAM, len(PIECES)), (PROMPT, len(PIECES) - SEAM)):
        with pytest.raises(Broken, match="counted"):
            check([*records, end(prompt, tokens)])
    with pytest.raises(Broken, match="had ended"):
        check(shown(*PIECES), begin(), go_on(), go_on())


def test_an_answer_that_is_too_short_and_tokens_nobody_asked_for_are_seen():
    short = exchange(go_on().request, *told(SEAM, len(PIECES) - 1), end(PROMPT + SEAM, len(PIECES) - SEAM - 1))
    with pytest.raises(Broken, match="were allowed"):
        check([*map(record, PIECES[:-1]), end(PROMPT, len(PIECES) - 1)], begin(), short)
    with pytest.raises(Broken, match="nobody asked for"):
        check([*told(0, len(PIECES)), END])
