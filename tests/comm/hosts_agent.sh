#!/usr/bin/env bash
# mpirun's launch agent, in ssh's place: runs a command on a host of hosts.sh, which lists them in the folder $HOSTS.
# Usage: hosts_agent.sh HOST COMMAND...
exec nsenter --target "$(<"$HOSTS/$1")" --mount --uts --ipc --net -- bash -c "${*:2}"
