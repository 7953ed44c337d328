"""Custom resources against the definition that a cluster has of them, closed: validate_custom.py DEFINITION KIND MANIFESTS..."""

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


def main(definition: str, kind: str, manifests: list[str]) -> None:
    with open(definition, encoding="utf8") as file:
        spec = yaml.safe_load(file)["spec"]
    assert spec["names"]["kind"] == kind
    schemas = {
        f"{spec['group']}/{version['name']}": closed(version["schema"]["openAPIV3Schema"])
        for version in spec["versions"]
    }
    # The definition leaves the fields of every object's metadata to Kubernetes.
    for schema in schemas.values():
        schema["properties"]["metadata"] = {"type": "object"}
    count = 0
    for path in manifests:
        with open(path, encoding="utf8") as file:
            for document in yaml.safe_load_all(file):
                if document["kind"] == kind:
                    jsonschema.validate(document, schemas[document["apiVersion"]])
                    count += 1
    if count == 0:
        sys.exit(f"no {kind} in the manifests")
    print(f"{count} of kind {kind}")


main(sys.argv[1], sys.argv[2], sys.argv[3:])
