"""Engines are killed while they answer, again and again and at any moment of it. What was shown stands, and the answer goes
on."""

import os
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle

import pytest

from support.cluster import EXACT, LIMIT, RESUMED, Cluster
from support.stream import CHAT, COMPLETIONS, GENERATE, once
from support.witness import Witness, check_spliced

# `scripts/chaos/engine` raises them; half of them hit engines of one slot.
KILLS = int(os.environ.get("JARVIS_TEST_KILLS", "6"))
SEED = int(os.environ.get("JARVIS_TEST_SEED") or random.SystemRandom().randrange(1 << 32))

# Each is answered at greater length than anybody here reads.
QUESTIONS = (
    "Write a very long story about a lighthouse keeper and the sea. Tell it chapter by chapter, in detail.",
    "Explain in detail how bread is made, from the field to the table.",
    "Describe a walk through an old town on a rainy morning, street by street.",
    "Write a long letter to a friend about a journey over the mountains.",
    "Write a long list of animals and say something about each of them.",
    "Tell the history of the bicycle from its beginnings until today, in detail.",
    "Explain in detail why the sky is blue, why leaves are green and why snow is white.",
    "Write a long conversation between a cat and a dog about their neighbours.",
)


class Reader:
    """Somebody who reads one answer, and remembers when they were shown how much of it."""

    def __init__(self, dialect, question):
        self.dialect = dialect
        self.question = question
        self.text = ""
        self.shown = []
        # What they had been shown when an engine was killed.
        self.held = ""

    def read(self, cluster, watch=None):
        def look(answer):
            if len(answer.text) > len(self.text):
                self.text = answer.text
                self.shown.append((time.monotonic(), len(answer.text)))
            if watch:
                watch(answer)

        self.answer = cluster.read(self.dialect, look, self.question)


class Run:
    """Kills, one after the other, and what came of them."""

    def __init__(self, servers, *engine_args):
        self.random = random.Random(SEED)
        self.dialects = cycle((CHAT, GENERATE, COMPLETIONS))
        self.exchanges = []
        self.engines = [Witness(servers.start("engine", *engine_args), self.exchanges) for _ in range(2)]
        self.cluster = Cluster(servers, self.engines, JARVIS_BALANCER_PROBE_SECONDS="1")
        self.kills = self.late = self.cut = 0
        self.gaps = []

    def close(self):
        for engine in self.engines:
            engine.close()

    def readers(self, count):
        return [Reader(next(self.dialects), question) for question in self.random.sample(QUESTIONS, count)]

    def round(self, count):
        """So many read at once; at a random moment of the first one's answer its engine is killed."""
        readers = self.readers(count)
        self.exchanges.clear()
        resumed = self.cluster.count(RESUMED)
        self.killed = None
        self.read(readers, self.random.randrange(1, LIMIT))
        cut = [reader for reader in readers if self.check(reader)]
        assert self.cluster.count(RESUMED) - resumed == len(cut)
        self.cut += len(cut)
        if self.killed:
            self.kills += bool(cut)
            self.late += not cut
            self.killed.restart()
            self.cluster.wait_up("the engine to be back")
        return readers

    def read(self, readers, moment):
        first, *others = readers

        def kill(answer):
            for reader in readers:
                reader.held = reader.text
            self.killed, self.died = self.cluster.engine(answer.node), time.monotonic()
            self.killed.kill()

        with ThreadPoolExecutor(len(readers)) as pool:
            reading = [pool.submit(reader.read, self.cluster) for reader in others]
            first.read(self.cluster, once(lambda _: len(first.shown) >= moment, kill))
            for each in reading:
                each.result()

    def check(self, reader):
        """Whether the answer was cut and went on."""
        parts = [exchange for exchange in self.exchanges if exchange.question == reader.question]
        check_spliced(reader.answer, parts)
        begun = parts[-1].begun
        if begun:
            assert begun["text"].startswith(reader.held)
            later = [when for when, length in reader.shown if length > len(begun["text"])]
            self.gaps += [when - self.died for when in later[:1]]
        return bool(begun)

    def report(self):
        median, longest = statistics.median(self.gaps), max(self.gaps)
        print(f"{self.kills} kills in mid-answer and {self.late} too late: {self.cut} answers cut, {self.cut} went on,")
        print(f"the next character after {median:.2f} s (median), {longest:.2f} s at most; JARVIS_TEST_SEED={SEED}")


@pytest.mark.timeout(60 + 15 * KILLS)
def test_killed_engines_of_one_slot_leave_the_answer_what_it_would_have_been(servers):
    whole = {}
    with closing(Run(servers, *EXACT)) as run:
        while run.kills < (KILLS + 1) // 2:
            (reader,) = run.round(1)
            key = reader.dialect.path, reader.question
            if key not in whole:
                whole[key] = run.cluster.undisturbed(reader.dialect, reader.question)
            reader.answer.check_same(whole[key])
        run.report()


@pytest.mark.timeout(60 + 15 * KILLS)
def test_killed_engines_with_several_answers_at_once_lose_and_double_nothing(servers):
    with closing(Run(servers)) as run:
        while run.kills < max(1, KILLS // 2):
            run.round(4)
        run.report()
