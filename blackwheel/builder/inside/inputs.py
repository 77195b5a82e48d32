"""Notes beside an object the content of all that it was compiled from; standard library only.

`x.o.inputs` has one line for the object, one for its command and one for each file that its
compiler read: git's id of the content and the absolute path as the build sees it. Files of the
folders that BLACKWHEEL_FIXED names (toolkit, environment) have `-` in its place: a build tree is
given up when one of those is another. builder/objects.py compares the notes before the next build,
and the launcher when an object is to be compiled: ninja asks for all that include a header which
the build itself wrote anew, with the same content
(docs/decisions/0038-sources-and-objects-by-content.md).
"""

import os

SUFFIX = ".inputs"
COMMAND = "command"
"""In the place of a path: the line is of the command and its folder."""
_WHOLE = {
    "-MMD": "-MD",
    "--generate-nonsystem-dependencies-with-compile": "--generate-dependencies-with-compile",
}
_FILE = ("-MF", "--dependency-output")


def whole(words: list[str]) -> list[str]:
    """Return a compile command that tells of system headers too, where it tells of headers."""
    return [_WHOLE.get(word, word) for word in words]


def told_in(words: list[str]) -> str:
    """Return the name of the file in which a compiler lists its inputs, or nothing."""
    for number, word in enumerate(words):
        for option in _FILE:
            if word == option and number + 1 < len(words):
                return words[number + 1]
            if word.startswith(f"{option}="):
                return word.removeprefix(f"{option}=")
    return ""


def read_files(text: str) -> list[str]:
    """Return the prerequisites of a make rule: the inputs that a compiler lists."""
    _, _, rest = text.replace("\\\r\n", " ").replace("\\\n", " ").partition(": ")
    parts = rest.partition("\n")[0].replace("\\ ", "\0").replace("$$", "$").split()
    return [part.replace("\0", " ") for part in parts]


def content_id(path: str) -> str:
    """Return git's id of a file's content."""
    import hashlib  # noqa: PLC0415  3 ms, once for each object

    with open(path, "rb") as source:
        data = source.read()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def plain(path: str, folder: str) -> str:
    """Return an absolute path; only one that goes up is looked up: a link may lie on its way."""
    path = os.path.join(folder, path)
    return os.path.realpath(path) if "/.." in path else os.path.normpath(path)


def _command(words: list[str], folder: str) -> str:
    """Return the line of a command."""
    import hashlib  # noqa: PLC0415

    text = "\0".join([folder, *words]).encode("utf-8", "surrogateescape")
    return f"{hashlib.sha1(text, usedforsecurity=False).hexdigest()} {COMMAND}"


def unchanged(words: list[str], target: str, folder: str) -> bool:
    """Tell whether a command would make the same object again; if so, let it look new.

    The object, its command and all inputs have the contents that were noted, and no file now lies
    where the compiler would look before it found one of them. The list of inputs is written again:
    ninja took the last one.
    """
    told = told_in(words)
    try:
        with open(f"{target}{SUFFIX}", encoding="utf-8", errors="surrogateescape") as notes:
            own, command, *rest = notes.read().splitlines()
        if not told or command != _command(words, folder) or _more_words(words):
            return False
        if own != f"{content_id(target)} {os.path.abspath(target)}":
            return False
        found = [line.partition(" ")[::2] for line in rest]
        if any(noted != "-" and content_id(path) != noted for noted, path in found):
            return False
        if _hidden(words, [path for noted, path in found if noted != "-"], folder):
            return False
        paths = " ".join(path.replace("$", "$$").replace(" ", "\\ ") for _, path in found)
        with open(
            os.path.join(folder, told), "w", encoding="utf-8", errors="surrogateescape"
        ) as sink:
            sink.write(f"{target}: {paths}\n")
        os.utime(target)
    except (OSError, ValueError):
        return False
    return True


def _more_words(words: list[str]) -> bool:
    """Tell whether a command takes words from a file, which may say something else by now."""
    return any(word.startswith(("@", "--options-file", "-optf")) for word in words)


def _hidden(words: list[str], paths: list[str], folder: str) -> bool:
    """Tell whether a file that was not read lies where the compiler looks before one that was.

    That is an earlier folder of headers, or beside a file that may include it.
    """
    folders: list[str] = []
    for option in ("-I", "-isystem"):
        for number, word in enumerate(words):
            value = word.removeprefix(option).removeprefix("=") if word.startswith(option) else ""
            if word == option and number + 1 < len(words):
                value = words[number + 1]
            folders += [plain(value, folder)] if value else []
    known, beside = set(paths), sorted({os.path.dirname(path) for path in paths})
    for path in paths:
        at = next((n for n, one in enumerate(folders) if path.startswith(f"{one}/")), None)
        if at is None:
            continue
        name = path.removeprefix(f"{folders[at]}/")
        first = {f"{one}/{name}" for one in (*beside, *folders[:at])} - known
        if any(map(os.path.lexists, first)):
            return True
    return False


def note(words: list[str], target: str, folder: str) -> None:
    """Write the notes of an object just compiled in `folder`; none where its compiler told nothing.

    The next build compiles an object without notes again.
    """
    place, told = f"{target}{SUFFIX}", told_in(words)
    if os.path.exists(place):
        os.unlink(place)
    if not told:
        return
    with open(os.path.join(folder, told), encoding="utf-8", errors="surrogateescape") as source:
        paths = read_files(source.read())
    fixed = tuple(f"{one}/" for one in os.environ.get("BLACKWHEEL_FIXED", "").split(":") if one)
    lines = [f"{content_id(target)} {os.path.abspath(target)}", _command(words, folder)]
    for path in sorted({plain(path, folder) for path in paths}):
        kept = fixed and path.startswith(fixed)
        lines.append(f"{'-' if kept else content_id(path)} {path}")
    with open(f"{place}.part", "w", encoding="utf-8", errors="surrogateescape") as sink:
        sink.write("\n".join(lines) + "\n")
    os.replace(f"{place}.part", place)
