#!/bin/sh
# Installs the gradsieve client on a board, upgrades it, or removes it. Run it as root; a second run changes nothing.
# docs/raspberry-pi.md tells the whole way from an SD card to a running client.
set -eu
umask 022

# When this release was made, in seconds since 1970. A board whose clock is behind it refuses every certificate.
RELEASE_SECONDS=1795651200 # 2026-11-26
RELEASE_DAY=2026-11-26
NEEDED_MB=400

usage() {
    cat <<'EOF'
usage: install-client.sh [options]

  --wheel FILE      install this wheel of gradsieve; what it depends on comes from pip's package index
  --offline DIR     install from the wheels in DIR alone, without a network
                    (without either: the checkout that this script lies in)
  --prefix DIR      where the program goes (default /opt/gradsieve)
  --dry-run         check, say what would be done, and do nothing
  --uninstall       remove program and service; settings and state stay
  --purge           with --uninstall: delete settings, state and user too, after a question
  --yes             answer that question with yes
  --root DIR        put everything below DIR and need no root, for tests
  --help            this text

The variable PYTHON names another interpreter than python3. Exit codes:

   0  done, or nothing to do       14  the clock is wrong
   2  wrong command line           15  not root
  10  unsupported processor        16  systemd, useradd or venv is missing
  11  C library unfit              17  nothing to install from
  12  Python missing or too old    18  pip failed: what was installed before goes on
  13  too little disk space        19  the question was not answered with yes
EOF
}

say() { printf '%s\n' "$*"; }

refuse() { # CODE TEXT: what is wrong, and the remedy, in one line
    printf 'install-client: %s\n' "$2" >&2
    exit "$1"
}

change() { # TEXT COMMAND...: do one thing that changes the machine, or only say so
    changes=$((changes + 1))
    what=$1
    shift
    if [ "$dry_run" = yes ]; then
        say "would $what"
    else
        say "$what"
        "$@"
    fi
}

# --- the command line

dry_run=no uninstall=no purge=no yes=no root='' prefix=/opt/gradsieve wheel='' offline='' changes=0

value() { # OPTION COUNT: refuses an option that lacks its value
    [ "$2" -ge 2 ] || refuse 2 "$1 needs a value: see --help"
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=yes ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    --yes) yes=yes ;;
    --wheel) value "$1" $# && wheel=$2 && shift ;;
    --offline) value "$1" $# && offline=$2 && shift ;;
    --prefix) value "$1" $# && prefix=${2%/} && shift ;;
    --root) value "$1" $# && root=${2%/} && shift ;;
    --help | -h)
        usage
        exit 0
        ;;
    *) refuse 2 "unknown option $1: see --help" ;;
    esac
    shift
done

# A systemd unit would split such a path at a space, and read % and $ as its own.
case $prefix in
*[!A-Za-z0-9/._-]*) refuse 2 "--prefix $prefix: use letters, digits, '.', '_', '-' and '/' alone" ;;
/*) ;;
*) refuse 2 "--prefix $prefix: give a path from the root, such as /opt/gradsieve" ;;
esac
case /$prefix/ in
*/../* | */./*) refuse 2 "--prefix $prefix: give a path without . and .." ;;
///) refuse 2 "--prefix /: name a folder of its own, such as /opt/gradsieve" ;;
esac
[ "$purge" = no ] || [ "$uninstall" = yes ] || refuse 2 "--purge alone: it goes with --uninstall"
[ -z "$wheel" ] || [ -z "$offline" ] || refuse 2 "--wheel and --offline exclude each other: put the wheel into the folder"

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
user=gradsieve-edge
service=gradsieve-edge.service
top=$root$prefix
settings=$root/etc/gradsieve
state=$root/var/lib/gradsieve-edge
unit=$root/etc/systemd/system/$service

need_root() {
    [ -n "$root" ] || [ "$dry_run" = yes ] || [ "$(id -u)" = 0 ] || refuse 15 "needs root: run it with sudo"
}

systemctl_here() { # with --root only the files below it are touched, never the running system
    if [ -n "$root" ]; then
        systemctl --root="$root" "$@"
    else
        systemctl "$@"
    fi
}

reload_units() { [ -n "$root" ] || systemctl daemon-reload; }

# --- what a board must have

check_processor() {
    processor=$(uname -m)
    case $processor in
    aarch64 | x86_64) ;;
    armv6l | armv7l)
        refuse 10 "$processor: onnxruntime is published for 64-bit ARM alone: install a 64-bit system on the board" ;;
    *) refuse 10 "processor $processor: onnxruntime is published for aarch64 and x86_64 alone: use such a board" ;;
    esac
    # Raspberry Pi OS of 32 bits runs a 64-bit kernel on newer boards, and uname names the kernel's.
    [ "$(getconf LONG_BIT)" = 64 ] ||
        refuse 10 "a 32-bit system under a 64-bit kernel: onnxruntime needs a 64-bit system: install one on the board"
}

check_c_library() {
    library=$(getconf GNU_LIBC_VERSION 2>/dev/null) ||
        refuse 11 "no GNU C library, for which onnxruntime is published: use Debian, Ubuntu or Raspberry Pi OS"
    version=${library#glibc }
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    if [ "$major" -lt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -lt 28 ]; }; then
        refuse 11 "$library is older than 2.28, which onnxruntime needs: upgrade the system"
    fi
}

check_python() {
    command -v "$python" >/dev/null ||
        refuse 12 "$python is not there: apt install python3 python3-venv, or name another in the variable PYTHON"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        refuse 12 "$("$python" --version 2>&1) is older than 3.11: upgrade the system, or name another in PYTHON"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        refuse 16 "$python cannot make virtual environments: apt install python3-venv"
}

check_system() {
    command -v systemctl >/dev/null ||
        refuse 16 "systemd is not there: run gradsieve-edge by your own supervisor, see docs/operations.md"
    command -v useradd >/dev/null || refuse 16 "useradd is not there: apt install passwd"
    [ -f "$here/systemd/$service" ] ||
        refuse 17 "$here/systemd/$service is not there: copy the whole folder deploy, not the script alone"
}

check_clock() {
    now=$(date +%s)
    [ "$now" -ge "$RELEASE_SECONDS" ] ||
        refuse 14 "the clock says $(date +%F), before this release of $RELEASE_DAY, and certificates would be refused: \
set it by 'timedatectl set-ntp true' or 'date -s'"
}

check_disk() {
    place=$top
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free_mb=$(($(df -Pk "$place" | awk 'NR == 2 { print $4 }') / 1024))
    [ "$free_mb" -ge "$NEEDED_MB" ] ||
        refuse 13 "$free_mb MB are free in $place and $NEEDED_MB are needed: make room, such as by 'apt clean'"
}

# --- what to install: `package` for pip, and `content`, which tells two packages apart

find_package() {
    if [ -n "$wheel" ]; then
        [ -f "$wheel" ] || refuse 17 "wheel $wheel: is not there: check the path"
        wheel=$(cd "$(dirname "$wheel")" && pwd)/$(basename "$wheel")
        package="${wheel}[edge]" content=$(cksum <"$wheel")
    elif [ -n "$offline" ]; then
        set -- "$offline"/gradsieve-*.whl
        [ -f "$1" ] || refuse 17 "no wheel of gradsieve is in $offline: put it there, with those it depends on"
        offline=$(cd "$offline" && pwd)
        package="gradsieve[edge]" content=$(cd "$offline" && cksum -- *.whl | cksum)
    elif [ -f "$here/../pyproject.toml" ] && [ -d "$here/../edge_client" ]; then
        checkout=$(cd "$here/.." && pwd)
        package="${checkout}[edge]" content=$(checksum_of_checkout)
    else
        # Never by name alone from an index: as root, whoever holds the name there would be run.
        refuse 17 "neither a checkout around this script nor a wheel: name one by --wheel or --offline"
    fi
    interpreter=$("$python" -c 'import sys; print(sys.version)')
    wanted=venv-$(printf '%s %s\n' "$content" "$interpreter" | cksum | cut -d ' ' -f 1)
    venv=$prefix/$wanted
}

checksum_of_checkout() {
    (cd "$checkout" && find pyproject.toml edge_client shared -type f ! -name '*.pyc' | LC_ALL=C sort |
        while read -r file; do cksum "$file"; done | cksum)
}

# --- the steps

install_program() {
    if [ "$(cat "$top/current/complete" 2>/dev/null)" = "$wanted" ] && "$top/current/bin/python" -c '' 2>/dev/null; then
        return
    fi
    check_disk
    change "install $package into $venv" build_program
    program_changed=yes
}

# A new folder for each version: a failed upgrade leaves the old one as it was, and the switch is one rename.
build_program() {
    rm -rf "$root$venv"
    mkdir -p "$top"
    "$python" -m venv "$root$venv" || refuse 18 "no virtual environment in $root$venv: see above"
    if [ -n "$offline" ]; then
        set -- --no-index --find-links "$offline"
    else
        set --
    fi
    # --no-cache-dir: a cache of wheels would be written to the SD card and never read.
    if ! "$root$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "$@" "$package"; then
        rm -rf "$root$venv"
        refuse 18 "pip could not install $package, see above: check the network, or give all wheels by --offline"
    fi
    chmod -R go=rX "$root$venv" # the umask of the caller must not lock the service's user out
    printf '%s\n' "$wanted" >"$root$venv/complete"
    ln -sfn "$wanted" "$top/current.new"
    mv -fT "$top/current.new" "$top/current"
}

remove_programs() { # NAME: all environments that this script made, but for one of this name
    for folder in "$top"/venv-[0-9]*; do
        if [ -f "$folder/pyvenv.cfg" ] && [ "$(basename "$folder")" != "$1" ]; then
            change "remove ${folder#"$root"}" rm -rf "$folder"
        fi
    done
}

make_user() {
    id -u "$user" >/dev/null 2>&1 || change "make the system user $user" \
        useradd --system --user-group --home-dir /var/lib/gradsieve-edge --no-create-home --shell /usr/sbin/nologin "$user"
}

make_folder() { # DIR MODE OWNER
    [ -d "$1" ] || change "make ${1#"$root"}" make_folder_now "$@"
}

make_folder_now() {
    mkdir -p "$1"
    chmod "$2" "$1"
    chown "$3" "$1"
}

# The operator's file is never written again, whatever is in it.
make_settings() {
    [ ! -e "$settings/client.toml" ] || return 0
    change "write /etc/gradsieve/client.toml" write_settings
    settings_are_new=yes
}

write_settings() {
    (umask 077 && device_settings >"$settings/client.toml.new")
    chown "root:$user" "$settings/client.toml.new"
    chmod 640 "$settings/client.toml.new"
    mv "$settings/client.toml.new" "$settings/client.toml"
}

device_settings() {
    name=$(uname -n | tr 'A-Z.' 'a-z-' | tr -cd 'a-z0-9_-' | sed 's/^[_-]*//' | cut -c 1-48)
    cat <<EOF
# Settings of this board. Every key is explained in docs/operations.md, "Device settings".
name = "${name:-board-1}" # the common name of its certificate
data = "/var/lib/gradsieve-edge/data" # a folder that the user $user can read, and not below /home
state_dir = "/var/lib/gradsieve-edge/state"
trusted_signers = ["/etc/gradsieve/coordinator.pub"] # the coordinator's public key

[broker]
host = "broker.example.org" # change this
port = 8883

[broker.tls]
ca_file = "/etc/gradsieve/ca.crt"
cert_file = "/etc/gradsieve/client.crt"
key_file = "/etc/gradsieve/client.key" # chown root:$user and chmod 640
EOF
}

install_service() {
    content=$(sed "s#/opt/gradsieve/#$prefix/#" "$here/systemd/$service")
    if [ ! -f "$unit" ] || [ "$(cat "$unit")" != "$content" ]; then
        change "install the service $service" write_service
        program_changed=yes
    fi
    systemctl_here --quiet is-enabled "$service" >/dev/null 2>&1 ||
        change "enable the service" systemctl_here --quiet enable "$service"
}

write_service() {
    mkdir -p "$(dirname "$unit")"
    printf '%s\n' "$content" >"$unit.new"
    chmod 644 "$unit.new"
    mv "$unit.new" "$unit"
    reload_units
}

install_client() {
    check_processor
    check_c_library
    check_python
    check_system
    check_clock
    need_root
    find_package
    program_changed=no settings_are_new=no
    install_program
    make_user
    make_folder "$settings" 750 "root:$user"
    make_settings
    make_folder "$state" 700 "$user:$user"
    make_folder "$state/data" 700 "$user:$user"
    install_service
    # The old version is removed after the restart: until then the running client may still load its files.
    if [ "$program_changed" = yes ] && [ "$settings_are_new" = no ] && [ -z "$root" ]; then
        change "restart the client where it runs" systemctl try-restart "$service"
    fi
    remove_programs "$wanted"
    tell_what_is_next
}

tell_what_is_next() {
    [ "$changes" -gt 0 ] || say "nothing to change: $service is installed as it should be"
    if [ "$settings_are_new" = no ]; then
        [ -n "$root" ] || systemctl --quiet is-active "$service" || say "it does not run: systemctl start $service"
        return
    fi
    cat <<EOF

Next:
  1. edit /etc/gradsieve/client.toml, and put the files that it names there
  2. sudo -u $user $prefix/current/bin/gradsieve-edge doctor --config /etc/gradsieve/client.toml
  3. sudo systemctl start $service
EOF
}

# --- removal

uninstall_client() {
    need_root
    [ "$purge" = no ] || [ "$dry_run" = yes ] || confirm_purge
    if [ -f "$unit" ]; then
        change "stop and disable the service" stop_service
        change "remove $service" remove_service
    fi
    remove_programs none
    if [ -L "$top/current" ]; then # and nothing else there: somebody may have named a folder with other things in it
        change "remove $prefix/current" remove_link
    fi
    if [ "$purge" = yes ]; then
        [ ! -e "$settings" ] || change "delete /etc/gradsieve" rm -rf "$settings"
        [ ! -e "$state" ] || change "delete /var/lib/gradsieve-edge" rm -rf "$state"
        if id -u "$user" >/dev/null 2>&1; then
            change "delete the user $user" userdel "$user"
        fi
    fi
    [ "$changes" -gt 0 ] || say "nothing to change: no client is installed"
    if [ "$purge" = no ] && { [ -e "$settings" ] || [ -e "$state" ]; }; then
        say "kept /etc/gradsieve and /var/lib/gradsieve-edge: --uninstall --purge deletes them"
    fi
}

confirm_purge() {
    [ "$yes" = no ] || return 0
    [ -e "$settings" ] || [ -e "$state" ] || return 0
    printf 'Delete /etc/gradsieve and /var/lib/gradsieve-edge, with keys, data and updates not yet uploaded? [yes/no] '
    answer=no
    read -r answer || answer=no
    [ "$answer" = yes ] || refuse 19 "nothing was removed: answer yes, or give --yes where nobody can answer"
}

remove_link() {
    rm "$top/current"
    rmdir "$top" 2>/dev/null || true
}

stop_service() {
    if [ -n "$root" ]; then
        systemctl_here --quiet disable "$service"
    else
        systemctl --quiet disable --now "$service"
    fi
}

remove_service() {
    rm -f "$unit"
    reload_units
}

if [ "$uninstall" = yes ]; then
    uninstall_client
else
    install_client
fi
