"""doctor/environment.py, piped into real interpreters of environments that hold fake torches."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "blackwheel" / "doctor" / "environment.py"
LABEL = "cu130torch2.11.0.sm120a.1"
GIT = "70d99e998b4955e0049d13a98d77ae1b14db1f45"
BUILT = {"version": "2.11.0+cu130", "git_version": GIT, "cuda": "13.0"}


@dataclass
class Environment:
    """A virtual environment without torch's gigabytes."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def packages(self) -> Path:
        return next(self.root.glob("lib/python3*/site-packages"))

    def dist(self, name: str, version: str, *requires: str, files: tuple[str, ...] = ()) -> None:
        """What an installer leaves of a distribution beside its modules."""
        info = self.packages / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {one}\n" for one in requires]
        head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(head + "".join(lines))
        (info / "RECORD").write_text("".join(f"{one},,\n" for one in files))

    def torch(
        self,
        runtime: str = "2.11.0+cu130",
        *,
        git: str = GIT,
        cuda: str | None = "13.0",
        named: str = "2.11.0",
    ) -> None:
        self.dist("torch", named)
        (self.packages / "torch").mkdir()
        (self.packages / "torch" / "__init__.py").write_text("raise SystemExit('imported')\n")
        (self.packages / "torch" / "version.py").write_text(
            "from typing import Optional\n"
            f"__version__ = {runtime!r}\ndebug = False\ncuda: Optional[str] = {cuda!r}\n"
            f"git_version = {git!r}\nhip: Optional[str] = None\n"
        )

    def flash_attn(self, text: str = f"TORCH = {BUILT!r}\n") -> None:
        """The wheel of stack torch211, with the file that its setup.py wrote."""
        (self.packages / "flash_attn").mkdir()
        (self.packages / "flash_attn" / "_built_for.py").write_text(text)
        files = ("flash_attn/__init__.py", "flash_attn/_built_for.py")
        self.dist("flash_attn", f"2.8.3+{LABEL}", "torch===2.11.0", "einops", files=files)

    def pip(self) -> None:
        (self.packages / "pip").mkdir()
        (self.packages / "pip" / "__init__.py").write_text("")

    def examined(self, *options: str) -> tuple[int, str]:
        """Pipe the file into the environment's interpreter, as into a container's."""
        done = subprocess.run(
            [self.python, "-", *options],
            input=FILE.read_text(encoding="utf-8"),
            cwd=self.root,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.replace(str(self.root), "ENV").replace(
            str(self.packages.relative_to(self.root)), "PACKAGES"
        )


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    return Environment(root=tmp_path / "env")


def test_environment_that_holds_the_torch_of_its_wheels_is_fine(environment: Environment) -> None:
    environment.torch()
    environment.flash_attn()
    environment.dist("torchvision", "0.26.0", "numpy", "torch==2.11.0", "torch<2; extra == 'x'")
    assert environment.examined() == (
        0,
        "python: ENV/bin/python\n"
        "torch:  2.11.0+cu130 (git 70d99e998b49, CUDA 13.0) in ENV/PACKAGES\n"
        f"ok       flash_attn 2.8.3+{LABEL}, built for 2.11.0+cu130\n"
        "ok       torchvision 0.26.0, requires torch==2.11.0\n",
    )


def test_swapped_torch_is_named_with_what_the_wheel_was_built_for_and_the_cure(
    environment: Environment,
) -> None:
    environment.torch("2.13.0+cu128", git="f" * 40, cuda="12.8", named="2.13.0")
    environment.flash_attn()
    environment.pip()
    assert environment.examined() == (
        1,
        "python: ENV/bin/python\n"
        "torch:  2.13.0+cu128 (git ffffffffffff, CUDA 12.8) in ENV/PACKAGES\n"
        f"MISMATCH flash_attn 2.8.3+{LABEL}, built for 2.11.0+cu130\n"
        "         version: 2.11.0+cu130, found 2.13.0+cu128\n"
        f"         git_version: {GIT}, found {'f' * 40}\n"
        "         cuda: 13.0, found 12.8\n"
        "         requires: torch===2.11.0, found 2.13.0\n"
        "fix:    ENV/bin/python -m pip install 'torch===2.11.0'\n",
    )


def test_torch_for_the_cpu_is_a_lack_with_its_cure(environment: Environment) -> None:
    environment.torch("2.13.0+cpu", cuda=None, named="2.13.0+cpu")
    environment.pip()
    code, text = environment.examined()
    assert (code, text.splitlines()[1:]) == (
        1,
        [
            "torch:  2.13.0+cpu (git 70d99e998b49, CUDA none) in ENV/PACKAGES",
            "LACKS    CUDA: this torch was built without it, so no NVIDIA GPU is used",
            "no wheel here was built for one torch, or requires exactly one",
            "fix:    ENV/bin/python -m pip install 'torch===2.13.0'",
            "        from an index whose torch has CUDA, as the package registry's: pip and",
            "        uv must not be told of one for the CPU (its address ends in /cpu)",
        ],
    )
    assert json.loads(environment.examined("--json")[1])["lacks"] == ["CUDA"]


def test_torch_for_the_cpu_under_a_wheel_is_replaced_with_all_that_cuda_needs(
    environment: Environment,
) -> None:
    environment.torch("2.11.0+cpu", cuda=None, named="2.11.0+cpu")
    environment.flash_attn()
    environment.dist("torchvision", "0.26.0", "torch==2.11.0")
    code, text = environment.examined()
    assert code == 1
    assert "LACKS    CUDA" in text and "         cuda: 13.0, found None" in text
    assert "--no-deps" not in text
    assert "uv pip install --python ENV/bin/python 'torch===2.11.0'" in text
    (environment.packages / "flash_attn" / "_built_for.py").unlink()
    (environment.packages / f"flash_attn-2.8.3+{LABEL}.dist-info" / "METADATA").unlink()
    assert "uv pip install --python ENV/bin/python 'torch===2.11.0'\n" in environment.examined()[1]


def test_other_git_version_under_one_version_needs_a_forced_reinstall(
    environment: Environment,
) -> None:
    environment.torch(git="f" * 40)
    environment.flash_attn()
    environment.pip()
    code, text = environment.examined()
    assert (code, text.splitlines()[3:]) == (
        1,
        [
            f"         git_version: {GIT}, found {'f' * 40}",
            "fix:    ENV/bin/python -m pip install --force-reinstall --no-deps 'torch===2.11.0'",
        ],
    )


def test_environment_without_pip_is_mended_with_uv(environment: Environment) -> None:
    environment.torch(git="f" * 40)
    environment.flash_attn()
    assert environment.examined()[1].splitlines()[-1] == (
        "fix:    uv pip install --python ENV/bin/python --reinstall --no-deps 'torch===2.11.0'"
    )


def test_wheel_without_guard_is_known_by_its_label(environment: Environment) -> None:
    nightly = "2.10.0.dev20251016+cu128"
    environment.torch("2.10.0.dev20251017+cu128", cuda="12.8", named="2.10.0.dev20251017+cu128")
    environment.dist("vllm", f"0.11.0+cu128torch{nightly[:-6]}.sm120a.3", f"torch=={nightly}")
    environment.pip()
    code, text = environment.examined()
    assert (code, text.splitlines()[2:]) == (
        1,
        [
            "MISMATCH vllm 0.11.0+cu128torch2.10.0.dev20251016.sm120a.3, built for"
            " 2.10.0.dev20251016+cu128",
            "         version: 2.10.0.dev20251016+cu128, found 2.10.0.dev20251017+cu128",
            "         requires: torch==2.10.0.dev20251016+cu128, found 2.10.0.dev20251017+cu128",
            "fix:    ENV/bin/python -m pip install 'torch==2.10.0.dev20251016+cu128'",
            "        a torch with a local part (+cu128) has an index of its own:",
            "        add --extra-index-url and the address it was installed from",
        ],
    )


def test_torchvision_of_another_torch_is_installed_again_beside_the_one_it_must_keep(
    environment: Environment,
) -> None:
    environment.torch()
    environment.flash_attn()
    environment.dist("torchvision", "0.28.0", "torch (==2.13.0)")
    environment.dist("torchaudio", "2.11.0", "torch==2.11.0")
    environment.pip()
    code, text = environment.examined()
    assert (code, text.splitlines()[2:]) == (
        1,
        [
            f"ok       flash_attn 2.8.3+{LABEL}, built for 2.11.0+cu130",
            "ok       torchaudio 2.11.0, requires torch==2.11.0",
            "MISMATCH torchvision 0.28.0, requires torch==2.13.0",
            "         requires: torch==2.13.0, found 2.11.0",
            "fix:    ENV/bin/python -m pip install 'torch===2.11.0' 'torchvision'",
        ],
    )


def test_companion_that_fits_the_swapped_torch_is_installed_again_with_the_right_one(
    environment: Environment,
) -> None:
    environment.torch("2.13.0+cu130", named="2.13.0")
    environment.flash_attn()
    environment.dist("torchvision", "0.28.0", "torch==2.13.0")
    environment.pip()
    assert environment.examined()[1].splitlines()[-1] == (
        "fix:    ENV/bin/python -m pip install 'torch===2.11.0' 'torchvision'"
    )


def test_loose_and_marked_requirements_bind_to_no_torch(environment: Environment) -> None:
    environment.torch()
    environment.dist("xformers", "1.0", "torch>=2.4", 'torch==2.4.0; sys_platform == "darwin"')
    environment.dist("torchao", "1.0", "torch==2.11.*")
    assert environment.examined()[1].splitlines()[2:] == [
        "ok       torchao 1.0, requires torch==2.11.*"
    ]


def test_environment_without_torch_says_so_and_how_to_get_the_right_one(
    environment: Environment,
) -> None:
    assert environment.examined() == (
        2,
        "python: ENV/bin/python\n"
        "torch:  none is installed\n"
        "no wheel here was built for one torch, or requires exactly one\n",
    )
    environment.flash_attn()
    environment.pip()
    assert environment.examined() == (
        2,
        "python: ENV/bin/python\n"
        "torch:  none is installed\n"
        f"no torch flash_attn 2.8.3+{LABEL}, built for 2.11.0+cu130\n"
        "fix:    ENV/bin/python -m pip install 'torch===2.11.0'\n",
    )


def test_torch_whose_files_are_not_those_of_its_metadata_is_installed_again(
    environment: Environment,
) -> None:
    environment.torch("2.13.0+cu130", named="2.11.0")
    environment.pip()
    assert environment.examined() == (
        1,
        "python: ENV/bin/python\n"
        "torch:  2.13.0+cu130 (git 70d99e998b49, CUDA 13.0) in ENV/PACKAGES\n"
        "        MISMATCH its metadata says 2.11.0\n"
        "no wheel here was built for one torch, or requires exactly one\n"
        "fix:    ENV/bin/python -m pip install --force-reinstall --no-deps 'torch===2.11.0'\n",
    )


def test_wheels_of_two_torches_cannot_share_an_environment(environment: Environment) -> None:
    environment.torch()
    environment.flash_attn()
    environment.dist("vllm", "0.26.0+cu130torch2.13.0.sm120a.1", "torch===2.13.0")
    code, text = environment.examined()
    assert (code, text.splitlines()[-1]) == (
        1,
        "fix:    no torch serves all of them (torch===2.11.0 and torch===2.13.0):"
        " each needs an environment of its own",
    )


@pytest.mark.parametrize("text", ["TORCH = {", "TORCH = 1\n", "", "TORCH = dict(version=1)\n"])
def test_guard_file_that_cannot_be_read_asks_for_the_wheel_again(
    environment: Environment, text: str
) -> None:
    environment.torch()
    environment.flash_attn(text)
    environment.pip()
    code, said = environment.examined()
    assert (code, said.splitlines()[2:]) == (
        1,
        [
            f"MISMATCH flash_attn 2.8.3+{LABEL}, built for torch===2.11.0",
            "         flash_attn/_built_for.py: a whole file, found unreadable",
            "fix:    ENV/bin/python -m pip install --force-reinstall --no-deps"
            f" 'flash_attn==2.8.3+{LABEL}'",
        ],
    )


def test_torch_that_hides_another_one_is_told(environment: Environment, tmp_path: Path) -> None:
    environment.torch()
    other = Environment(root=tmp_path / "other")
    packages = other.root / "lib" / "python3.0" / "site-packages"
    packages.mkdir(parents=True)
    other.torch("2.13.0+cu130", named="2.13.0")
    environment.variables["PYTHONPATH"] = str(packages)
    assert environment.examined()[1].splitlines()[1:3] == [
        f"torch:  2.13.0+cu130 (git 70d99e998b49, CUDA 13.0) in {packages}",
        "        hides another one in ENV/PACKAGES",
    ]


def test_json_holds_everything_that_the_text_says(environment: Environment) -> None:
    environment.torch("2.11.0+cu128", cuda="12.8")
    environment.flash_attn()
    environment.pip()
    code, text = environment.examined("--json")
    document = json.loads(text)
    assert document["schema"] == "blackwheel.environment/1"
    assert document["lacks"] == []
    assert code == document["exit"] == 1
    assert document["torch"]["version"] == "2.11.0+cu128"
    assert document["distributions"] == [
        {
            "name": "flash_attn",
            "version": f"2.8.3+{LABEL}",
            "guard": "flash_attn/_built_for.py",
            "built_for": BUILT,
            "requires": "torch===2.11.0",
            "differences": [
                {"what": "version", "built": "2.11.0+cu130", "found": "2.11.0+cu128"},
                {"what": "cuda", "built": "13.0", "found": "12.8"},
            ],
        }
    ]
    assert document["fix"].endswith("pip install --force-reinstall --no-deps 'torch===2.11.0'")


def test_file_needs_no_more_than_python_39_and_its_standard_library() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= sys.stdlib_module_names


def test_file_run_by_its_path_does_not_take_its_neighbours_for_the_environment(
    environment: Environment,
) -> None:
    argv = [environment.python, FILE]
    done = subprocess.run(argv, capture_output=True, text=True, env={}, check=False)
    assert (done.returncode, done.stderr) == (2, "")


# Wheels of torch's stable interface

FROM = {"from": "2.11.0", **BUILT}


def stable_wheel(environment: Environment, *, requires: str = "torch>=2.11.0") -> None:
    """A wheel whose stack says torch = 'abi', without a guard of its own."""
    environment.dist("toy", "1.0+cu130torch2.11.sm120a.1", requires)


@pytest.mark.parametrize(
    ("runtime", "cuda"),
    [("2.11.0+cu130", "13.0"), ("2.11.1+cu130", "13.0"), ("2.15.0+cu132", "13.2")],
)
def test_wheel_of_the_stable_interface_takes_its_own_torch_and_later_ones(
    environment: Environment, runtime: str, cuda: str
) -> None:
    environment.torch(runtime, git="f" * 40, cuda=cuda, named=runtime.partition("+")[0])
    stable_wheel(environment)
    code, said = environment.examined()
    assert code == 0
    assert said.splitlines()[-1] == (
        "ok       toy 1.0+cu130torch2.11.sm120a.1, built for torch>=2.11.0"
    )


@pytest.mark.parametrize("runtime", ["2.10.2+cu130", "2.11.0.dev20260101+cu130", "2.11.0a0+git1"])
def test_wheel_of_the_stable_interface_refuses_an_older_torch(
    environment: Environment, runtime: str
) -> None:
    environment.torch(runtime, git="f" * 40, named=runtime.partition("+")[0])
    stable_wheel(environment)
    code, said = environment.examined()
    assert code == 1
    assert f"version: 2.11.0 or newer, found {runtime}\n" in said
    assert "'torch>=2.11.0'" in said.splitlines()[-1]


def test_wheel_of_the_stable_interface_wants_its_own_line_of_cuda(
    environment: Environment,
) -> None:
    environment.torch("2.15.0+cu126", git="f" * 40, cuda="12.6", named="2.15.0")
    stable_wheel(environment)
    code, said = environment.examined()
    assert code == 1
    assert "         cuda: 13.0, found 12.6\n" in said


@pytest.mark.parametrize("requires", ["torch===2.11.0", "torch>=2.11.0,<2.14", "torch"])
def test_label_without_a_patch_release_is_no_promise_by_itself(
    environment: Environment, requires: str
) -> None:
    environment.torch("2.11.0+cu130")
    stable_wheel(environment, requires=requires)
    assert environment.examined()[0] == 1


def test_guard_that_tells_the_oldest_torch_is_believed_as_far_as_it_goes(
    environment: Environment,
) -> None:
    environment.flash_attn(f"TORCH = {FROM!r}\n")
    environment.torch("2.13.0+cu130", git="f" * 40, named="2.13.0")
    code, said = environment.examined()
    assert code == 1, "its metadata takes one torch alone"
    assert "requires: torch===2.11.0, found 2.13.0" in said
    assert "version:" not in said


@pytest.mark.parametrize("oldest", ["'x'", "9", "'9" + "0" * 5000 + "'", "'2.11.0rc1'"])
def test_guard_with_a_bound_that_is_no_release_is_held_to_its_one_torch(
    environment: Environment, oldest: str
) -> None:
    text = repr(FROM).replace("'2.11.0'", oldest, 1)
    environment.flash_attn(f"TORCH = {text}\n")
    environment.torch("2.13.0+cu130", git="f" * 40, named="2.13.0")
    code, said = environment.examined()
    assert code == 1
    assert "unreadable" in said or "version: 2.11.0+cu130, found 2.13.0+cu130" in said


def test_bound_of_thousands_of_digits_is_none(environment: Environment) -> None:
    environment.torch("2.13.0+cu130", named="2.13.0")
    stable_wheel(environment, requires="torch>=2." + "1" * 5000)
    assert environment.examined()[0] == 1


def test_torch_of_a_wheel_for_one_decides_where_another_serves_later_ones(
    environment: Environment,
) -> None:
    environment.torch("2.10.0+cu130", named="2.10.0")
    stable_wheel(environment)
    other = "1.0+cu130torch2.13.0.sm120a.1"
    environment.dist("other", other, "torch===2.13.0")
    code, said = environment.examined()
    assert code == 1
    assert "'torch===2.13.0'" in said.splitlines()[-1]
    assert "no torch serves" not in said
