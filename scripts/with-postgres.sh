#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, whose address is in ALLERAC_TEST_POSTGRES, and removes both after.
#
#   scripts/with-postgres.sh cargo test --release -p allerac-ledger --test ledger
set -euo pipefail

bin=$(find /usr/lib/postgresql /usr/local/pgsql -maxdepth 2 -type d -name bin 2>/dev/null | sort -V | tail -n 1 || true)
[ -n "$bin" ] || { echo "PostgreSQL is not installed: scripts/setup.sh test installs it" >&2; exit 1; }
folder=$(mktemp -d /tmp/allerac-postgres.XXXXXX)
as=()
if [ "$(id -u)" -eq 0 ]; then
    # The server refuses to run as root.
    chown postgres "$folder"
    as=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
stop() {
    "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >"$folder/stop.log" 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
# No other language than the machine's plainest, so that nothing depends on where it runs.
"${as[@]}" "$bin/initdb" -D "$folder/data" -U allerac -A trust -E UTF8 --locale=C.UTF-8 >"$folder/initdb.log" 2>&1 ||
    { cat "$folder/initdb.log" >&2; exit 1; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
settings="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder -c max_connections=500"
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/server.log" -o "$settings" start >/dev/null ||
    { cat "$folder/server.log" >&2; exit 1; }
# A test may have it crash.
cat >"$folder/stop.sh" <<END
exec ${as[*]} $bin/pg_ctl -D $folder/data -m immediate -w stop >/dev/null
END
cat >"$folder/restart.sh" <<END
bash $folder/stop.sh 2>/dev/null || true
exec ${as[*]} $bin/pg_ctl -D $folder/data -w -l $folder/server.log -o "$settings" start >/dev/null
END
chmod a+rx "$folder"
export ALLERAC_TEST_POSTGRES="postgres://allerac@127.0.0.1:$port" ALLERAC_TEST_POSTGRES_FOLDER="$folder"
"$@"
