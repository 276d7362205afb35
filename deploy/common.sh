# Sourced by deploy/quickstart, tests/run and .ci/run: says what is being done
# and how long it took, and installs packages. Needs `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
steps_begun_at=$SECONDS
step_begun_at=$SECONDS
step_words=""

# step WORDS...: ends the step before and begins this one.
step() {
  end_step
  step_words="$*"
  step_begun_at=$SECONDS
  printf '\n== %s\n' "$step_words"
}

end_step() {
  [ -z "$step_words" ] ||
    printf -- '-- %s: %d s\n' "$step_words" $((SECONDS - step_begun_at))
  step_words=""
}

# die CODE WORDS...: says why it cannot go on.
die() {
  local code=$1
  shift
  printf '\n%s: cannot go on: %s\n' "${0##*/}" "$*" >&2
  exit "$code"
}

total_time() { printf 'total: %d s\n' $((SECONDS - steps_begun_at)); }

# missing_packages SECTION...: those packages of deploy/packages that are not
# there, one a line.
missing_packages() {
  local wanted name command installed
  wanted=$(awk -v sections=" $* " '
    /^\[.*\]$/ { on = index(sections, " " substr($0, 2, length($0) - 2) " ") }
    on && !/^(#|\[|[ \t]*$)/ { print }' "$root/deploy/packages" | sort -u)
  installed=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' |
    awk '$1 == "ii" { print $2 }' | sort -u)
  while read -r name command; do
    [ -n "$name" ] || continue
    if [ -n "$command" ] && command -v "$command" >/dev/null; then continue; fi
    grep -qxF -- "$name" <<<"$installed" || printf '%s\n' "$name"
  done <<<"$wanted"
}

# install_packages SECTION...: installs what is missing; nothing is downloaded
# when nothing is.
install_packages() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    die 2 "this is not a Debian system: install what deploy/packages lists"
  local missing as_root=()
  missing=$(missing_packages "$@")
  if [ -z "$missing" ]; then
    echo "nothing to install"
    return
  fi
  # Word splitting is wanted below: one package, one word.
  # shellcheck disable=SC2086
  echo "missing:" $missing
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null ||
      die 2 "installing packages needs root, or sudo that asks no password;" \
        "as root, run: apt-get install --no-install-recommends" $missing
    as_root=(sudo -n)
  fi
  local log
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { "${as_root[@]}" apt-get -q update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -q install -y --no-install-recommends $missing; } \
    </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die 2 "apt-get could not install these packages:" $missing
  fi
  rm -f "$log"
}

# configure_preset PRESET [OPTION...]: quietly, unless it fails. CODESEAL_BUILD_ONCE
# is for machines that build once: see cmake/Codeseal.cmake.
configure_preset() {
  mkdir -p "build/$1"
  cmake --preset "$@" \
    ${CODESEAL_BUILD_ONCE:+"-DCODESEAL_BUILD_ONCE=$CODESEAL_BUILD_ONCE"} >"build/$1/configure.log" 2>&1 || {
    cat "build/$1/configure.log" >&2
    die 1 "configuring failed (preset $1)"
  }
}

# build_preset PRESET TARGET...
build_preset() {
  local preset=$1
  shift
  cmake --build --preset "$preset" ${1:+--target "$@"} ||
    die 1 "the build failed (preset $preset)"
}
