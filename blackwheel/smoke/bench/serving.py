"""Measures tokens per second of an OpenAI-compatible server, as the report's user did."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import requests

from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.smoke.bench.results import Result, Run

RUNS, TOKENS = 10, 200
"""The report's: ten runs of 200 tokens."""
PROMPT: Final = "Write a story about a lighthouse keeper who builds a machine."
CONNECT_SECONDS, ANSWER_SECONDS = 10, 600


def facts_of(log: str, facts: Mapping[str, str]) -> dict[str, str]:
    """Find the settings in a server's log that decide its speed, each by the last hit."""
    found = {}
    for name, pattern in facts.items():
        hits = list(re.finditer(pattern, log, re.MULTILINE))
        found[name] = hits[-1][hits[-1].lastindex or 0].strip() if hits else "the log does not say"
    return found


def measure(
    url: str,
    *,
    model: str,
    runs: int = RUNS,
    tokens: int = TOKENS,
    log: Path | None = None,
    facts: Mapping[str, str] | None = None,
    key: str = "",
    console: Console,
) -> Result:
    """Ask a running server for `runs` answers of `tokens` tokens, one after the other.

    `facts` are what the log is searched for. Raises `no-server`, `server-refused` and
    `short-answer`: a rate of fewer tokens than were asked for would be compared with one of all.
    """
    base = url.rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    told = _about(base, model, headers)
    seen = []
    with console.stage("bench", f"{runs} runs of {tokens} tokens, {model}") as stage:
        warm = _answer(base, model, tokens, headers)
        for number in range(runs):
            stage.update(number, runs)
            seen.append(_answer(base, model, tokens, headers))
        stage.update(runs, runs)
    text = log.read_text(encoding="utf-8", errors="replace") if log else ""
    return Result(
        model=model,
        server={**told, **(facts_of(text, facts or {}) if log else {})},
        first_request_seconds=warm.seconds,
        runs=tuple(seen),
    )


def _about(base: str, model: str, headers: dict[str, str]) -> dict[str, str]:
    """What the server calls itself; and whether it serves that model at all."""
    listed = _got(f"{base}/v1/models", headers).json()
    served = [str(one.get("id")) for one in listed.get("data", [])]
    if model not in served:
        raise BlackwheelError(
            "other-model",
            f"{base} serves {', '.join(served) or 'nothing'}, not {model}",
            where="--model",
            fix=f"--model {served[0]}" if served else "start the server with a model",
            code=Exit.USAGE,
        )
    try:
        version = str(_got(f"{base}/version", headers).json()["version"])
    except (BlackwheelError, ValueError, KeyError):
        version = "the server does not say"
    return {"server": base, "version": version}


def _got(address: str, headers: dict[str, str]) -> requests.Response:
    try:
        answer = requests.get(address, headers=headers, timeout=(CONNECT_SECONDS, 60))
    except requests.RequestException as error:
        raise _no_server(address, error) from None
    return _accepted(answer)


def _accepted(answer: requests.Response) -> requests.Response:
    if answer.status_code != 200:
        raise BlackwheelError(
            "server-refused",
            f"it answered {answer.status_code}: {answer.text[:300]}",
            where=answer.url,
            fix="read the server's log",
            code=Exit.SMOKE,
        )
    return answer


def _no_server(address: str, error: Exception) -> BlackwheelError:
    return BlackwheelError(
        "no-server",
        f"nobody answers there: {type(error).__name__}",
        where=address,
        fix="start a server (docs/rtx5090.md has the line), and name it: --url http://HOST:PORT",
        code=Exit.SMOKE,
    )


def _answer(base: str, model: str, tokens: int, headers: dict[str, str]) -> Run:
    """One streamed answer; the tokens are those that the server counted."""
    asked = {
        "model": model,
        "prompt": PROMPT,
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,  # an answer that ends early would be another measurement
    }
    address = f"{base}/v1/completions"
    began, first, counted = time.monotonic(), 0.0, 0
    try:
        with requests.post(
            address,
            json=asked,
            headers=headers,
            stream=True,
            timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
        ) as answer:
            for piece in _events(_accepted(answer)):
                if not first and any(choice.get("text") for choice in piece.get("choices", [])):
                    first = time.monotonic() - began
                counted = (piece.get("usage") or {}).get("completion_tokens", counted)
    except requests.RequestException as error:
        raise _no_server(address, error) from None
    seconds = time.monotonic() - began
    if counted != tokens:
        raise BlackwheelError(
            "short-answer",
            f"{counted} of {tokens} tokens came",
            where=address,
            fix="a server that ignores `ignore_eos` or `stream_options` cannot be measured so",
            code=Exit.SMOKE,
        )
    return Run(tokens=counted, seconds=seconds, first=first)


def _events(answer: requests.Response) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines():
        text = line.decode("utf-8", errors="replace")
        if text.startswith("data: ") and text != "data: [DONE]":
            yield json.loads(text.removeprefix("data: "))
