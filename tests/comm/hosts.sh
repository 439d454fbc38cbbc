#!/usr/bin/env bash
# The mpi transport between hosts: network namespaces of this machine, joined by veth pairs on a bridge. Each host has
# its own name, /dev/shm and session folder, and every test checks that the bytes which had to cross did cross the wire.
# Usage: hosts.sh MPIRUN PROGRAM TEST, where TEST is a layout (2+1: two ranks on the first host and one on the second),
# slow or lossy of test_comm_mpi, cut_..., mpirun_... or the_store_... of fault_rank, a_wall_...
# of bootstrap_rank, or train of dujiang.
# Exit status 77: skipped. All of it, processes, interfaces and files, lives in namespaces that end with this script.
# shellcheck disable=SC2317  # the tests are called by name
set -uo pipefail

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

if [[ ${HOSTS_INSIDE-} != yes ]]; then
  for tool in ip tc unshare nsenter setpriv pgrep; do
    command -v "$tool" >/dev/null || skip "there is no $tool (packages iproute2, util-linux, procps)"
  done
  namespaces=(unshare --mount --net --pid --ipc --uts --fork --mount-proc --propagation private)
  # Who isn't root may be root among namespaces of their own.
  [[ $(id -u) == 0 ]] || namespaces+=(--map-root-user)
  reason=$("${namespaces[@]}" true 2>&1) || skip "hosts need namespaces, which this user may not have: $reason"
  work=$(mktemp -d) || exit 1
  # Whatever ends this script ends the namespaces, and with them everything inside.
  HOSTS_INSIDE=yes HOSTS_WORK=$work setpriv --pdeathsig KILL "${namespaces[@]}" --kill-child=KILL "$0" "$@" &
  namespace=$!
  # shellcheck disable=SC2064  # these names
  trap "kill -KILL $namespace 2>/dev/null; rmdir '$work'" EXIT
  trap 'exit 143' TERM INT HUP
  wait "$namespace"
  exit
fi

mpirun=$1 program=$2 test=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$HOSTS_WORK
log=$work/log session=$work/session
failures=0 shown=
complain() {
  printf '%s: %s\n' "$test" "$*"
  failures=1
  # The output, once.
  [[ -s $log && $(<"$log") != "$shown" ]] || return
  shown=$(<"$log")
  sed 's/^/  | /' "$log"
}
now() { echo $(($(date +%s%N) / 1000000)); }

# --- the hosts

on() { nsenter --target "$(<"$HOSTS/$1")" --mount --uts --ipc --net -- "${@:2}"; }

# A host is what a sleeping process holds together.
make_host() {  # NAME NUMBER
  # shellcheck disable=SC2016  # for the shell inside
  unshare --mount --net --ipc --uts bash -c '
    hostname "$1" && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs "$2" && ip link set lo up && : >"$3" &&
      exec sleep infinity' host "$1" "$session" "$HOSTS/$1.up" &
  local holder=$! end=$((SECONDS + 30))
  until [[ -e $HOSTS/$1.up ]]; do
    if ! kill -0 "$holder" 2>/dev/null || ((SECONDS > end)); then return 1; fi
    sleep 0.02
  done
  echo "$holder" >"$HOSTS/$1"
  # An address that every host has, as container engines give them: of no use to reach another.
  on "$1" ip link add inner type bridge && on "$1" ip address add 172.17.0.1/16 dev inner &&
    on "$1" ip link set inner up || return
  ip link add "port-$1" type veth peer name eth0 netns "$holder" && ip link set "port-$1" master switch up &&
    on "$1" ip address add "10.77.0.$2/24" dev eth0 && on "$1" ip link set eth0 up
}

make_hosts() {
  export HOSTS=$work/hosts HOSTS_WORK=
  mount -t tmpfs -o size=2g tmpfs "$work" && mkdir "$HOSTS" "$session" && hostname switch || return
  ip link set lo up && ip link add switch type bridge && ip link set switch up || return
  hosts=(hosta hostb hostc)
  printf '127.0.0.1 localhost\n10.77.0.1 hosta\n10.77.0.2 hostb\n10.77.0.3 hostc\n' >"$work/names"
  mount --bind "$work/names" /etc/hosts || return
  local i
  for i in 0 1 2; do make_host "${hosts[i]}" $((i + 1)) || return; done
}

# layout 2+1: the mpirun argument that puts two ranks on the first host and one on the second.
layout() {
  local counts i places=()
  IFS=+ read -ra counts <<<"$1"
  for i in "${!counts[@]}"; do places+=("${hosts[i]}:${counts[i]}"); done
  (IFS=, && echo "${places[*]}")
}

# job LAYOUT COMMAND...: started on the first host, without a tty or ssh.
job() {
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
  on hosta "$mpirun" --host "$(layout "$1")" --oversubscribe --bind-to none -x OMP_NUM_THREADS \
    --mca plm_rsh_agent "$here/hosts_agent.sh" --mca orte_tmpdir_base "$session" \
    --mca pml ob1 --mca btl self,vader,tcp --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 \
    "${@:2}" </dev/null
}

# crossed HOST: bytes from and to a host so far.
crossed() { sed 's/:/ /' /proc/net/dev | awk -v port="port-$1" '$1 == port { print $2, $10 }'; }

# Of the job: process numbers, in all hosts.
processes() { ps -e -o pid= -o comm= | awk -v program="$(basename "$program")" '$2 ~ /^(mpirun|orted)$/ || $2 == program { print $1 }'; }
ranks() { pgrep -x "$(basename "$program")"; }

# nothing_left SECONDS: no process of the job, no file in its session folders or shared memory.
nothing_left() {
  local end=$((SECONDS + $1)) host left
  while left=$(processes) && [[ -n $left ]] && ((SECONDS < end)); do sleep 0.1; done
  if [[ -n $left ]]; then
    complain "processes are left: $(xargs ps -o pid,comm,args <<<"$left")"
    xargs kill -KILL <<<"$left"
  fi
  for host in "${hosts[@]}"; do
    left=$(on "$host" find "$session" /dev/shm -mindepth 1 -not -type d)
    [[ -z $left ]] || complain "files are left on $host: $left"
  done
}

# --- the suite

# The suite's core over a layout. What it says that a host had to send and to receive, the host's wire has carried.
core() {  # LAYOUT
  local status=0 before host out in out_after in_after must_send must_receive places
  places=$(layout "$1")
  before=$(for host in "${hosts[@]}"; do echo "$host $(crossed "$host")"; done)
  job "$1" "$program" hosts_core "$1" >"$log" 2>&1 || status=$?
  [[ $status == 0 ]] || complain "the suite over $1 ended with status $status"
  while read -r host out in; do
    [[ $places == *"$host:"* ]] || continue
    read -r out_after in_after < <(crossed "$host")
    read -r must_send must_receive < <(sed -n "s/^$host had to send \([0-9]*\) bytes and to receive \([0-9]*\)$/\1 \2/p" "$log")
    out=$((out_after - out)) in=$((in_after - in))
    printf '%s: sent %d bytes of at least %d, received %d of at least %d\n' "$host" $out "${must_send:-0}" $in "${must_receive:-0}"
    [[ ${must_send:-0} -ge 1000000 && ${must_receive:-0} -ge 1000000 ]] || complain "$host tells no payload"
    ((out >= must_send && in >= must_receive)) || complain "the payload didn't cross $host's wire"
  done <<<"$before"
  nothing_left 5
}

# Limited to 100 Mbit/s.
slow() {
  local host
  for host in hosta hostb; do
    on "$host" tc qdisc add dev eth0 root tbf rate 100mbit burst 64kb latency 50ms ||
      skip "the kernel has no tbf"
  done
  core 2+2
  on hosta tc -s qdisc show dev eth0 | grep -q 'overlimits [1-9]' || complain "the limit limited nothing"
}

# One packet of a hundred is lost on its way in.
lossy() {
  local host reason
  command -v nft >/dev/null || skip "there is no nft (package nftables)"
  for host in hosta hostb; do
    reason=$(on "$host" nft -f - 2>&1 <<'RULES'
table inet loss {
  chain input {
    type filter hook input priority 0;
    iifname "eth0" numgen random mod 100 < 1 counter drop
  }
}
RULES
    ) && continue
    [[ $reason != *'Could not process rule'* ]] || skip "the kernel can't lose packets: $reason"
    complain "nft: $reason"
  done
  core 2+2
  for host in hosta hostb; do
    # Not grep -q, which may leave before nft has said all: a fault of the pipe.
    [[ $(on "$host" nft list ruleset) == *'counter packets '[1-9]* ]] || complain "$host lost nothing"
  done
}

# --- training

# Losses, gradient norms and weights are those of one host with as many ranks.
train() {
  local ranks places
  cd "$work" && mkdir text || return
  for ((i = 0; i < 60; i++)); do
    printf '第%d条河流过平原，分成%d条水渠。\n都江堰的水，灌溉田地。River %d.\n' "$i" $((i % 7)) "$i" >"text/$i.txt"
  done
  cat >tiny.yaml <<YAML
name: tiny
model: {model_type: qwen3, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,
        head_dim: 32, intermediate_size: 128, vocab_size: 320, max_position_embeddings: 32, tie_word_embeddings: true}
tokenizer: {path: $work/tokenizer, vocab_size: 320}
data:
  path: $work/data
  sequence_length: 32
  held_out_share: 0.2
  sources: [{name: rivers, files: ["$work/text/*.txt"], profile: none}]
  dedup: {near: false}
train: {steps: 100, global_batch: 12, micro_batch: 1, precision: fp32}
optimizer: {lr: 1.0e-3}
log: {dir: run, every: 1}
YAML
  { "$program" tokenizer train tiny.yaml && "$program" data build tiny.yaml; } >"$log" 2>&1 ||
    { complain "no data to train on" && return; }
  for ranks in 4 3; do
    places=$([[ $ranks == 4 ]] && echo 2+2 || echo 1+1+1)
    job "$ranks" "$program" train "$work/tiny.yaml" log.dir="$work/one-$ranks" >"$log" 2>&1 ||
      complain "$ranks ranks on one host: status $?"
    read -r before _ < <(crossed hostb)
    job "$places" "$program" train "$work/tiny.yaml" log.dir="$work/several-$ranks" >"$log" 2>&1 ||
      complain "$places ranks: status $?"
    read -r after _ < <(crossed hostb)
    [[ $(grep -c '"loss"' "several-$ranks/metrics.jsonl") == 100 ]] || complain "$places: not 100 losses"
    cmp <(figures "one-$ranks") <(figures "several-$ranks") || complain "$places: other losses than on one host"
    cmp {one,several}-"$ranks"/checkpoints/step-*100/model.safetensors || complain "$places: other weights than on one host"
    # Every step reduces a gradient of as many bytes as the weights.
    weights=$(stat -c %s "several-$ranks"/checkpoints/step-*100/model.safetensors)
    printf '%s: hostb sent %d bytes for 100 gradients of %d\n' "$places" $((after - before)) "$weights"
    ((after - before >= 95 * weights)) || complain "the gradients didn't cross hostb's wire"
    nothing_left 5
  done
}

figures() { grep -o '"\(step\|loss\|grad_norm\)": *[^,}]*' "$1/metrics.jsonl"; }

# --- a cut link

place='all_reduce sum of 1048576 x f32 .*tests/comm/fault_rank\.cpp:[0-9]+\)'

# retry TIMES: how often the hosts repeat what nobody answers before they give a connection up. mpirun waits as long.
retry() {
  local host
  for host in "${hosts[@]}"; do on "$host" sysctl -qw net.ipv4.tcp_retries2="$1"; done
}

# cut_off LAYOUT HOST SURVIVORS TIMEOUT LIMIT PATTERN: cuts a host off in the middle of an all_reduce. All ranks end
# within LIMIT seconds, those on the host too; each survivor's only line matches the pattern.
cut_off() {
  local launcher since took end rank status=0 lines
  job "$1" "$program" work "$4" >"$log" 2>&1 &
  launcher=$!
  end=$((SECONDS + 60))
  until [[ $(grep -c ready "$log") == "$(($1))" ]] || ((SECONDS > end)); do sleep 0.05; done
  sleep 0.5
  since=$(now)
  on "$2" ip link set eth0 down
  while ranks >/dev/null && (($(now) - since < $5 * 1000)); do sleep 0.05; done
  took=$(($(now) - since))
  printf 'cut off %s of %s: all ranks had ended after %d ms\n' "$2" "$1" "$took"
  ! ranks >/dev/null || complain "ranks run on $took ms after the cut: $(ranks | xargs)"
  end=$((SECONDS + 80))
  while kill -0 "$launcher" 2>/dev/null && ((SECONDS < end)); do sleep 0.1; done
  ! kill -0 "$launcher" 2>/dev/null || { complain "mpirun runs on" && kill -KILL "$launcher"; }
  wait "$launcher" || status=$?
  ((status != 0)) || complain "mpirun's exit status is 0"
  for rank in $3; do
    lines=$(grep "^dujiang: rank $rank of" "$log")
    if [[ $(grep -c . <<<"$lines") != 1 ]] || ! grep -Eq "$6" <<<"$lines"; then
      complain "expected one line of rank $rank that matches \"$6\""
    fi
  done
  nothing_left 40
}

# Who waits for a rank on the host that is cut off.
waits_for() { echo "$place has waited .* for rank [$1], which has shown no sign of life for .*host is unreachable"; }

cut_a_host_of_two() { retry 5 && cut_off 2+2 hostb "0 1" 4 9 "$(waits_for 23)"; }
cut_a_host_of_three() { retry 5 && cut_off 1+1+1 hostc "0 1" 4 9 "$(waits_for 2)"; }
cut_the_host_of_rank_0() { retry 5 && cut_off 2+1 hosta "0 1" 4 9 "$(waits_for 2)"; }
# mpirun gives the host up, and ends the ranks, before the timeout has passed: they have a line nevertheless.
mpirun_gives_up_first() { retry 5 && cut_off 2+2 hostb "0 1" 60 40 "$(waits_for 23)"; }
# The store gives the host up after half a minute.
the_store_gives_up_first() {
  retry 7 && cut_off 1+1+1 hostc "0 1" 100 40 "rank 2's process is gone .* was in $place"
}

# A wall that lets MPI through and not what leads to the store: told with every address that was tried.
a_wall_before_the_store() {
  local status=0
  command -v nft >/dev/null || skip "there is no nft (package nftables)"
  on hosta nft -f - <<'RULES' || skip "the kernel can't drop what begins a connection"
table inet wall {
  chain input {
    type filter hook input priority 0;
    iifname "eth0" tcp flags & (syn | ack) == syn tcp dport 32768-65535 counter drop
  }
}
RULES
  job 1+1 --mca btl_tcp_port_min_v4 20000 --mca btl_tcp_port_range_v4 100 --mca oob_tcp_dynamic_ipv4_ports 21000-21099 \
    "$program" mpi 8000 >"$log" 2>&1 || status=$?
  [[ $status == 2 ]] || complain "exit status $status, expected 2"
  grep -Eq "^dujiang: rank 1 of 2: .*can't reach the store of rank 0 .*: 172\.17\.0\.1:[0-9]+: Connection refused; 10\.77\.0\.1:[0-9]+: no answer" "$log" ||
    complain "rank 1 doesn't say what it tried"
  nothing_left 5
}

make_hosts || skip "the hosts could not be set up"
case $test in
  [0-9]*) core "$test" ;;
  *) "$test" ;;
esac
exit "$failures"
