"""Measures attention of wheels on this machine's GPU, and a served model (`nox -s bench`)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from blackwheel.core import process, records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.smoke.bench import results, serving
from blackwheel.stacks import projects

PROBE_SECONDS: Final = 900
ROUNDS: Final = 3


def bench_serving(
    site: Site,
    url: str,
    *,
    model: str,
    runs: int,
    tokens: int,
    log: Path | None,
    against: str,
    output: Path | None,
) -> None:
    """Measure a server; print its runs and the settings behind their speed; compare, keep."""
    other = results.other(against) if against else None
    served = next((one.serve for one in projects.known(site.patches).values() if one.serve), None)
    seen = serving.measure(
        url,
        model=model or (served.model if served else ""),
        runs=runs,
        tokens=tokens,
        log=log,
        facts=served.log if served else {},
        key=site.environment.get("OPENAI_API_KEY", ""),
        console=site.console,
    )
    site.console.result("\n".join(results.summary(seen)))
    if other:
        title, rates = other
        site.console.result(f"against {title}: {results.verdict(seen.rates, rates)}")
    if output:
        output.write_text(json.dumps(seen.document(), indent=1) + "\n", encoding="utf-8")
        site.console.say(f"bench: written to {output}")


def bench_attention(
    site: Site, environment: Path, *, against: Path | None, output: Path | None
) -> None:
    """Measure the wheel of an environment, beside torch's and Triton's attention, or another wheel.

    It is that of a project with a bench.py, which runs there.
    Two wheels run in turn, in processes of their own: a drift of the machine meets both.
    """
    python = environment.absolute() / "bin" / "python"
    probe = _probe_of(site, environment)
    with tempfile.TemporaryDirectory(prefix="blackwheel-bench-") as scratch:
        caches = {name: {"CUDA_CACHE_PATH": f"{scratch}/{name}"} for name in ("ours", "other")}
        if against is None:
            found: dict[str, Any] = {"ours": [_probe(site, probe, python, caches["ours"], ())]}
        else:
            overlay = Path(scratch) / "packages"
            words = ["--no-deps", "--quiet", "--python", str(python), "--target", str(overlay)]
            process.capture(
                [str(site.uv), "pip", "install", *words, str(against.absolute())],
                environment=site.environment,
                cwd=environment,
            )
            caches["other"]["PYTHONPATH"] = str(overlay)
            found = {"ours": [], "other": []}
            with site.console.stage("bench", "two wheels in turn") as stage:
                for number in range(ROUNDS):
                    stage.update(number, ROUNDS)
                    for name, rows in found.items():
                        rows.append(_probe(site, probe, python, caches[name], ("--only", "wheel")))
                stage.update(ROUNDS, ROUNDS)
    site.console.result(attention_table(probe.parent.name, found))
    if output:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        site.console.say(f"bench: written to {output}")


def _probe_of(site: Site, environment: Path) -> Path:
    """Return the bench.py of the project that is installed; raise `nothing-to-bench`."""
    for probe in sorted(site.patches.glob(f"*/{projects.BENCH}")):
        name = probe.parent.name.replace("-", "_")
        if any(environment.glob(f"lib/python3*/site-packages/{name}-*.dist-info")):
            return probe
    raise BlackwheelError(
        "nothing-to-bench",
        f"no wheel there is of a project with a {projects.BENCH}",
        where=str(environment),
        fix="nox -s bench -- attention --stack STACK: one that builds such a project",
        code=Exit.USAGE,
    )


def _probe(
    site: Site, probe: Path, python: Path, variables: Mapping[str, str], options: Sequence[str]
) -> dict[str, Any]:
    """Run the probe once in a process of its own."""
    kept = ("PATH", "HOME", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
    environment = {name: site.environment[name] for name in kept if name in site.environment}
    environment |= {"LC_ALL": "C.UTF-8", **variables}
    argv = [str(python), "-s", "-P", str(probe), *options]
    done = process.capture_within(PROBE_SECONDS, argv, environment=environment, cwd=python.parent)
    try:
        if done.code == 0:
            return records.last_of(done.stdout, dict[str, Any])
        fact, fix = done.end, "invoke doctor names the GPU and the driver; a bench needs both"
    except records.NotARecordError as error:
        fact = f"what it printed last is not its answer: {error}"
        fix = "run it alone: python patches/PROJECT/bench.py"
    raise BlackwheelError("bench-failed", fact, where=str(probe), fix=fix, code=Exit.SMOKE)


def attention_table(project: str, found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Return the table: milliseconds and share of the device's bound, or a ratio."""
    first = found["ours"][0]
    head = [
        f"{first['device']} ({first['capability']}), torch {first['torch']},"
        f" {first['matrix_tflops']} TFLOP/s in a bf16 matrix product",
        _launched(project, found["ours"]),
    ]
    if "other" in found:
        return "\n".join([*head, _launched("the other ", found["other"]), *_ratios(found)])
    return "\n".join([*head, *_shares(first)])


def _launched(name: str, rows: Sequence[dict[str, Any]]) -> str:
    launches = [row["launch"] for row in rows]
    told = ", ".join(f"{launch['first']:.2f} s" for launch in launches)
    return (
        f"{name} {rows[0]['wheel']}: first launch {told};"
        f" {launches[-1]['jit_cache_bytes']} bytes compiled from PTX"
    )


def _shares(row: dict[str, Any]) -> list[str]:
    lines = []
    for case in row["cases"]:
        parts = [
            f"{name} {seen['median']:.3f} ms ({100 * case['bound_ms'] / seen['median']:.0f} %)"
            for name, seen in case["times"].items()
        ]
        parts += [f"{name}: {why}" for name, why in case["failed"].items()]
        lines.append(f"{case['case']}: {', '.join(parts)}")
    return [*lines, "in brackets: share of what the device's matrix or copy rate allows"]


def _ratios(found: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    lines = []
    for number, case in enumerate(found["ours"][0]["cases"]):
        rates = {
            name: [1 / value for row in rows for value in _times(row["cases"][number])]
            for name, rows in found.items()
        }
        lines.append(f"{case['case']}: {results.verdict(rates['ours'], rates['other'])}")
    return lines


def _times(case: dict[str, Any]) -> list[float]:
    seen = case["times"]["wheel"]
    return [seen["low"], seen["median"], seen["high"]]
