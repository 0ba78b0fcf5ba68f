#!/bin/bash
# The inside of tests/support/user_systemd.py, which says what it is for and prepares it.
#
#   user_systemd.sh root UID PATHS -- COMMAND ...   first, as PID 1 of new namespaces
#   user_systemd.sh user -- COMMAND ...                  then, as the user
#
# PATHS are directories, separated by colons, that the user must be able to reach.
set -euo pipefail

# Give UID a way to DIRECTORY.  A parent that is closed to others is covered by an empty, open
# one, and the directory is put back into it: outside of this namespace nothing changes.
open_way() {
  local uid=$1 directory=$2 parent keep
  while ! setpriv --reuid="$uid" --regid="$uid" --clear-groups test -r "$directory/."; do
    parent=$directory
    until setpriv --reuid="$uid" --regid="$uid" --clear-groups test -x "$(dirname "$parent")/."; do
      parent=$(dirname "$parent")
    done
    [ "$parent" != "$directory" ] || { echo "uid $uid cannot read $directory" >&2; exit 77; }
    keep=$(mktemp -d /run/way.XXXXXX)
    mount --bind "$directory" "$keep"
    mount -t tmpfs -o mode=755 tmpfs "$parent"
    mkdir -p "$directory"
    mount --bind "$keep" "$directory"
  done
}

wait_for() {
  for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.02; done
  echo "user_systemd: gave up waiting for: $*" >&2
  cat /run/journald.log "${XDG_RUNTIME_DIR:-/run}/manager.log" >&2 2>/dev/null || true
  exit 70
}

as_root() {
  local uid=$1 paths=$2 home=/run/home directory
  shift 3
  umount --recursive --lazy /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs /run
  # sd_booted(3) looks for the first; units with mount namespaces need the rest
  mkdir -p /run/systemd/{system,journal,unit-root,mount-rootfs,propagate,incoming} /run/dbus /run/lock
  # not below /tmp, which units with PrivateTmp= do not see
  install -d -m 700 -o "$uid" -g "$uid" "$home"
  IFS=: read -ra directories <<<"$paths"
  for directory in "${directories[@]}"; do open_way "$uid" "$directory"; done
  if ! getent passwd "$uid" >/dev/null; then  # dbus-daemon wants a name
    cp /etc/passwd /run/passwd
    echo "modeld-test:x:$uid:$uid::$home:/bin/bash" >>/run/passwd
    mount --bind /run/passwd /etc/passwd
  fi
  # only a persistent journal is split by user, and so readable for journalctl --user
  mkdir -p /var/log/journal
  mount -t tmpfs -o mode=755 tmpfs /var/log/journal
  mkdir -p "/var/log/journal/$(cat /etc/machine-id)"
  "$SYSTEMD/systemd-journald" >/run/journald.log 2>&1 &
  wait_for test -S /run/systemd/journal/stdout
  journalctl --flush >/dev/null 2>&1 || true
  # a login session's place in the tree: journald reads uid and unit from it
  local service=/sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service
  mkdir -p "$service/init.scope" "/run/user/$uid"
  echo $$ >"$service/init.scope/cgroup.procs"
  chown -R "$uid:$uid" "$service" "/run/user/$uid"
  chmod 700 "/run/user/$uid"
  setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs \
    env HOME="$home" USER=modeld-test LOGNAME=modeld-test XDG_RUNTIME_DIR="/run/user/$uid" \
    "$0" user -- "$@"
}

as_user() {
  shift
  unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME XDG_CACHE_HOME NOTIFY_SOCKET INVOCATION_ID
  export DBUS_SESSION_BUS_ADDRESS=unix:path=$XDG_RUNTIME_DIR/bus
  export MODELD_TEST_USER_MANAGER=1 PYTHONDONTWRITEBYTECODE=1
  export HYPOTHESIS_STORAGE_DIRECTORY=$HOME/.hypothesis
  dbus-daemon --session --address="$DBUS_SESSION_BUS_ADDRESS" --fork
  # what the caller has in its environment is no business of the manager's
  env -i PATH="$PATH" HOME="$HOME" USER="$USER" XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" \
    DBUS_SESSION_BUS_ADDRESS="$DBUS_SESSION_BUS_ADDRESS" \
    "$SYSTEMD/systemd" --user >"$XDG_RUNTIME_DIR/manager.log" 2>&1 &
  wait_for busctl --user call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
    org.freedesktop.DBus.Peer Ping
  wait_for systemctl --user is-active default.target
  "$@"
}

"as_$1" "${@:2}"
