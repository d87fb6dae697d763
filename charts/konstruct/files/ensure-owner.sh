#!/bin/sh
# Makes the database and the role that owns it, where they are missing, and gives the role its password.
# The role is no superuser, so that row level security holds even for migrations.
set -eu
# By TCP: while the data folder is being made, the server listens on its socket only.
tries=0
until pg_isready --quiet --host=127.0.0.1; do
    tries=$((tries + 1))
    if [ "$tries" -ge 300 ]; then exit 1; fi
    sleep 1
done
psql --quiet --set ON_ERROR_STOP=1 --set "password=$OWNER_DATABASE_PASSWORD" --username postgres --dbname postgres <<'SQL'
select 'create role konstruct_owner login createrole'
    where not exists (select from pg_roles where rolname = 'konstruct_owner') \gexec
alter role konstruct_owner password :'password';
select 'create database konstruct owner konstruct_owner'
    where not exists (select from pg_database where datname = 'konstruct') \gexec
SQL
