"""The chart, linted and rendered with Helm's own library: render_chart.py CHART OUT VALUES...

Writes OUT/NAME.yaml for each file of values NAME.yaml. Ends with 1 and the reasons when Helm refuses one.
"""

import os
import sys

import helm_python as helm


def rendered(folder: str, values_file: str) -> str:
    with open(values_file, encoding="utf8") as file:
        values = helm.values_from_yaml(file.read())
    report = helm.lint(folder, values, strict=True)
    if report["errors"]:
        sys.exit(f"{values_file}: {report['errors']}")
    chart = helm.Chart.load(folder)
    chart.validate_schema(values)
    manifests = chart.render(values, name="qianmo", namespace="ads")
    documents = [
        document.strip()
        for _, text in sorted(manifests.items())
        for document in text.split("\n---\n")
    ]
    return "\n---\n".join(document for document in documents if document) + "\n"


def main(folder: str, out: str, values_files: list[str]) -> None:
    os.makedirs(out, exist_ok=True)
    for values_file in values_files:
        try:
            text = rendered(folder, values_file)
        except helm.HelmError as error:
            sys.exit(f"{values_file}: {error}")
        with open(os.path.join(out, os.path.basename(values_file)), "w", encoding="utf8") as file:
            file.write(text)
    print(f"Helm {helm.helm_sdk_version()}")


main(sys.argv[1], sys.argv[2], sys.argv[3:])
