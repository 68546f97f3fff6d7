#!/bin/sh
# Keeps the server running; takes the options of gmpq-board (./gmpq-board --help).
here=$(dirname "$0")
trap 'kill "$server" 2>/dev/null; wait "$server"; exit 0' INT TERM
while :; do
  "$here/gmpq-board" "$@" &
  server=$!
  wait "$server"
  code=$?
  case $code in 0 | 2) exit $code ;; esac
  echo "gmpq-board ended with exit code $code: starting it again" >&2
  sleep 1
done
