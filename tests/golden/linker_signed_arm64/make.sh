#!/bin/sh
# Makes `input` anew: the linker signs what it links. Needs clang-19 and lld-19.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$here/../../corpus/synth" "$folder" linker-signed-arm64
cp "$folder/linker-signed-arm64" "$here/input"
chmod 644 "$here/input"
