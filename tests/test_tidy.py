"""What the linters cannot know: names, places and promises that every change must keep."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chaincode", "network", "client/tallystick")
FORBIDDEN_FOLDER_NAMES = {"utils", "util", "common", "helpers", "services", "managers", "misc", "lib"}
# A person's own machine, a package host: neither may be written down (the pattern avoids matching itself).
ADDRESSES = re.compile(
    r"(?:^|[^\w.-])/(?:root|home|work|tmp)/[\w.-]+/|https?://[^ /\"']*(?:py[p]i|python[h]osted|npm[j]s|crates[.]io)"
)
PROMISES = re.compile(r"\b(?:TO[D]O|FIX[M]E|NotImplemented[E]rror)\b|[#]\s*X[X]X\b|assert Tru[e]\b")


def tracked(*suffixes: str) -> list[Path]:
    """The files of the checkout, tracked or about to be, with one of these endings."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / line for line in listing.stdout.splitlines())
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def findings(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in paths
        for number, line in enumerate(read(path).splitlines(), 1)
        if pattern.search(line)
    ]


def synonyms() -> list[tuple[str, str]]:
    """(forbidden word, the word to use), from the glossary table of chaincode/README.md."""
    glossary = read(ROOT / "chaincode" / "README.md").split("## 2.")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", glossary, re.MULTILINE)
    return [(word.strip(), noun) for noun, words in rows for word in words.split(",")]


def identifiers(path: Path) -> set[str]:
    """Every name that a module defines or uses, without leading underscores, in lower case."""
    names = set()
    for node in ast.walk(ast.parse(read(path))):
        for field in ("id", "attr", "arg", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                names.add(name.strip("_").lower())
    return names


def test_no_folder_or_module_without_a_word() -> None:
    names = {part.removesuffix(".py") for path in tracked(".py") for part in path.relative_to(ROOT).parts}
    assert not names & FORBIDDEN_FOLDER_NAMES


def test_every_package_says_what_it_is_for() -> None:
    packages = [path for path in tracked(".py") if path.name == "__init__.py" and "tests" not in path.parts]
    assert packages
    silent = [str(path.relative_to(ROOT)) for path in packages if not read(path).lstrip().startswith('"""')]
    assert silent == []


def test_no_machine_path_and_no_registry_host() -> None:
    assert findings(ADDRESSES, tracked()) == []


def test_nothing_is_promised_instead_of_done() -> None:
    assert findings(PROMISES, tracked(".py", ".md", ".toml", ".js", ".html")) == []


def test_lock_has_a_digest_for_every_package_and_no_address() -> None:
    lock = read(ROOT / "requirements.lock")
    blocks = re.findall(r"^([a-zA-Z0-9_.-]+)==[^\n]*\\\n((?:    [^\n]*\n?)+)", lock, re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^[a-zA-Z0-9_.-]+==", lock, re.MULTILINE)) > 20
    assert all("--hash=sha256:" in digests for _, digests in blocks)
    assert "://" not in lock


def test_npm_locks_have_digests_and_no_address() -> None:
    locks = [path for path in tracked(".json") if path.name == "package-lock.json"]
    assert locks
    for path in locks:
        text = read(path)
        assert '"resolved"' not in text
        assert '"integrity"' in text


def test_the_same_version_everywhere() -> None:
    versions = {
        name: re.search(r'^version = "([^"]+)"', read(ROOT / name), re.MULTILINE).group(1)  # type: ignore[union-attr]
        for name in ("pyproject.toml", "client/pyproject.toml")
    }
    assert len(set(versions.values())) == 1
    assert f"## {versions['pyproject.toml']}" in read(ROOT / "CHANGELOG.md")
    assert f"tallystick[cli]=={versions['pyproject.toml']}" in read(ROOT / "pyproject.toml")


def test_glossary_has_synonyms_to_look_for() -> None:
    assert len(synonyms()) >= 5


def test_forbidden_synonyms_are_not_used() -> None:
    forbidden = dict(synonyms())
    used = [
        f"{path.relative_to(ROOT)} says {name}: say {forbidden[name]}"
        for path in tracked(".py")
        if path.relative_to(ROOT).parts[:2] in {("chaincode", layer) for layer in ("domain", "ledger", "contract")}
        for name in identifiers(path)
        if name in forbidden
    ]
    assert used == []


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "scripts").iterdir() if not path.suffix and path.is_file())
)
def test_readme_names_every_script(script: str) -> None:
    assert f"scripts/{script}" in read(ROOT / "README.md")
