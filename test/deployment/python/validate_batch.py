"""The job definitions of AWS Batch against the model of its own client: validate_batch.py TEMPLATE SCHEDULE

cfn-lint knows the schema of the templates; botocore knows the bounds of the calls that a stack and a schedule make.
"""

import json
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


def problems_of_schedule(path: str, model) -> list[str]:
    """The text that the schedule sends as the call SubmitJob."""
    with open(path, encoding="utf8") as file:
        target = yaml.load(file, Template)["Resources"]["Refresh"]["Properties"]["Target"]
    submission = camel(json.loads(target["Input"].removeprefix("Sub-")))
    report = ParamValidator().validate(submission, model.operation_model("SubmitJob").input_shape)
    return [f"{path}: {report.generate_report()}"] if report.has_errors() else []


def main(path: str, schedule: str) -> None:
    with open(path, encoding="utf8") as file:
        resources = yaml.load(file, Template)["Resources"]
    model = botocore.session.get_session().get_service_model("batch")
    shape = model.operation_model("RegisterJobDefinition").input_shape
    problems = problems_of_schedule(schedule, model)
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
    print(f"{len(resources)} job definitions and a schedule, botocore {botocore.__version__}")


main(sys.argv[1], sys.argv[2])
