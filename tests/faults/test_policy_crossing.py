"""No answer reaches the wrong question: ten thousand of them, delayed and shuffled, while clients go away in between."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from decisionlog import DecisionLog, check_counts
from harness import wire
from harness.contract import pb
from harness.daemon import Daemon
from harness.rawclient import RawClient
from rawpolicy import Call, RawPolicy

CONNECTIONS, AT_ONCE, ATTEMPTS = 300, 100, 48
QUESTIONS = 10_000
GUESSES = ("ValidatePassword", "GetKbdintChallenge", "ValidateKbdintResponse")
MANY = ("--max-failures", "1000", "--max-requests", "1000")
ANSWERS = {
    "ConnectionMade": pb.ConnectionMadeAnswer(allow=pb.Allow()),
    "AuthCompleted": pb.AuthCompletedAnswer(allow=pb.Allow()),
    "ConnectionLost": pb.Ack(),
    "SessionRequested": pb.SessionAnswer(accept=pb.Accept()),
}


class Oracle:
    """Answers each question with words that only its asker may hear, after a random time."""

    def __init__(self) -> None:
        self.random = random.Random(14)
        self.order: list[int] = []  # numbers of the questions, as they were answered
        self.asked = 0
        self.wrong: list[str] = []

    async def answer(self, call: Call) -> None:
        context = call.request.context
        if call.name == "BeginAuth":
            state = pb.Common(state=f"{context.connection_id} {context.user}".encode())
            methods = pb.Methods(methods=[pb.AUTH_METHOD_PASSWORD, pb.AUTH_METHOD_KEYBOARD_INTERACTIVE])
            await call.answer(pb.BeginAuthAnswer(common=state, requirement=pb.REQUIREMENT_REQUIRED, methods=methods).SerializeToString())
            return
        if call.name not in GUESSES:
            await call.answer(ANSWERS[call.name].SerializeToString())
            return
        self.asked += 1
        number = self.asked
        if context.state != f"{context.connection_id} {context.user}".encode():
            self.wrong.append(f"state {context.state!r} in a question of {context.connection_id}")
        await asyncio.sleep(self.random.expovariate(20))
        self.order.append(number)
        if call.name == "GetKbdintChallenge":
            prompt = pb.Prompt(text=f"{context.user} {call.request.submethods}")
            await call.answer(pb.KbdintAnswer(challenge=pb.Challenge(prompts=[prompt])).SerializeToString())
            return
        if call.name == "ValidateKbdintResponse":
            deny = pb.Deny(message=f"{context.user} may not: {call.request.responses[0]}")
            await call.answer(pb.KbdintAnswer(deny=deny).SerializeToString())
            return
        if call.request.password == f"key of {context.user}" and context.user.startswith("good"):
            answer = pb.PasswordAnswer(allow=pb.Allow())
        else:
            answer = pb.PasswordAnswer(deny=pb.Deny(message=f"{context.user} may not: {call.request.password}"))
        await call.answer(answer.SerializeToString())


def guess(client: RawClient, user: str, secret: str, leave: bool) -> None:
    """Every third one in a dialogue, whose prompt is for this attempt only."""
    if secret[-1] in "012":
        prompt = client.ask(client.kbdint_message(user, submethods=secret))
        assert prompt.type == wire.INFO_REQUEST
        assert (prompt.string(), prompt.string(), prompt.string(), prompt.u32()) == (b"", b"", b"", 1)
        assert prompt.string().decode() == f"{user} {secret}"
        client.send(client.responses_message(secret))
    else:
        client.send(client.password_message(user, secret))
    if not leave:
        assert client.verdict().type == wire.USERAUTH_FAILURE, f"{user} is in with {secret}"


def attend(port: int, number: int) -> str:
    """One client: wrong passwords, each with the words meant for it, and at the end the one that lets in good users only."""
    chance = random.Random(number)
    user = f"{'good' if number % 2 else 'bad'}-{number}"
    leaves = chance.randrange(ATTEMPTS) if number % 3 == 0 else None
    client = RawClient(port)
    try:
        client.service()
        for attempt in range(ATTEMPTS):
            password = f"{number}.{attempt}.{chance.random()}"
            guess(client, user, password, leave=attempt == leaves)
            if attempt == leaves:
                return "left"  # its question is on the way
            words, client.banners = client.banners, []
            assert [each.strip() for each in words] == [f"{user} may not: {password}"], (user, password, words)
        let_in = client.try_password(user, f"key of {user}").type == wire.USERAUTH_SUCCESS
        assert let_in == user.startswith("good"), user
        if let_in:
            client.open()
        return "in" if let_in else "refused"
    finally:
        client.close()


def test_t14_no_answer_reaches_the_wrong_question(work: Path, start_daemon: Callable[..., Daemon]) -> None:
    oracle = Oracle()
    with RawPolicy(f"unix:{work}/policy.sock", oracle.answer):
        daemon = start_daemon(*MANY)
        log = DecisionLog(daemon)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ends = list(pool.map(lambda number: attend(daemon.port, number), range(CONNECTIONS)))
        assert not oracle.wrong, oracle.wrong[:5]
        assert oracle.asked >= QUESTIONS and ends.count("left") == CONNECTIONS // 3, (oracle.asked, ends.count("left"))
        assert ends.count("in") == len([n for n in range(CONNECTIONS) if n % 2 and n % 3]), ends.count("in")
        swapped = sum(a > b for a, b in zip(oracle.order, oracle.order[1:]))
        assert swapped > len(oracle.order) // 4, "the answers were not shuffled"
        logins = daemon.events("login")
        assert len(logins) == ends.count("in") and all(line["user"].startswith("good") for line in logins)
        check_counts(daemon, log)
