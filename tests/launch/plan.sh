#!/usr/bin/env bash
# `dujiang plan` on the command line.
# Usage: plan.sh DUJIANG CONFIGS_FOLDER
set -uo pipefail
dujiang=$1 configs=$2
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work" || exit 1
failures=0

# expect STATUS PATTERN ARGUMENTS...: of `dujiang plan`, exit status and a match in what it prints.
expect() {
  local wanted=$1 pattern=$2 status=0
  shift 2
  "$dujiang" plan "$@" >out 2>err </dev/null || status=$?
  if [[ $status != "$wanted" ]] || ! grep -qE -- "$pattern" out err; then
    printf 'FAULT: plan %s: exit status %s, expected %s and a match of %s in: %s\n' "$*" "$status" "$wanted" "$pattern" \
      "$(cat out err)"
    failures=1
  fi
}

# Needs neither data nor tokenizer, and plans past this machine.
expect 0 'data 1024, ZeRO [0-3].* fits' "$configs/plan/7b.yaml" --ranks 1024 --device ascend910b
expect 0 'dp all_gather' "$configs/plan/7b.yaml" --ranks 64 --device h800
expect 0 '"reason"' "$configs/plan/7b.yaml" --ranks 16 --device h100 --json
python3 - out <<'END' || failures=1
import json, sys
plan = json.load(open(sys.argv[1], encoding="utf-8"))
first = plan["ranked"][0]
assert first["fits"] and first["memory"]["peak"] <= plan["device"]["memory"]
assert first["memory"]["peak"] == sum(v for k, v in first["memory"].items() if k != "peak")
assert any(t["axis"] == "dp" for t in first["traffic"])
assert plan["too_large"] and all(not f["fits"] for f in plan["too_large"])
END
# What is missing, unknown or too large is named.
expect 2 'model.vocab_size is missing' "$configs/plan/7b.yaml" model.vocab_size=0 --ranks 8 --device h100
expect 2 'expected one of h100' "$configs/plan/7b.yaml" --ranks 8 --device h1000
expect 2 'none fits: .* needs least' "$configs/plan/7b.yaml" --ranks 1 --device h100
expect 2 'impossible: .*train.global_batch: 1024 sequences cannot be shared by 3 ranks' "$configs/plan/7b.yaml" --ranks 3 --device h100
expect 2 'model.num_hidden_layers: missing' "$configs/devices.yaml" --ranks 8 --device h100
# This machine, measured.
expect 0 'this machine' "$configs/quickstart-short.yaml" --ranks 2
exit $failures
