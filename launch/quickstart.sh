#!/usr/bin/env bash
# From nothing to a small language model of Chinese: packages, build, text, tokenizer, shards, training on two
# processes, held-out score, samples. At most 15 minutes on two cores once the packages are there.
#
#   launch/quickstart.sh            configs/quickstart.yaml, into runs/quickstart/
#   launch/quickstart.sh --short    configs/quickstart-short.yaml, into runs/quickstart-short/: two minutes, a worse model
#
# What is finished is reused by the next call; a call that was cut short goes on where it stood. Ctrl-C saves first.
# Exit status: 0 done, 2 something you can mend (it says what), 1 anything else.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

name=quickstart
case ${1-} in
  --short) name=quickstart-short ;;
  --help | -h)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
  '') ;;
  *) die 2 "unknown option $1; try --help" ;;
esac

cd "$root"
config=configs/$name.yaml
run=runs/$name
text=runs/text
state=$run/.state
data=$run/data
dujiang=build/launch/dujiang
mkdir -p "$state" "$text"
mpi_environment
# Held by everything started from here, so that what a killed call left running is not joined by a second run.
exec 9>"$state/lock"
flock -n 9 || {
  note "another call is still at work on $run; waiting for it to end"
  flock -w 900 9 || die 1 "another call is still at work on $run"
}

packages=(manpages-zh libreoffice-help-zh-cn fortunes-zh debian-handbook debian-reference-zh-cn debian-faq-zh-cn
  maint-guide-zh-cn installation-guide-amd64 kicad-doc-zh)
ranks=2
threads=$(((cores + ranks - 1) / ranks))

# phase NAME TITLE KEY COMMAND...: runs a command unless it has succeeded with this key before, and keeps the seconds it
# took. The key is whatever the outcome depends on.
phase() {
  local stamp=$state/$1 title=$2 key=$3 start=$SECONDS spent=0 status=0
  shift 3
  if [[ -e $stamp && $(<"$stamp") == "$key" ]]; then
    say "$title: finished earlier"
    return
  fi
  say "$title"
  [[ ! -e $stamp.seconds ]] || spent=$(<"$stamp.seconds")
  "$@" || status=$?
  echo $((spent + SECONDS - start)) >"$stamp.seconds"
  [[ $status == 0 ]] || exit "$status"
  echo "$key" >"$stamp"
}

# section NAME...: the config's sections of these names, without comments.
section() {
  awk -v names=" $* " '/^[a-z]/ { key = $1; sub(/:.*/, "", key); keep = index(names, " " key " ") } keep' "$config" |
    sed 's/ *#.*//; /^$/d'
}

# figure FILE FIELD: a number out of a JSON object as ours are printed: what is nested is indented deeper.
figure() { grep -v '^    ' "$1" | grep -o "\"$2\": *[-+0-9.eE]*" | head -n 1 | sed 's/.*: *//'; }

fetch_text() {
  local package deb
  for package in "${packages[@]}"; do
    [[ ! -d $text/$package ]] || continue
    mkdir -p "$text/debs"
    (cd "$text/debs" && apt-get -qq -o APT::Sandbox::User=root download "$package") >&2 || return 1
    deb=$(find "$text/debs" -name "${package}_*.deb" | head -n 1)
    rm -rf "$text/$package.part"
    dpkg-deb -x "$deb" "$text/$package.part" && mv "$text/$package.part" "$text/$package" || return 1
    note "  $package"
  done
  rm -rf "$text/debs"
}

get_text() {
  fetch_text && return
  note "apt-get could not download; refreshing its lists of packages"
  as_root apt-get update -q >&2 && fetch_text && return
  note "The quickstart's text comes from these Debian packages, which apt-get can't download here:
  ${packages[*]}
Run 'apt-get update' as root (or unpack the packages with 'dpkg-deb -x' into $text/PACKAGE/), then start again."
  return 2
}

# Reads and filters the text, too; the shards are made of what it leaves.
make_tokenizer() {
  rm -rf "$data"
  "$dujiang" tokenizer train "$config"
}

make_shards() { "$dujiang" data build "$config" --keep-text; }

# Ctrl-C and SIGTERM become SIGUSR1 for mpirun, which hands it to the ranks: they finish the step, save and end. In a
# session of its own mpirun does not see the terminal's Ctrl-C, which would kill the ranks at once; it ends with this
# script.
train() {
  local resume=() pid status=0 stopped=
  [[ ! -d $run/checkpoints ]] || resume=(--resume)
  OMP_NUM_THREADS=$threads setsid setpriv --pdeathsig TERM \
    mpirun -n "$ranks" "$dujiang" train "$config" "${resume[@]}" &
  pid=$!
  trap 'stopped=1; note "stopping after this step"; kill -USR1 "$pid"' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    status=0
    wait "$pid" || status=$?
  done
  trap - INT TERM
  if [[ $stopped && $status == 0 ]]; then
    note "saved; the same command goes on from here"
    return 130
  fi
  return "$status"
}

newest_checkpoint() { find "$run/checkpoints" -mindepth 1 -maxdepth 1 -name 'step-*[0-9]' | sort | tail -n 1; }

score() {
  "$dujiang" eval "$model" --text "$data/held_out.txt" --json >"$run/eval.json" &&
    "$dujiang" data stats "$data" --json >"$run/data.json"
}

# What xz makes of the held-out text: alone, and after the training text, which its window (64 MiB) holds whole.
compress() {
  local alone training both
  alone=$(xz -9e -c "$data/held_out.txt" | wc -c) && training=$(xz -9e -c "$data/train.txt" | wc -c) &&
    both=$(cat "$data/train.txt" "$data/held_out.txt" | xz -9e -c | wc -c) &&
    printf '{"alone": %d, "primed": %d, "bytes": %d}\n' "$alone" $((both - training)) \
      "$(wc -c <"$data/held_out.txt")" >"$run/xz.json"
}

sample() {
  local seed=0 prompt
  : >"$run/samples.txt"
  for prompt in '在命令行中，' 'Debian 是' '春风'; do
    seed=$((seed + 1))
    "$dujiang" generate "$model" --prompt "$prompt" --max-new-tokens 80 --temperature 0.8 --top-p 0.9 \
      --seed "$seed" >"$run/sample.part" || return
    { sed "1s/^/$seed. /; 2,\$s/^/   /" "$run/sample.part" && echo; } >>"$run/samples.txt"
  done
  rm -f "$run/sample.part"
}

# line LABEL BITS_PER_BYTE: one row of the table of scores, and on which side of it the model lies.
line() {
  awk -v label="$1" -v bits="$2" -v model="$bits" 'BEGIN {
    saved = (1 - model / bits) * 100
    printf "  %6.3f  %-52s the model needs %.1f %% %s\n", bits, label, (saved < 0 ? -saved : saved), (saved < 0 ? "more" : "less") }'
}

summary() {
  local bits stamp bytes
  bits=$(figure "$run/eval.json" bits_per_byte)
  bytes=$(figure "$run/xz.json" bytes)
  echo
  echo "Text       $(figure "$run/data.json" documents) documents, $(figure "$run/data.json" tokens) tokens; held out:" \
    "$(figure "$run/data.json" held_out_documents) documents, $bytes bytes"
  printf 'Minutes   '
  for stamp in packages build text tokenizer shards train score compress sample; do
    [[ ! -e $state/$stamp.seconds ]] || awk -v name="$stamp" '{ printf " %s %.1f", name, $1 / 60 }' "$state/$stamp.seconds"
  done
  printf '\n\nLoss (nats per token) over %s steps\n' "$(figure <(tail -n 1 "$run/metrics.jsonl") step)"
  awk -f launch/loss_chart.awk "$run/metrics.jsonl"
  printf '\nBits per byte of the held-out text (less is better)\n  %6.3f  this model\n' "$bits"
  line 'xz -9e of the held-out text alone' "$(awk -v b="$bytes" -v x="$(figure "$run/xz.json" alone)" 'BEGIN { print 8 * x / b }')"
  line 'xz -9e after the training text (both - training)' "$(awk -v b="$bytes" -v x="$(figure "$run/xz.json" primed)" 'BEGIN { print 8 * x / b }')"
  line "order-0 model of the training text's characters" "$(figure "$run/data.json" held_out_order0_bits_per_byte)"
  printf '\nSamples\n'
  cat "$run/samples.txt"
  cat <<END
Model      $model
           (Hugging Face: AutoModelForCausalLM.from_pretrained("$model"))

Next
  $dujiang generate $model --prompt '你好'
  $dujiang eval $model --text FILE
  $dujiang train --help                      and $config, which says what each setting does
  mpirun -n 2 $dujiang train $config train.steps=3000 --resume
END
}

build() {
  # The tests need further packages; launch/test.sh turns them on.
  [[ -e build/CMakeCache.txt ]] || set -- -DDUJIANG_TESTS=OFF
  compile build dujiang "$@"
}

phase packages Packages "$(md5sum <launch/setup.sh)" launch/setup.sh
phase build Build "$(date +%s)" build
phase text 'Chinese text from Debian packages' "${packages[*]}" get_text

text_key=$(section tokenizer data | md5sum)
run_key=$(section name model tokenizer data train optimizer schedule | md5sum)
if [[ -e $state/begun && $(<"$state/begun") != "$run_key" ]]; then
  die 2 "$config has changed since $run was begun. To begin anew: rm -r $run"
fi
phase tokenizer Tokenizer "$text_key" make_tokenizer
phase shards 'Token shards' "$text_key" make_shards
echo "$run_key" >"$state/begun"
phase train "Training ($ranks processes, $threads thread$([[ $threads == 1 ]] || echo s) each)" "$run_key" train
model=$(newest_checkpoint)
phase score 'Score of the held-out text' "$model" score
phase compress 'The same text through xz' "$text_key" compress
phase sample Samples "$model" sample

say "Summary"
summary | tee "$run/summary.txt"
