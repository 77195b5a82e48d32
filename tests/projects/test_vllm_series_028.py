"""The series for vLLM 0.28.0, asked of the real files: FlashInfer's switch above all."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from checkout import git, site_with

from blackwheel.sources import sdist
from blackwheel.stacks.records import SdistPin

pytestmark = pytest.mark.network

SERIES: Final = Path(__file__).parents[2] / "patches" / "vllm" / "0.28.0"
VLLM: Final = SdistPin(
    name="vllm-0.28.0.tar.gz",
    sha256="ac96dd0ec5be9c13f2aa4bfb50498c4727110406f6e4980b58a4097e4d18634a",
    size=39991441,
    tree="5a2e6759f34bd272c2628435d6f03d9c1a5c3606",
)
FLASHINFER: Final = SdistPin(
    name="flashinfer_python-0.6.16.post3.tar.gz",
    sha256="9b146cfcc1454c80f3f99444db48013b3eadaeb32f2a399bd76c9471ecb72f04",
    size=11076656,
    tree="0" * 40,
)
"""The release that vLLM 0.28.0 requires."""
SWITCH: Final = "vllm/utils/flashinfer.py"
BACKEND: Final = "vllm/v1/attention/backends/flashinfer.py"
SAMPLER: Final = "vllm/v1/sample/ops/topk_topp_sampler.py"
KIMI: Final = "vllm/models/kimi_k3/nvidia/kda.py"
SCALAR_TYPE: Final = "csrc/core/scalar_type.hpp"
FILES: Final = (SWITCH, BACKEND, SAMPLER, KIMI, SCALAR_TYPE)

STUBS: Final = {
    "torch/__init__.py": """
bfloat16, float16, uint8, Tensor, dtype = 'bfloat16', 'float16', 'uint8', object, object
def _register(*a, **k):
    return lambda function: function
class library:
    custom_op = register_fake = staticmethod(_register)
""",
    "requests/__init__.py": """
import os
def get(address, timeout):
    print('asked the network')
    if os.environ['NETWORK'] != 'yes':
        raise OSError('no network')
    class Answer:
        status_code = 200
    return Answer()
""",
    "vllm/__init__.py": "",
    "vllm/envs.py": "VLLM_HAS_FLASHINFER_CUBIN = VLLM_BATCH_INVARIANT = False\n",
    "vllm/logger.py": """
class Logger:
    def __getattr__(self, name):
        return lambda text, *words: None if name.startswith('debug') else print(text % words)
def init_logger(name):
    return Logger()
""",
    "vllm/platforms.py": """
import os
FAMILY = int(os.environ['FAMILY'])
class current_platform:
    fp8_dtype = staticmethod(lambda: 'fp8')
    is_device_capability = staticmethod(lambda capability: capability == FAMILY)
    is_device_capability_family = staticmethod(lambda family: family == FAMILY)
""",
    "vllm/config.py": """
import os
class Model:
    get_num_attention_heads = staticmethod(lambda parallel: int(os.environ.get('HEADS', '64')))
    get_num_kv_heads = staticmethod(lambda parallel: 8)
class Config:
    model_config, parallel_config = Model, None
    speculative_config = os.environ.get('SPECULATES') or None
def get_current_vllm_config():
    return Config
""",
    "vllm/utils/__init__.py": "",
    "vllm/utils/math_utils.py": "cdiv = None\n",
    "vllm/utils/torch_utils.py": "direct_register_custom_op = lambda **words: None\n",
    "flashinfer/__init__.py": "",
    "flashinfer/decode.py": "xqa_batch_decode_with_kv_cache = lambda: 'ran'\n",
    "flashinfer_python-0.6.16.post3.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: flashinfer-python\nVersion: 0.6.16.post3\n"
    ),
}
"""What the switch imports: as little of it as it asks."""
JIT_CACHE: Final = """
from pathlib import Path
__version__ = {version!r}
get_jit_cache_dir = lambda: str(Path(__file__).parent / 'jit_cache')
"""
ANSWERS: Final = """
import contextlib, io, json, sys
said = io.StringIO()
with contextlib.redirect_stdout(said):
    import vllm.utils.flashinfer as switch
    answers = [eval(question, vars(switch)) for question in json.loads(sys.argv[1])]
print(json.dumps([answers, said.getvalue()]))
"""


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """Files of the release as they came, and with the series."""

    pristine: Path
    patched: Path


def unpacked(pin: SdistPin, wanted: Sequence[str], folder: Path) -> Path:
    """Take files out of a release's sdist."""
    archive = sdist.obtain(site_with(folder), pin, project=pin.name)
    for entry in sdist.entries(archive, lambda path: path in wanted):
        path = folder / "tree" / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data)
    return folder / "tree"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    folder = tmp_path_factory.mktemp("vllm")
    tree = unpacked(VLLM, FILES, folder)
    patched = folder / "patched"
    for name in FILES:
        (patched / name).parent.mkdir(parents=True, exist_ok=True)
        (patched / name).write_bytes((tree / name).read_bytes())
    git(patched, "init", "--quiet")
    for name in (SERIES / "series").read_text(encoding="utf-8").split():
        git(patched, "apply", *(f"--include={file}" for file in FILES), str(SERIES / name))
    return Upstream(pristine=tree, patched=patched)


class Machine:
    """A Python with FlashInfer, and perhaps a package of compiled modules, nvcc or a network."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self.site = folder / f"site-{tree.name}"
        for name, text in {**STUBS, SWITCH: (tree / SWITCH).read_text("utf-8")}.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.path = folder / "bin"
        self.path.mkdir(exist_ok=True)

    def with_nvcc(self) -> Machine:
        (self.path / "nvcc").write_text("#!/bin/sh\n")
        (self.path / "nvcc").chmod(0o755)
        return self

    def with_package(self, *modules: str, version: str = "0.6.16.post3+cu130") -> Machine:
        package = self.site / "flashinfer_jit_cache"
        for module in modules:
            library = package / "jit_cache" / module / f"{module}.so"
            library.parent.mkdir(parents=True)
            library.touch()
        (package / "__init__.py").write_text(JIT_CACHE.format(version=version), encoding="utf-8")
        return self

    def answers(self, *questions: str, **variables: str) -> tuple[list[Any], str]:
        """Return what the switch answers, and what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", ANSWERS, json.dumps(questions)],
            env={"PATH": str(self.path), "PYTHONPATH": str(self.site), "FAMILY": "120"}
            | {"NETWORK": "no", **variables},
            check=True,
            capture_output=True,
            text=True,
        )
        answers, said = json.loads(done.stdout)
        return answers, said


@pytest.fixture
def machine(upstream: Upstream, tmp_path: Path) -> Machine:
    return Machine(tmp_path, upstream.patched)


def constant(upstream: Upstream, name: str) -> tuple[str, ...]:
    """Return one of the tuples of module names that the patched switch holds."""
    tree = ast.parse((upstream.patched / SWITCH).read_text("utf-8"))
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("FLASHINFER_S"):
            exec(ast.unparse(node), names)  # noqa: S102  a pinned file's own constants
    found: tuple[str, ...] = names[name]
    return found


def function(path: Path, name: str, namespace: Mapping[str, Any]) -> Any:
    """Compile one function of a file that cannot be imported here."""
    tree = ast.parse(path.read_text("utf-8"))
    (found,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name]
    found.decorator_list = []
    for argument in found.args.args:
        argument.annotation = None
    found.returns = None
    names = dict(namespace)
    exec(compile(ast.Module([found], []), str(path), "exec"), names)  # noqa: S102  it is asked
    return names[name]


SINKS: Final = "has_flashinfer(*FLASHINFER_SINKS)"
DECODE: Final = "supports_trtllm_attention(is_prefill=False)"
PREFILL: Final = "supports_trtllm_attention(is_prefill=True)"


def test_a_complete_package_gives_sinks_without_nvcc_and_without_the_network(
    machine: Machine, upstream: Upstream
) -> None:
    machine.with_package(*constant(upstream, "FLASHINFER_SINKS"))
    questions = (SINKS, DECODE, PREFILL, "flashinfer_xqa_batch_decode_with_kv_cache()")
    assert machine.answers(*questions) == ([True, True, False, "ran"], "")


def test_what_a_package_does_not_hold_is_not_promised(machine: Machine, upstream: Upstream) -> None:
    """Everything behind the plain question would be compiled: fp8, MoE, RoPE."""
    machine.with_package("sampling", *constant(upstream, "FLASHINFER_SINKS"))
    asked = ("has_flashinfer(*FLASHINFER_SAMPLING)", "has_flashinfer(*FLASHINFER_TOPK)")
    asked += ("has_flashinfer(*FLASHINFER_NVFP4)", "has_flashinfer()")
    assert machine.answers(*asked)[0] == [True, False, False, False]


def test_a_package_that_lacks_one_module_is_refused(machine: Machine, upstream: Upstream) -> None:
    sinks = constant(upstream, "FLASHINFER_SINKS")
    assert len(sinks) == 4
    machine.with_package(*sinks)
    folder = machine.site / "flashinfer_jit_cache" / "jit_cache"
    (folder / "elsewhere").mkdir()
    for module in sinks:
        library = folder / module / f"{module}.so"
        aside = folder / "elsewhere" / library.name  # FlashInfer does not look there
        library.rename(aside)
        assert machine.answers(SINKS, DECODE)[0] == [False, False], module
        aside.rename(library)
    assert machine.answers(SINKS, DECODE)[0] == [True, True]


@pytest.mark.parametrize("version", ["0.6.16+cu130", "0.6.16.post30+cu130", "0.6.17", "0.6.1"])
def test_a_package_of_another_version_is_refused_and_named(
    machine: Machine, upstream: Upstream, version: str
) -> None:
    machine.with_package(*constant(upstream, "FLASHINFER_SINKS"), version=version)
    answers, said = machine.answers(SINKS, DECODE)
    assert answers == [False, False]
    assert said == f"flashinfer-jit-cache {version} is not of FlashInfer 0.6.16.post3: not used\n"


@pytest.mark.parametrize("family", ["90", "100", "120"])
@pytest.mark.parametrize("network", ["yes", "no"])
def test_with_nvcc_and_no_package_nothing_changes(
    upstream: Upstream, tmp_path: Path, family: str, network: str
) -> None:
    questions = ("has_flashinfer()", DECODE, PREFILL)
    questions += ("flashinfer_xqa_batch_decode_with_kv_cache()", "has_flashinfer_comm()")
    before, after = (
        Machine(tmp_path, tree).with_nvcc().answers(*questions, FAMILY=family, NETWORK=network)
        for tree in (upstream.pristine, upstream.patched)
    )
    assert before[0] == after[0]
    assert before[0][:2] == [True, network == "yes"]


def test_a_network_is_no_compiler(upstream: Upstream, tmp_path: Path) -> None:
    """Upstream says yes here, and the first decode step raises."""
    before, after = (
        Machine(tmp_path, tree).answers("has_flashinfer()", DECODE, NETWORK="yes")
        for tree in (upstream.pristine, upstream.patched)
    )
    assert (before[0], after[0]) == ([False, True], [False, False])


HEAD_SIZE: Final = "the AOT package of FlashInfer has sinks for head size 64 and bf16 only"
SHAPE: Final = (
    "without nvcc, the AOT package of FlashInfer has sinks for bf16, 8 query"
    " heads to a KV head, pages of 16 and no speculative decoding only"
)


@pytest.mark.parametrize(
    ("model", "variables", "refused", "refused_with_nvcc"),
    [
        ("64, torch.bfloat16, 'auto', 16", {}, None, None),
        ("64, torch.bfloat16, None, None", {}, None, None),
        ("128, torch.bfloat16, 'auto', 16", {}, HEAD_SIZE, HEAD_SIZE),
        ("64, torch.bfloat16, 'fp8', 16", {}, HEAD_SIZE, HEAD_SIZE),
        ("64, torch.float16, 'auto', 16", {}, SHAPE, None),
        ("64, torch.bfloat16, 'auto', 32", {}, SHAPE, None),
        ("64, torch.bfloat16, 'auto', 16", {"HEADS": "32"}, SHAPE, None),
        ("64, torch.bfloat16, 'auto', 16", {"SPECULATES": "eagle"}, SHAPE, None),
    ],
)
def test_a_model_that_the_package_does_not_serve_gets_no_sinks_of_it(
    machine: Machine,
    upstream: Upstream,
    model: str,
    variables: dict[str, str],
    refused: str | None,
    refused_with_nvcc: str | None,
) -> None:
    question = f"flashinfer_aot_sinks_misfit({model})"
    assert machine.answers(question, **variables)[0] == [None], "without a package all is compiled"
    machine.with_package(*constant(upstream, "FLASHINFER_SINKS"))
    assert machine.answers(question, **variables)[0] == [refused]
    machine.with_nvcc()
    assert machine.answers(question, **variables)[0] == [refused_with_nvcc]


@pytest.mark.parametrize(
    ("has_sink", "major", "asked"), [(True, 12, 1), (False, 12, 0), (True, 10, 0)]
)
def test_the_backend_asks_for_models_with_sinks_on_12_only(
    upstream: Upstream, has_sink: bool, major: int, asked: int
) -> None:
    calls: list[tuple[Any, ...]] = []

    def misfit(*words: Any) -> str:
        calls.append(words)
        return "no"

    method = function(
        upstream.patched / BACKEND, "supports_combination", {"flashinfer_aot_sinks_misfit": misfit}
    )
    capability = SimpleNamespace(major=major)
    found = method(None, 64, "bf16", "auto", 16, False, has_sink, False, False, capability)
    assert (found, calls) == ("no" if asked else None, [(64, "bf16", "auto", 16)] * asked)


@pytest.mark.parametrize("there", [True, False])
def test_the_sampler_asks_before_the_first_request(upstream: Upstream, there: bool) -> None:
    said: list[str] = []
    backend = SimpleNamespace(supports_compute_capability=lambda capability: True)
    platform = SimpleNamespace(is_cuda=lambda: True, get_device_capability=lambda: "12.0")
    logger = SimpleNamespace(
        info_once=lambda text, **words: said.append(text),
        warning_once=lambda text, reason: said.append(text % reason),
    )
    switch = {"FLASHINFER_SAMPLING": ("sampling",), "has_flashinfer": lambda *modules: there}
    envs = SimpleNamespace(VLLM_USE_FLASHINFER_SAMPLER=True, is_set=lambda name: False)
    with pytest.MonkeyPatch.context() as patch:
        place = "vllm.v1.attention.backends.flashinfer"
        for name in ("vllm", "vllm.v1", "vllm.v1.attention", "vllm.v1.attention.backends"):
            patch.setitem(sys.modules, name, SimpleNamespace())  # type: ignore[arg-type]
        patch.setitem(sys.modules, place, SimpleNamespace(FlashInferBackend=backend))  # type: ignore[arg-type]
        supported = function(
            upstream.patched / SAMPLER,
            "flashinfer_sampler_supported",
            {"current_platform": platform, "logger": logger, "envs": envs, **switch},
        )
        assert supported() is there
    lacking = "unavailable: no nvcc, and no AOT package that holds it"
    assert ("Using FlashInfer" if there else lacking) in said[0]


@pytest.mark.parametrize("there", [True, False])
def test_flashkda_is_chosen_only_where_its_library_is(upstream: Upstream, there: bool) -> None:
    platform = SimpleNamespace(
        is_cuda=lambda: True, get_device_capability=lambda: SimpleNamespace(major=12)
    )
    supported = function(
        upstream.patched / KIMI,
        "is_flashkda_supported",
        {
            "current_platform": platform,
            "find_spec": lambda name: {"vllm._flashkda_C": there or None}[name],
            "torch": SimpleNamespace(bfloat16="bf16"),
        },
    )
    assert supported(128, "bf16", 0.1) is there


ASKS: Final = """
#include "core/scalar_type.hpp"
#include <cstdio>
int main() {
  static_assert(vllm::kU4B8.size_bits() == 4);
  try {
    vllm::ScalarType::float_(5, 2, true, vllm::ScalarType::NAN_IEEE_754);
  } catch (std::runtime_error const& error) {
    std::puts(error.what());
  }
}
"""


def test_marlins_kernels_need_no_header_of_torch(upstream: Upstream, tmp_path: Path) -> None:
    """Else each torch would compile all of them again: upstream's header does not compile here."""
    (tmp_path / "asks.cpp").write_text(ASKS)
    command = ["g++", "-std=c++20", str(tmp_path / "asks.cpp"), "-o", str(tmp_path / "asks")]
    alone = subprocess.run(
        [*command, f"-I{upstream.pristine}/csrc"], check=False, capture_output=True
    )
    assert b"torch/headeronly/util/Exception.h: No such file" in alone.stderr
    subprocess.run([*command, f"-I{upstream.patched}/csrc"], check=True)
    said = subprocess.run([str(tmp_path / "asks")], check=True, capture_output=True, text=True)
    assert said.stdout == (
        f"{upstream.patched}/csrc/core/scalar_type.hpp: expected nan_repr != NAN_IEEE_754."
        " use `float_IEEE754` constructor for floating point types that follow IEEE 754"
        " conventions\n"
    )


def texts(path: Path) -> list[ast.JoinedStr]:
    """Return the f-strings of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]


def named(path: Path, begin: str, words: Mapping[str, Any]) -> list[str]:
    """Evaluate the f-strings of a file that begin so."""
    found = []
    for text in texts(path):
        head = text.values[0]
        if isinstance(head, ast.Constant) and str(head.value).startswith(begin):
            code = compile(ast.Expression(text), str(path), "eval")
            found.append(eval(code, dict(words)))  # noqa: S307  a pinned file's own f-string
    return found


def test_the_names_are_those_that_flashinfer_looks_up(upstream: Upstream, tmp_path: Path) -> None:
    files = ("flashinfer/attention/_core.py", "flashinfer/jit/xqa.py", "flashinfer/jit/sampling.py")
    others = ("flashinfer/jit/topk.py", "flashinfer/jit/gemm/core.py")
    tree = unpacked(FLASHINFER, (*files, *others), tmp_path)
    words = {
        "filename_safe_dtype_map": {"bfloat16": "bf16"},
        **dict.fromkeys(
            ("q_data_type", "input_dtype", "kv_cache_dtype", "output_dtype"), "bfloat16"
        ),
        **{"backend": "fa2", "page_size": 16, "head_dim": 64, "head_group_ratio": 8},
        **{"use_spec_dec": False, "q_seq_len": 1, "ragged_suffix": ""},
    }
    looked_up = [
        name
        for window in (False, True)
        for file, begin in ((files[0], "batch_prefill_attention_sink_"), (files[1], "xqa_input_"))
        for name in named(
            tree / file,
            begin,
            {**words, "use_sliding_window": window, "window_left": 0 if window else -1},
        )
    ]
    assert sorted(looked_up) == sorted(constant(upstream, "FLASHINFER_SINKS"))
    assert '"sampling",' in (tree / files[2]).read_text("utf-8")
    assert '"topk",' in (tree / others[0]).read_text("utf-8")
    assert '"fp4_gemm_cutlass_sm120",' in (tree / others[1]).read_text("utf-8")
