# PostgreSQL 15, reloaded by onRotate; psql logs in by commonName, and by password with any certificate.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
readonly data=/var/lib/postgresql/15/main
mount -t tmpfs -o mode=0755 tmpfs /var/lib/postgresql
# It does not run as root.
as_postgres() {
  setpriv --reuid postgres --regid postgres --clear-groups env PATH="/usr/lib/postgresql/15/bin:$PATH" "$@"
}

start() {
  mkdir -p "$data" /run/postgresql
  chown postgres: "$data" /run/postgresql
  as_postgres initdb --pgdata "$data" --auth peer >/dev/null
  cat >>"$data/postgresql.conf" <<EOF
listen_addresses = '127.0.0.1'
hba_file = '/etc/postgresql/pg_hba.conf'
ident_file = '/etc/postgresql/pg_ident.conf'
include '/etc/postgresql/certagent.conf'
EOF
  serve server as_postgres postgres -D "$data"
  await 30 'PostgreSQL' as_postgres psql --host /run/postgresql --command 'select 1'
  as_postgres psql --quiet --host /run/postgresql --command 'create user app' \
    --command "create user reports password 'only-for-this-test'"
}

load() {
  PGPASSWORD=only-for-this-test python3 "$here/postgresql/load.py" "$1"
}
