#!/usr/bin/env bash
# Fetch the message catalogs of the packages in catalog_packages.txt, on Debian or a relative of it.
#
#     models/translate/fetch_catalogs.sh FOLDER [LANGUAGE]
#
# Downloads each package (nothing is installed), and unpacks its LANGUAGE catalogs below FOLDER.
set -euo pipefail
folder=${1:?usage: fetch_catalogs.sh FOLDER [LANGUAGE]} language=${2:-de}
list=$(cd "$(dirname "$0")" && pwd)/catalog_packages.txt
mkdir -p "$folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
grep -v '^#' "$list" | while read -r package; do
  if ! (cd "$scratch" && apt-get download -qq "$package" >/dev/null 2>&1); then
    echo "no package $package here, passed over" >&2
    continue
  fi
  for archive in "$scratch"/*.deb; do
    dpkg-deb --fsys-tarfile "$archive" |
      tar -x -C "$folder" --wildcards "*/$language/LC_MESSAGES/*.mo" 2>/dev/null || true
    rm "$archive"
  done
done
echo "$(find "$folder" -name '*.mo' | wc -l) catalogs below $folder"
