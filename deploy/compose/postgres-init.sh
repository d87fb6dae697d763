#!/bin/sh
# Runs once, when the database's volume is new: makes the database and the role that owns it. That role is
# no superuser, so that row level security holds even for migrations; konstruct-migrate makes the logins.
set -eu
psql --set ON_ERROR_STOP=1 --set "password=$OWNER_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
create role konstruct_owner login createrole password :'password';
create database konstruct owner konstruct_owner;
SQL
