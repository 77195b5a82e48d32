#!/bin/sh
# Stands before nvcc: an object of the same source and words is compiled once, then copied; and it
# does what the file `behaviour` says (ACTION SOURCE TIMES) to the compile of that source.
memo=@memo@ real=@real@
out= dep= src= before=
for word in "$@"; do
  case $before in -o) out=$word ;; -MF) dep=$word ;; esac
  case $word in --version | -V) cat "$memo/version"; exit 0 ;; *.cu) src=$word ;; esac
  before=$word
done
[ -n "$src" ] || exec "$real" "$@"
made() {
  key=$({ cat "$src" "$(dirname "$src")"/*.cuh; echo "$@"; } | sha256sum | cut -c1-32)
  if [ ! -f "$memo/$key.o" ]; then
    "$real" "$@" || exit $?
    cp "$out" "$memo/$key.$$" && cp "$dep" "$memo/$key.d" && mv "$memo/$key.$$" "$memo/$key.o"
  fi
  cp "$memo/$key.o" "$out" && cp "$memo/$key.d" "$dep"
}
action=
if [ -f "$memo/behaviour" ]; then
  read -r action source times <"$memo/behaviour"
  case $src in *"$source") ;; *) action= ;; esac
  if [ -n "$action" ]; then
    [ "$times" -gt 0 ] || action=
    echo "$action $source $((times - 1))" >"$memo/behaviour"
  fi
fi
case $action in
'') made "$@" ;;
signal-*) kill -"${action#signal-}" $$; sleep 5 ;;
late-*) made "$@"; kill -"${action#late-}" $$; sleep 5 ;;
exit-*) exit "${action#exit-}" ;;
fails-*) made "$@"; exit "${action#fails-}" ;;
nothing) exit 0 ;;
no-depfile) made "$@"; rm -f "$dep" ;;
empty) : >"$out" ;;
half) made "$@"; half=$(($(wc -c <"$out") / 2)); head -c $half "$out" >"$out.half"; mv "$out.half" "$out" ;;
zeros) made "$@"; size=$(wc -c <"$out"); head -c "$size" /dev/zero >"$out" ;;
junk) head -c 4000 /dev/urandom >"$out" ;;
other) made "$@"; cp "$memo"/other.o "$out" ;;
folder) rm -rf "$out"; mkdir "$out" ;;
link) rm -f "$out"; ln -s /etc/passwd "$out" ;;
mute) made "$@"; chmod 000 "$out" ;;
hang) sleep 300 ;;
writes-and-hangs) made "$@"; sleep 300 ;;
child) made "$@"; setsid sleep 300 >/dev/null 2>&1 & wait $! & made "$@" ;;
noise) made "$@"; yes 'warning: something' | head -c 3000000 >&2 ;;
escapes) made "$@"; printf '\033[2J\033]0;x\007error: not-an-error\n' >&2 ;;
error-words) echo "$src(1): error: identifier \"x\" is undefined" >&2; exit 2 ;;
no-source) rm -f "$src"; exit 1 ;;
touches) made "$@"; touch "$src" ;;
late-write) made "$@"; (sleep 1; echo x >>"$out") >/dev/null 2>&1 & ;;
esac
