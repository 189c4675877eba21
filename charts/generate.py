#!/usr/bin/env python3
"""Write charts/weir-crds/templates from crds/yaml: the same definitions as templates, so that Helm upgrades them.

    charts/generate.py

Helm never touches what lies in a chart's crds/ folder once it is installed. As templates the definitions are upgraded, and the
annotation `helm.sh/resource-policy: keep` protects them, and every object of theirs, from an uninstall. The templates are
committed; testenv/checks/generated.sh runs this and fails on a difference.
"""

import pathlib
import re

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "crds" / "yaml"
TARGET = REPOSITORY / "charts" / "weir-crds" / "templates"
HEAD = "# Generated from crds/yaml: charts/generate.py\n"
METADATA = """metadata:
  annotations:
    {{- if .Values.keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    weir.dev/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
  labels:
    app.kubernetes.io/name: weir
    app.kubernetes.io/managed-by: {{ .Release.Service }}
"""


def template(definition):
    text = definition.split("\n", 1)[1] if definition.startswith("#") else definition
    # A description may hold braces that mean something to Helm.
    text = re.sub(r"\{\{|\}\}", lambda found: "{{ `" + found[0] + "` }}", text)
    head, metadata, tail = text.partition("metadata:\n")
    if not metadata or "metadata:\n" in tail.split("\nspec:\n")[0]:
        raise SystemExit("a definition has no metadata of its own")
    return HEAD + head + METADATA + tail


def main():
    TARGET.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: template(path.read_text()) for path in sorted(SOURCE.glob("*.yaml"))}
    for path in TARGET.glob("*.yaml"):
        if path.name not in wanted and path.read_text().startswith(HEAD):
            path.unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text)


if __name__ == "__main__":
    main()
