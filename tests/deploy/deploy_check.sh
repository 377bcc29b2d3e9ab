#!/usr/bin/env bash
# Checks of the deployment files by tools that `make test` does without. A tool that this machine
# lacks is named together with the command that installs it; a check that can run must pass.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

failed=()
missing=0

check() { # COMMAND...
    printf '\n== %s\n' "$*"
    "$@" || failed+=("$*")
}
lacks() { # TOOL WHAT-IT-CHECKS HOW-TO-INSTALL: true where the tool is not there
    if command -v "$1" >/dev/null; then return 1; fi
    printf '\n== %s is not on this machine, so not checked: %s (%s)\n' "$1" "$2" "$3"
    missing=$((missing + 1))
}

lacks npx "docker-compose.yml by dclint" "apt-get install npm" ||
    check npx --yes dclint@3.1.0 --config tests/deploy/dclint.yml --max-warnings 0 docker-compose.yml

if ! lacks promtool "Prometheus' configuration and alert rules" "apt-get install prometheus"; then
    check promtool check config config/prometheus.yml
    check promtool check rules config/alerts.yml
    check promtool test rules config/alerts_test.yml
fi

lacks shellcheck "the scripts of this project" "apt-get install shellcheck" ||
    check shellcheck .ci/run tests/deploy/*.sh

echo
if [ "${#failed[@]}" != 0 ]; then
    printf 'deploy-check: failed: %s\n' "${failed[@]}"
    exit 1
fi
if [ "$missing" != 0 ]; then
    echo "deploy-check: what could be checked passed; tools missing: $missing"
else
    echo "deploy-check: all passed"
fi
