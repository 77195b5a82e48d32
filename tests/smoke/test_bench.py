"""Serving measured against a real HTTP server that streams as vLLM does, and honest verdicts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from blackwheel.commands import bench
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.smoke.bench import results, serving
from blackwheel.stacks import projects

SERVED = projects.load(Path(__file__).parents[2] / "patches", "vllm").serve or pytest.fail()
LOG_26 = """\
INFO [cuda.py:483] Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN'].
INFO [mxfp4.py:419] Using 'MARLIN' Mxfp4 MoE backend.
INFO [core.py:110] Initializing a V1 LLM engine with config: enforce_eager=False, x
INFO [gpu_model_runner.py:5348] Model loading took 13.72 GiB memory and 9.1 seconds
INFO [kv_cache_utils.py:2177] GPU KV cache size: 275,440 tokens
INFO [gpu_model_runner.py:6845] Graph capturing finished in 5 secs, took 0.61 GiB
"""
LOG_11 = """\
INFO [cuda.py:322] Using Triton backend on V1 engine.
INFO [mxfp4.py:98] Using Marlin backend
"""


class Model(BaseHTTPRequestHandler):
    """Streams as many tokens as it is asked for, or as `tokens` says."""

    tokens: ClassVar[int] = 0
    asked: ClassVar[list[dict[str, Any]]] = []
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        known = {
            "/v1/models": {"data": [{"id": SERVED.model}]},
            "/version": {"version": "0.26.0"},
        }
        body = json.dumps(known.get(self.path, {})).encode()
        self.send_response(200 if self.path in known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({**body, "key": self.headers.get("Authorization")})
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        count = self.tokens or body["max_tokens"]
        time.sleep(0.02)
        for _ in range(count):
            self.event({"choices": [{"text": "a"}]})
        time.sleep(0.02)
        self.event({"choices": [], "usage": {"completion_tokens": count}})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, value: object) -> None:
        self.chunk(f"data: {json.dumps(value)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@pytest.fixture
def server() -> Iterator[str]:
    Model.tokens, Model.asked = 0, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def refused(url: str, **options: Any) -> str:
    with pytest.raises(BlackwheelError) as error:
        serving.measure(
            url, console=Quiet(), **{"model": SERVED.model, "runs": 1, "tokens": 5, **options}
        )
    return str(error.value)


def test_each_run_counts_the_servers_own_tokens_after_one_request_that_warms_up(
    server: str,
) -> None:
    seen = serving.measure(
        server, model=SERVED.model, runs=3, tokens=7, key="secret", console=Quiet()
    )
    assert [run.tokens for run in seen.runs] == [7, 7, 7]
    assert all(0.02 <= run.first <= run.seconds - 0.015 for run in seen.runs)
    assert len(Model.asked) == 4
    assert {one["key"] for one in Model.asked} == {"Bearer secret"}
    assert all(one["ignore_eos"] and one["max_tokens"] == 7 for one in Model.asked)
    assert seen.server == {"server": server, "version": "0.26.0"}


def test_answer_of_fewer_tokens_is_no_measurement(server: str) -> None:
    Model.tokens = 3
    assert refused(server) == (
        "error: short-answer\n"
        "  3 of 5 tokens came\n"
        f"  where: {server}/v1/completions\n"
        "  fix:   a server that ignores `ignore_eos` or `stream_options` cannot be measured so"
    )


def test_another_model_than_the_served_one_is_refused(server: str) -> None:
    assert refused(server, model="other") == (
        "error: other-model\n"
        f"  {server} serves openai/gpt-oss-20b, not other\n"
        "  where: --model\n"
        "  fix:   --model openai/gpt-oss-20b"
    )


def test_nobody_at_the_address_is_said_with_the_page_that_starts_a_server() -> None:
    assert refused("http://127.0.0.1:9") == (
        "error: no-server\n"
        "  nobody answers there: ConnectionError\n"
        "  where: http://127.0.0.1:9/v1/models\n"
        "  fix:   start a server (docs/rtx5090.md has the line), and name it:"
        " --url http://HOST:PORT"
    )


def test_log_of_a_server_tells_what_decides_its_speed() -> None:
    assert serving.facts_of(LOG_26, SERVED.log) == {
        "attention backend": "FLASH_ATTN",
        "MoE backend": "MARLIN",
        "KV cache tokens": "275,440",
        "CUDA graphs": "5 secs, took 0.61 GiB",
        "eager mode": "False",
        "weights": "13.72 GiB",
    }
    old = serving.facts_of(LOG_11, SERVED.log)
    assert (old["attention backend"], old["MoE backend"]) == ("Triton", "Marlin")
    assert old["CUDA graphs"] == "the log does not say"


RESULT = results.Result(
    model="m",
    server={"attention backend": "FLASH_ATTN"},
    first_request_seconds=9.5,
    runs=(
        results.Run(tokens=200, seconds=0.767, first=0.02),
        results.Run(tokens=200, seconds=0.757, first=0.03),
    ),
)


def test_summary_has_the_reports_lines_then_mean_spread_and_why() -> None:
    assert "\n".join(results.summary(RESULT)) == (
        "Run 1: 200 tokens in 767 ms = 260.76 t/s\n"
        "Run 2: 200 tokens in 757 ms = 264.20 t/s\n"
        "mean 262.5 t/s, from 260.8 to 264.2, standard deviation 2.44\n"
        "first token after 25 ms (median); the first request took 9.5 s\n"
        "attention backend: FLASH_ATTN"
    )


def test_result_comes_back_from_its_json_and_nothing_else_passes_for_one() -> None:
    assert results.read(json.dumps(RESULT.document()), where="x") == RESULT
    with pytest.raises(BlackwheelError) as error:
        results.read('{"kind": "other"}', where="x.json")
    assert str(error.value) == (
        "error: bad-result\n"
        "  this is no result of a serving benchmark: model: Field required\n"
        "  where: x.json\n"
        "  fix:   nox -s bench -- serving --output FILE writes one;"
        " or name one of the report's: official, nightly"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (
            (100.0, 101.0, 99.0, 100.5),
            (100.2, 99.5, 100.9, 100.1),
            "no difference that rises above the noise: +0.1 % (rank test, z = 0.0)",
        ),
        (
            (110.0, 111.0, 109.0, 110.5),
            (100.2, 99.5, 100.9, 100.1),
            "faster: +10.1 % (rank test, z = 2.3)",
        ),
        ((90.0, 91.0, 89.5, 90.2), (260.8, 264.2), "slower: -65.7 % (the ranges do not overlap)"),
        (
            (262.0, 263.0, 261.0, 262.5),
            (260.8, 264.2),
            "no difference that rises above the noise: -0.1 % (the ranges overlap)",
        ),
    ],
)
def test_verdict_respects_the_noise(
    ours: tuple[float, ...], theirs: tuple[float, ...], told: str
) -> None:
    assert results.verdict(ours, theirs) == told


def test_against_takes_the_reports_names_or_a_file() -> None:
    assert results.other("nightly")[1] == (260.8, 264.2)
    with pytest.raises(BlackwheelError, match="no-such-result"):
        results.other("nightly.json")


def test_table_of_two_wheels_gives_the_ratio_of_every_case() -> None:
    times = {"median": 1.0, "low": 0.99, "high": 1.01}
    case = {"case": "b1 h1 q1 k1 d64", "bound_ms": 0.5, "times": {"wheel": times}, "failed": {}}
    launch = {"import": 1.0, "first": 0.1, "jit_cache_bytes": 0}
    head = {"device": "GPU", "capability": "9.0", "torch": "2.11.0", "matrix_tflops": 700.0}
    ours = {**head, "wheel": "2.8.3", "launch": launch, "cases": [case]}
    slow = {"median": 2.0, "low": 1.99, "high": 2.01}
    theirs = {
        **ours,
        "launch": {**launch, "first": 9.0},
        "cases": [{**case, "times": {"wheel": slow}}],
    }
    assert bench.attention_table("flash-attn", {"ours": [ours] * 3, "other": [theirs] * 3}) == (
        "GPU (9.0), torch 2.11.0, 700.0 TFLOP/s in a bf16 matrix product\n"
        "flash-attn 2.8.3: first launch 0.10 s, 0.10 s, 0.10 s; 0 bytes compiled from PTX\n"
        "the other  2.8.3: first launch 9.00 s, 9.00 s, 9.00 s; 0 bytes compiled from PTX\n"
        "b1 h1 q1 k1 d64: faster: +100.0 % (rank test, z = 3.6)"
    )
    assert bench.attention_table("flash-attn", {"ours": [ours]}).splitlines()[2] == (
        "b1 h1 q1 k1 d64: wheel 1.000 ms (50 %)"
    )
