"""The job definitions of AWS Batch against the model of its own client: validate_batch.py TEMPLATE

cfn-lint knows the schema of the template; botocore knows the bounds of the call that a stack makes.
"""

import sys

import botocore.session
import yaml
from botocore.validate import ParamValidator


class Template(yaml.SafeLoader):
    """CloudFormation's functions stand for texts."""


Template.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix}-{node.value}")


def camel(value, keeps_names=False):
    if isinstance(value, list):
        return [camel(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        name if keeps_names else name[0].lower() + name[1:]: camel(entry, name == "Parameters")
        for name, entry in value.items()
    }


def main(path: str) -> None:
    with open(path, encoding="utf8") as file:
        resources = yaml.load(file, Template)["Resources"]
    model = botocore.session.get_session().get_service_model("batch")
    shape = model.operation_model("RegisterJobDefinition").input_shape
    problems = []
    for name, resource in resources.items():
        given = camel(resource["Properties"])
        report = ParamValidator().validate(given, shape)
        if report.has_errors():
            problems.append(f"{name}: {report.generate_report()}")
        # Batch refuses a shorter one, which the model does not say. Without one, an attempt takes as long as it takes.
        if "timeout" in given and given["timeout"]["attemptDurationSeconds"] < 60:
            problems.append(f"{name}: a timeout below 60 s")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(resources)} job definitions, botocore {botocore.__version__}")


main(sys.argv[1])
