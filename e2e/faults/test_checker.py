"""The checker itself: what it exists for, planted, must make it complain."""

import json

import pytest

from support.answers import Broken, Seen, check_count, wide

TEXT = "The sea—grey and wide—was calm. Nobody was there, nobody at all."
PIECES = [TEXT[at : at + 7] for at in range(0, len(TEXT), 7)]


def wire(pieces):
    """The events of an answer, offsets as a server that wrote these pieces would count them."""
    events, offset = [], 0
    for piece in pieces:
        events.append({"type": "delta", "generation_id": "g", "epoch": 1, "offset": offset, "text": piece})
        offset += len(piece.encode())
    return [*events, {"type": "done", "generation_id": "g", "offset": offset, "status": "done"}]


def check(events, kept=TEXT):
    seen = Seen("g")
    for event in json.loads(json.dumps(events)):
        seen.take(event)
    seen.check_kept(kept)
    return seen


def test_a_whole_answer_passes():
    assert check(wire(PIECES)).text == TEXT


def test_a_dropped_event_is_seen():
    events = wire(PIECES)
    for at in range(len(PIECES)):
        with pytest.raises(Broken, match="missing|the end says"):
            check(events[:at] + events[at + 1 :])


def test_a_doubled_event_is_seen():
    events = wire(PIECES)
    for at in range(len(PIECES)):
        with pytest.raises(Broken, match="come twice"):
            check(events[: at + 1] + events[at:])


def test_a_loss_that_the_offsets_hide_is_seen():
    for at in range(len(PIECES)):
        with pytest.raises(Broken, match="byte|never shown"):
            check(wire(PIECES[:at] + PIECES[at + 1 :]))
        with pytest.raises(Broken, match="byte|not kept"):
            check(wire(PIECES[: at + 1] + PIECES[at:]))


def test_a_change_an_end_too_early_and_a_second_end_are_seen():
    with pytest.raises(Broken, match="byte 4"):
        check(wire(PIECES), kept=TEXT.replace("sea", "See"))
    with pytest.raises(Broken, match="not kept"):
        check(wire(PIECES), kept=TEXT[:-1])
    with pytest.raises(Broken, match="never shown"):
        check(wire(PIECES), kept=TEXT + "!")
    with pytest.raises(Broken, match="after the end"):
        check([*wire(PIECES[:2]), *wire(PIECES)[2:]], kept=TEXT)
    with pytest.raises(Broken, match="second end"):
        check([*wire(PIECES), wire(PIECES)[-1]])


def test_the_count_is_checked_to_the_character():
    text = " ".join(wide(number) for number in range(1, 200))
    check_count(text, 199)
    for at in range(len(text)):
        for wrong in (text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:]):
            if wrong.split() != text.split():
                with pytest.raises(Broken):
                    check_count(wrong, 199)
    with pytest.raises(Broken, match="199 numbers"):
        check_count(text, 200)


@pytest.mark.parametrize("text", ["another", "sho", ""])
def test_a_resync_that_takes_back_what_was_shown_is_found(text):
    seen = Seen("g")
    seen.take({"type": "delta", "generation_id": "g", "epoch": 1, "offset": 0, "text": "shown"})
    resync = {"type": "resync", "generation_id": "g", "epoch": 2, "offset": 0}
    seen.take({**resync, "text": "shown and more"})
    assert seen.text == "shown and more"
    with pytest.raises(Broken):
        seen.take({**resync, "text": text})
