"""ScaledObjects against the definition that KEDA installs, closed: validate_keda.py DEFINITION MANIFESTS..."""

import sys

import jsonschema
import yaml


def closed(node):
    """A field that the definition does not know is refused; Kubernetes would drop it."""
    if isinstance(node, list):
        return [closed(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    copy = {name: closed(entry) for name, entry in node.items()}
    if isinstance(copy.get("properties"), dict) and "additionalProperties" not in copy:
        copy["additionalProperties"] = False
    return copy


def main(definition: str, manifests: list[str]) -> None:
    with open(definition, encoding="utf8") as file:
        [version] = [v for v in yaml.safe_load(file)["spec"]["versions"] if v["name"] == "v1alpha1"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    # The definition leaves the fields of every object's metadata to Kubernetes.
    schema["properties"]["metadata"] = {"type": "object"}
    count = 0
    for path in manifests:
        with open(path, encoding="utf8") as file:
            for document in yaml.safe_load_all(file):
                if document["kind"] == "ScaledObject":
                    jsonschema.validate(document, schema)
                    count += 1
    if count == 0:
        sys.exit("no ScaledObject in the manifests")
    print(f"{count} ScaledObjects")


main(sys.argv[1], sys.argv[2:])
