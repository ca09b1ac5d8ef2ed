#!/usr/bin/env bash
# Is `make test` green on another machine? Three tries on a clean clone of what is committed, each with an empty home:
#
#     bash tools/elsewhere.sh                      # all three: about four times as long as `make test`
#     bash tools/elsewhere.sh one-core foreign     # some of them
#
#   one-core   everything on one processor
#   busy       no AVX-512, a busy process beside it for every processor, and the unit tests in another order
#   foreign    other fonts, a locale that is not UTF-8, a far time zone, and a user's own settings
set -uo pipefail
cd "$(dirname "$0")/.."
venv=$PWD/.venv
tries=${*:-one-core busy foreign}
place=$(mktemp -d)
others=()
cleanup() { [ ${#others[@]} = 0 ] || kill "${others[@]}" 2>/dev/null; rm -rf "$place"; }
trap cleanup EXIT

# Runs `make test` in the clone; what differs comes as arguments of `env`, perhaps behind another command.
elsewhere() { ( cd "$place/clone" && "$@" make test VENV="$venv" ); }

one-core() { elsewhere taskset -c "$(taskset -cp $$ | grep -o '[0-9]*' | tail -1)"; }

busy() {
    for _ in $(seq "$(nproc)"); do "$venv/bin/python" -m bench.machine spin & others+=($!); done
    elsewhere env ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
        PYTEST_ADDOPTS="-n 2 --dist loadfile"
    local verdict=$?
    kill "${others[@]}"
    others=()
    return $verdict
}

foreign() {
    local home=$place/home locale
    # Matplotlib carries fonts: a monospaced one is wider than any that a page is set in.
    cat >"$home/fonts.conf" <<XML
<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>$("$venv/bin/python" -c "import matplotlib; print(matplotlib.get_data_path())")/fonts/ttf</dir>
  <cachedir>$home/fonts</cachedir>
  <match target="pattern">
    <edit name="family" mode="assign" binding="strong"><string>DejaVu Sans Mono</string></edit>
  </match>
</fontconfig>
XML
    mkdir -p "$home/.config/matplotlib" "$home/.ipython/profile_default"
    echo "figure.figsize: 3, 2" >"$home/.config/matplotlib/matplotlibrc"
    echo "c.InlineBackend.figure_formats = {'svg'}" >"$home/.ipython/profile_default/ipython_config.py"
    locale=$(locale -a | grep -viE '^(C|POSIX|C\.utf-?8)$|utf-?8' | head -1)
    elsewhere env FONTCONFIG_FILE="$home/fonts.conf" LC_ALL="${locale:-C}" PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 \
        TZ=EAST-14 MPLBACKEND=svg PYTHONWARNINGS=error
}

report="" red=0
for try in $tries; do
    rm -rf "$place/clone" "$place/home"
    mkdir "$place/home"
    git clone --quiet . "$place/clone"
    # The environment is this checkout's: not older than the clone's files, or make would install it again.
    touch -r "$venv/.installed" "$place/clone/pyproject.toml" "$place/clone/constraints.txt"
    begin=$SECONDS
    if HOME=$place/home METALIB_DATA='' "$try"; then verdict=passed; else verdict=FAILED red=1; fi
    report+="$(printf '%-10s %s after %d s' "$try" "$verdict" $((SECONDS - begin)))"$'\n'
done
printf '\n=== make test elsewhere\n%s' "$report"
exit $red
