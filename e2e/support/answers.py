"""The checker of the first promise: what a reader was shown of an answer, byte by byte."""


class Broken(AssertionError):
    """An answer lost, doubled or changed something that had been shown."""


class Seen:
    """All that one reader was ever shown of one answer, over any number of connections."""

    def __init__(self, generation_id):
        self.generation_id = generation_id
        self.bytes = bytearray()
        # Whose bytes they are: an owner later on may have begun before them.
        self.epoch = None
        self.parts = 0
        self.end = None

    @property
    def text(self):
        return self.bytes.decode()

    def take(self, event):
        """Takes one event of the answer, as it stands on the wire."""
        if event.get("generation_id") != self.generation_id:
            return
        kind = event["type"]
        if kind == "delta":
            self.epoch = event["epoch"]
            self._append(event["offset"], event["text"])
        elif kind == "resync":
            self._replace(event)
        elif kind in ("done", "interrupted"):
            self._finish(event)

    def _append(self, offset, text):
        held = len(self.bytes)
        if self.end:
            raise Broken(f"text after the end: {text!r}")
        if offset > held:
            raise Broken(f"{offset - held} bytes are missing after byte {held}, before {text!r}")
        if offset < held:
            raise Broken(f"{held - offset} bytes come twice from byte {offset} on: {text!r}")
        self.bytes += text.encode()
        self.parts += 1

    def _replace(self, event):
        """Beginning anew is no loss where the new text begins with all that was shown."""
        text = event["text"].encode()
        if event["offset"] or not text.startswith(bytes(self.bytes)):
            raise Broken(f"the server asked to begin anew with another text: {event}")
        self.epoch, self.bytes = event["epoch"], bytearray(text)

    def _finish(self, event):
        if self.end:
            raise Broken(f"a second end: {event}")
        if event["type"] == "done" and event["offset"] != len(self.bytes):
            raise Broken(f"the end says {event['offset']} bytes, {len(self.bytes)} were shown")
        self.end = event

    def check_kept(self, kept):
        """`kept` is what the server holds now: it must begin with all that was shown, and at the end be it."""
        kept = kept.encode()
        for at, (shown, held) in enumerate(zip(self.bytes, kept)):
            if shown != held:
                around = slice(max(0, at - 20), at + 20)
                raise Broken(f"byte {at}: shown {bytes(self.bytes[around])!r}, kept {kept[around]!r}")
        if len(kept) < len(self.bytes):
            raise Broken(f"{len(self.bytes) - len(kept)} bytes that were shown are not kept")
        if self.end and len(kept) != len(self.bytes):
            raise Broken(f"{len(kept) - len(self.bytes)} bytes are kept that were never shown")


def check_count(text, last):
    """For the counting node: every number from 1 to `last` once, in order, none cut."""
    words = text.split()
    for expected, word in enumerate(words, start=1):
        if word != wide(expected):
            raise Broken(f"expected {wide(expected)}, found {word!r}")
    if len(words) != last:
        raise Broken(f"{len(words)} numbers in place of {last}")


def wide(number):
    """A number in digits of three bytes each, so that a cut inside a character shows."""
    return str(number).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
