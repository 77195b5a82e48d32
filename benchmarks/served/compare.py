"""Asks servers as users do, standard library only.

compare.py tokens URL URL MODEL   greedy tokens of two servers, side by side
compare.py first URL MODEL        seconds of the very first requests
compare.py forced URL URL MODEL   log probabilities that two servers give the same texts
compare.py load URL MODEL         long prompts, and 32 requests at once

Other attention kernels round otherwise: greedy tokens may part where the two best are closer than
that. So where they part, both servers' log probabilities of the two tokens must differ by less than
`NEAR`; after it they write different texts, and nothing is compared.
"""

# ruff: noqa: T201, S310  a script for the terminal; its addresses are typed

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

NEAR = 0.15
"""bf16 keeps 8 bits: logits of 8 to 16 are 0.06 apart, and 24 layers add to that."""
PROMPTS = [
    "The lighthouse keeper built a machine of brass and salt.",
    "def area(radius):\n    return 3.14159 * radius ** 2\n",
    "0123456789" * 30,
    "In the beginning there was a compiler, and the compiler was with flags. " * 25,
    "Zwei Boote liegen im Hafen, eines rot, eines blau. " * 80,
]


def asked(url: str, model: str, prompt: str, tokens: int, **more: object) -> dict:
    """Complete a prompt greedily, without an end before `tokens`."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        **more,
    }
    request = Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=300) as answer:
        return json.load(answer)


def tokens(one: str, other: str, model: str) -> bool:
    """Print where two servers part; tell whether each parting is within rounding."""
    fine = True
    for prompt in PROMPTS:
        both = [
            asked(url, model, prompt, 64, logprobs=5)["choices"][0]["logprobs"]
            for url in (one, other)
        ]
        first, second = (answer["tokens"] for answer in both)
        same = next(
            (n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
            len(first),
        )
        line = f"prompt of {len(prompt.encode())} tokens: {same} of {len(first)} equal"
        deepest = max(
            (
                abs(a - b)
                for a, b in zip(*(one["token_logprobs"][:same] for one in both), strict=True)
            ),
            default=0.0,
        )
        line += f", log probabilities of these at most {deepest:.4f} apart"
        if same < len(first):
            gaps = []
            for answer in both:
                best = answer["top_logprobs"][same]
                gaps.append(abs(best.get(first[same], 9.0) - best.get(second[same], -9.0)))
            near = max(gaps) < NEAR
            fine = fine and near
            line += f"; the two that part are {gaps[0]:.4f} and {gaps[1]:.4f} apart:"
            line += " rounding" if near else " DIFFERENT"
        print(line)
    return fine


def forced(one: str, other: str, model: str) -> None:
    """Print how far apart two servers' log probabilities of given texts are, token by token."""
    apart: list[float] = []
    best = 0
    for prompt in PROMPTS:
        both = [
            asked(url, model, prompt, 1, prompt_logprobs=1)["choices"][0]["prompt_logprobs"][1:]
            for url in (one, other)
        ]
        given = prompt.encode()[1:]
        for byte, mine, theirs in zip(given, *both, strict=True):
            mine_best, their_best = (
                max(place, key=lambda token: place[token]["logprob"]) for place in (mine, theirs)
            )
            best += mine_best == their_best
            apart.append(abs(mine[str(byte)]["logprob"] - theirs[str(byte)]["logprob"]))
    apart.sort()
    middle, high = apart[len(apart) // 2], apart[len(apart) * 99 // 100]
    print(
        f"{len(apart)} given tokens: log probabilities apart by {sum(apart) / len(apart):.4f} on"
        f" average, {middle:.4f} median, {high:.4f} of 99 %, {apart[-1]:.4f} at most;"
        f" the likeliest token is the same in {best / len(apart):.1%}"
    )


def first(url: str, model: str) -> None:
    """Print seconds of the first requests, one after another."""
    for length in (60, 60, 1000):
        began = time.monotonic()
        asked(url, model, ("A first sentence. " * 60)[:length], 16)
        print(f"request of {length} tokens, 16 made: {time.monotonic() - began:.3f} s")


def load(url: str, model: str) -> None:
    """Print seconds of long prompts, and tokens a second of 32 requests at once."""
    for length in (8000, 32000):
        text = (f"{length} bytes of sea. " * 3000)[:length]
        seconds = []
        for number in range(3):
            began = time.monotonic()
            asked(url, model, f"{number}{text}"[:length], 1)
            seconds.append(time.monotonic() - began)
        print(f"prompt of {length} tokens, first token: {' '.join(f'{s:.3f}' for s in seconds)} s")
    for _ in range(2):
        began = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            prompts = [f"Story {number}: {PROMPTS[0]}" for number in range(32)]
            done = list(pool.map(lambda one: asked(url, model, one, 200), prompts))
        seconds_all = time.monotonic() - began
        made = sum(one["usage"]["completion_tokens"] for one in done)
        rate = f"{made / seconds_all:.0f} t/s"
        print(f"32 requests at once: {made} tokens in {seconds_all:.2f} s, {rate}")


if __name__ == "__main__":
    if sys.argv[1] == "tokens":
        sys.exit(0 if tokens(*sys.argv[2:5]) else 1)
    if sys.argv[1] == "forced":
        sys.exit(forced(*sys.argv[2:5]))
    (first if sys.argv[1] == "first" else load)(*sys.argv[2:4])
