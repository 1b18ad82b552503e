"""The external builder of a peer for chaincode as a service, written as one program under the three names Fabric calls.

`detect SOURCE METADATA` says whether a package is one of these; `build SOURCE METADATA OUTPUT` fills the peer's own
values into connection.json; `release OUTPUT RELEASE` hands it over. The peer gives an external builder hardly any
environment, so the first line names the interpreter with its whole path (fabric-network.md §4, §10.5)."""

import sys
from pathlib import Path

SETTINGS = "CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG"
"""The variable with a peer's own values: a JSON object; `{{.name}}` in a text of connection.json becomes its value."""

_PROGRAM = f'''\
import json, os, re, shutil, sys

def filled(value, own):
    if isinstance(value, dict):
        return {{key: filled(inner, own) for key, inner in value.items()}}
    if isinstance(value, str):
        return re.sub(r"{{{{\\.(\\w+)}}}}", lambda found: own[found[1]], value)
    return value

verb = os.path.basename(sys.argv[0])
if verb == "detect":
    with open(os.path.join(sys.argv[2], "metadata.json")) as file:
        sys.exit(json.load(file)["type"] != "ccaas")
elif verb == "build":
    with open(os.path.join(sys.argv[1], "connection.json")) as file:
        connection = filled(json.load(file), json.loads(os.environ.get("{SETTINGS}", "{{}}")))
    with open(os.path.join(sys.argv[3], "connection.json"), "w") as file:
        json.dump(connection, file)
elif verb == "release":
    target = os.path.join(sys.argv[2], "chaincode", "server")
    os.makedirs(target)
    shutil.copy(os.path.join(sys.argv[1], "connection.json"), target)
'''


def write(folder: Path) -> Path:
    """Write the three programs below the folder, which is what `chaincode.externalBuilders` names; answers it."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for verb in ("detect", "build", "release"):
        program = programs / verb
        program.write_text(f"#!{sys.executable} -IS\n{_PROGRAM}")
        program.chmod(0o755)
    return folder
