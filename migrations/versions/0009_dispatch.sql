create or replace function konstruct_dispatch(
    free integer, per_tenant integer, suspect_from integer, most integer)
returns table (tenant_id text, message_id text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- A plan made while the table was small would read and sort all that waits.
set enable_seqscan = off set enable_bitmapscan = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
    -- One dispatcher at a time, without waiting for another.
    if not pg_try_advisory_xact_lock(hashtextextended('konstruct.dispatcher', 0)) then
        return;
    end if;
    return query
        with recursive in_line as (
            -- Tenants whose messages wait, each found by one step through the index.
            (select m.tenant_id from public.messages m
              where m.status = 'received' and m.queued_at is null and m.leads
              order by m.tenant_id limit 1)
            union all
            select (select m.tenant_id from public.messages m
                     where m.status = 'received' and m.queued_at is null and m.leads
                       and m.tenant_id > t.tenant_id
                     order by m.tenant_id limit 1)
              from in_line t where t.tenant_id is not null
        ),
        tenants as (
            select t.tenant_id, q.placed, q.unclaimed
              from in_line t
             cross join lateral (
                  select count(*) as placed,
                         count(*) filter (
                             where (m.owner is null or m.lease_expires_at < now())
                               and m.deaths + (m.owner is not null)::int < suspect_from) as unclaimed
                    from public.messages m
                   where m.tenant_id = t.tenant_id
                     and m.status = 'received' and m.queued_at is not null) q
             where t.tenant_id is not null
        ),
        candidates as (
            select t.tenant_id, c.message_id, c.seq, c.due_at,
                   t.placed + row_number() over (
                       partition by t.tenant_id order by c.due_at, c.seq) as place
              from tenants t
             cross join lateral (
                  select m.message_id, m.seq, m.due_at
                    from public.messages m
                   where m.tenant_id = t.tenant_id
                     and m.status = 'received' and m.queued_at is null and m.leads
                     and m.due_at <= now()
                     and (m.owner is null or m.lease_expires_at < now())
                     and m.deaths + (m.owner is not null)::int < suspect_from
                     -- The mark may be there too early: only the first of a thread can be worked on.
                     and m.seq = (
                         select e.seq from public.messages e
                          where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
                            and e.status = 'received'
                          order by e.seq limit 1)
                   order by m.due_at, m.seq
                   limit greatest(least(per_tenant - t.unclaimed, greatest(free, 1)), 0)) c
             where free > 0 or t.placed = 0
        ),
        chosen as (
            -- To whom has the fewest, one after the other; who has none never waits for the others.
            select seq, turn from (
                select c.seq, c.place, row_number() over (order by c.place, c.due_at, c.seq) as turn
                  from candidates c) ordered
             where turn <= free or place = 1
             order by turn limit most
        ),
        locked as (
            -- What somebody else has locked has its turn at the next look: nobody waits for it.
            select m.seq, c.turn
              from chosen c
             cross join lateral (
                  select l.seq, l.status, l.queued_at from public.messages l
                   where l.seq = c.seq for no key update skip locked) m
             -- Written so that no partial index fits: it would be read as a whole.
             where num_nulls(m.queued_at) = 1 and coalesce(m.status, '') = 'received'
        ),
        placed as (
            update public.messages m set queued_at = now()
              from locked l where m.seq = l.seq
            returning m.tenant_id, m.message_id, l.turn
        )
        select p.tenant_id, p.message_id from placed p order by p.turn;
end $$
