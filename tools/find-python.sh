#!/bin/sh
# Prints the newest Python that can make a virtual environment; says what is missing when there is none.
# The list ends where the packages we build on have no wheels yet.
best=""
for name in python3.14 python3.13 python3.12 python3.11 python3; do
    command -v "$name" >/dev/null 2>&1 || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    best=${best:-$name}
    if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$name"
        exit 0
    fi
done
if [ -n "$best" ]; then
    version=$("$best" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    echo "$best is here, but its venv module is not. On Debian and Ubuntu: apt install $version-venv" >&2
elif command -v python3 >/dev/null 2>&1; then
    echo "sightrank needs Python 3.11 or newer; this machine has $(python3 --version 2>&1). Install a newer one and run make again." >&2
else
    echo "sightrank needs Python 3.11 or newer, and no python3 was found. Install it and run make again." >&2
fi
exit 1
