-- One exchange of one process with its fleet: what it did, what the server said, who waits there; and what it may do next.
--
-- The only thing that ever touches an account's keys, so each exchange is atomic. Times are seconds of Redis' own clock; a process
-- tells ages ("1.2 s ago"), so that no two clocks are ever compared. Everything that is told is a total or a state, never a
-- difference: an exchange whose answer was lost is simply repeated.
--
-- What is believed of a bucket is what _core/buckets/estimate.py believes, and its reasons are there: anchor, drain, margin, silence;
-- tests/stores/test_same_estimate.py runs the same events through both (docs/decisions/0087 says why it is here). "Spent" is what was
-- handed to processes; what the server said of a request counts from the total at which that request was handed its share.
--
-- KEYS: 1 the account: hash of "state" and of one record for each process; 2 when each process is given up; 3 to 5 the arrival of
--       the first waiting call of each process, by priority. All with one {tag}: one slot of a cluster.
-- ARGV: 1 the process; 2 its report (JSON); 3 the time, empty for Redis' own (a virtual clock hands it in).
-- Returns the answer (JSON). What is in a report and in an answer is said in _core/fleet/messages.py.

if redis.replicate_commands then redis.replicate_commands() end  -- before Redis 7: needed to write after TIME was read

local COLD_CALLS, COLD_DOUBLING = 24, 0.05  -- calls of the whole fleet before its first answer, seconds in which they double
local CALM = 0.25  -- share of a bucket above which processes take slices ahead
local PART = 4  -- one slice is no more than this part of what is above it
local MARGIN_MEMORY, SILENT_MEMORY, MARGIN_CAP, MARGIN_OF_CAPACITY = 1 / 256, 1 / 1024, 0.1, 0.35
local DRAIN_TIME, DRAIN_HOLD, MOST_DRAIN = 4, 10, 0.9
local PROBE_CALLS = 200  -- silent answers after which a bucket dares one typical call beyond its belief; quadratic
local PATIENCE = 60  -- seconds: the longest time between two probes, see _core/limiters/probes.py
local FORGET = 600  -- seconds after which a bucket that nobody spoke of is dropped, so that no wrong one lives for ever
local FRESH = 60  -- seconds: what was said longer ago makes no new bucket
local HEARTBEAT = 1  -- seconds: nobody is told to come later
local LEAST = 0.002  -- seconds: nobody is told to come sooner
local BEHIND = 0.01  -- the same, for those who are not next
local KEEP = 3600000  -- milliseconds that an account outlives its last traffic
local MOST_GRANTS = 256  -- in one exchange; keeps a script short
local WEIGHTS = {64, 8, 1}  -- as in _core/queueing/queue.py
local CLOCK_SLACK = 1  -- seconds by which time may run backwards unnoticed
local LATER = 1e-4  -- seconds by which a request must have been sent after another one to tell anything new
local BIG = 1e12  -- units, where no bucket counts them
local MOST = 1e15  -- units, whoever tells of them; beyond it sums lose single tokens
local MOST_BUCKETS = 64  -- of an account, and in one report; as in _core/fleet/messages.py
local MOST_CALLS = 16  -- that a report names of a priority; as in _core/fleet/member.py
local LONGEST = 200  -- bytes of a name
local VERSION = 1  -- of reports and answers, as in _core/fleet/messages.py
local DAY, YEAR = 86400, 31622400  -- seconds

-- What is told is judged before anything is written: one member with a fault, or with ill will, must not stop the others ---------

local wrong = 'no JSON'

local function refuse(part)
  wrong = part
  error(part)
end

local function number(value, low, high, part)  -- NaN is between no two
  if type(value) ~= 'number' or not (value >= low and value <= high) then refuse(part) end
  return value
end

local function text(value, part)
  if type(value) ~= 'string' or #value > LONGEST then refuse(part) end
end

local function list(values, length, low, part)
  if type(values) ~= 'table' or #values ~= length then refuse(part) end
  for index = 1, length do number(values[index], low, MOST, part) end
end

local function judge(report)
  if type(report) ~= 'table' then refuse('no object') end
  if report.version ~= VERSION then refuse('version') end
  for _, part in ipairs({'used', 'waits', 'hold', 'want', 'typical'}) do list(report[part], 4, 0, part) end
  number(report.answers, 0, MOST, 'answers')
  number(report.silent, 0, MOST, 'silent')
  number(report.closed, 0, YEAR, 'closed')
  number(report.live, 0, DAY, 'live')
  text(report.cause, 'cause')
  text(report.settings, 'settings')
  if type(report.lanes) ~= 'table' or #report.lanes ~= 3 then refuse('lanes') end
  for lane = 1, 3 do
    local calls = report.lanes[lane]
    if type(calls) ~= 'table' or #calls > MOST_CALLS then refuse('lanes') end
    for _, call in ipairs(calls) do list(call, 5, 0, 'lanes') end
  end
  if type(report.said) ~= 'table' then refuse('said') end
  local buckets = 0
  for name, said in pairs(report.said) do
    buckets = buckets + 1
    text(name, 'said')
    if type(said) ~= 'table' or buckets > MOST_BUCKETS then refuse('said') end
    if said.unit ~= 0 and said.unit ~= 1 and said.unit ~= 2 and said.unit ~= 3 then refuse('unit') end
    number(said.limit, 1e-9, MOST, 'limit')
    number(said.window, 1e-3, YEAR, 'window')
    number(said.capacity, 0, MOST, 'capacity')
    number(said.told, -MOST, MOST, 'told')
    number(said.age, 0, MOST, 'age')  -- what was said in times to come would silence everybody else until then
    number(said.since or 0, -MOST, MOST, 'since')
    number(said.error, -MOST, MOST, 'error')
    number(said.judged, 0, MOST, 'judged')
    number(said.mark or 0, -MOST, MOST, 'mark')
  end
  local several = report.several  -- nobody of an older version tells it
  if several and several ~= cjson.null then
    if type(several) ~= 'table' then refuse('several') end
    text(several[1], 'several')
    number(several[2], 0, MOST, 'several')
  end
  if report.early and report.early ~= cjson.null then number(report.early, 0, MOST, 'early') end
end

local function finite(value, depth)  -- what was stored by others, at any depth: no NaN, nothing infinite
  if type(value) == 'number' then return value == value and math.abs(value) < 1e300 end
  if type(value) ~= 'table' then return true end
  if depth > 8 then return false end
  for _, part in pairs(value) do
    if not finite(part, depth + 1) then return false end
  end
  return true
end

local function unpacked(packed)  -- nil for what is not ours
  if not packed then return nil end
  local fine, value = pcall(cmsgpack.unpack, packed)
  if fine and type(value) == 'table' and finite(value, 0) then return value end
  return nil
end

local account, deadlines = KEYS[1], KEYS[2]
local me, decoded, report = ARGV[1], pcall(cjson.decode, ARGV[2])
if not decoded or not pcall(judge, report) then return redis.error_reply('ERR otel_ratelimit: no report: ' .. wrong) end
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1e6
end

-- The state and the records ---------------------------------------------------------------------------------------------

local function zeros() return {0, 0, 0, 0} end

local function add(total, amount, sign)
  for unit = 1, 4 do total[unit] = total[unit] + sign * amount[unit] end
end

local packed = redis.call('HGET', account, 'state')
local state = unpacked(packed)
if state and (type(state.buckets) ~= 'table' or type(state.seen) ~= 'number') then state = nil end
-- A key of the five that was evicted by itself takes the others with it: they count each other's content. And where the clock was
-- set back (another server took over), nothing waits for the old time to come again. What is lost is told anew by everybody.
local fresh = not state or redis.call('HLEN', account) ~= redis.call('ZCARD', deadlines) + 1 or now < state.seen - CLOCK_SLACK
if fresh then
  redis.call('DEL', unpack(KEYS))
  state = {
    epoch = string.format('%.6f', now), spent = zeros(), reserved = zeros(), waits = zeros(), typical = zeros(),
    passed = {0, 0, 0}, clock = 0, cold_at = 0, cold_sent = 0, known = false, answers = 0, silent = 0, closed = 0, last = 0,
    cause = '', settings = '', buckets = {},
  }
end
state.seen = now

local records, dirty = {}, {}

local function record_of(process)
  local record = records[process]
  if record == nil then
    local text = redis.call('HGET', account, process)
    record = unpacked(text) or false
    records[process] = record
  end
  return record
end

local function forget(process)
  local record = record_of(process)
  if record then
    add(state.reserved, record.box, -1)
    add(state.reserved, record.hold, -1)
    add(state.waits, record.waits, -1)
  end
  for lane = 1, 3 do redis.call('ZREM', KEYS[2 + lane], process) end
  redis.call('ZREM', deadlines, process)
  redis.call('HDEL', account, process)
  records[process], dirty[process] = false, nil
end

-- What a limit holds ------------------------------------------------------------------------------------------------------

local function level_of(bucket)
  local since = now - bucket.at
  local level = bucket.level - (state.spent[bucket.unit] - bucket.mark)
  if since > 0 then level = level + since * bucket.rate - math.min(since, DRAIN_HOLD) * bucket.drain end
  if level >= bucket.capacity then
    level = bucket.capacity
    bucket.drain = bucket.drain * DRAIN_TIME / (math.max(since, 0) + DRAIN_TIME)  -- full: nobody can be taking much
    bucket.level, bucket.at, bucket.mark, bucket.full = level, now, state.spent[bucket.unit], now
  end
  return level
end

local function dared(bucket)  -- units beyond the belief, after so many silent answers
  return state.typical[bucket.unit] * ((state.silent - bucket.silent) / PROBE_CALLS) ^ 2
end

local function floor_of(bucket) return bucket.margin - dared(bucket) end

local function net_rate(bucket)
  return math.max(bucket.rate - bucket.drain, 1e-9)
end

local function ready(need)  -- seconds until a call may go
  local wait = 0
  for _, bucket in pairs(state.buckets) do
    local amount = need[bucket.unit]
    if amount <= bucket.limit then  -- of a larger one only the server can say that it never fits
      amount = math.min(amount, bucket.capacity)
      local floor = math.min(floor_of(bucket), bucket.capacity - amount)
      local missing = amount + floor + state.reserved[bucket.unit] - level_of(bucket)
      if missing > 0 then
        local held = math.max(bucket.at + DRAIN_HOLD - now, 0)
        local net = net_rate(bucket)
        if missing <= held * net then
          wait = math.max(wait, missing / net)
        else
          wait = math.max(wait, held + (missing - held * net) / math.max(bucket.rate, 1e-9))
        end
      end
    end
  end
  wait = math.max(wait, state.closed - now)
  if not state.known and state.cold_sent >= COLD_CALLS then
    wait = math.max(wait, state.cold_at + COLD_DOUBLING * math.log((state.cold_sent + 1) / COLD_CALLS) / math.log(2) - now)
  end
  if wait > PATIENCE then wait = math.max(math.min(wait, state.last + PATIENCE - now), 0) end
  return wait
end

local buckets = 0
for _ in pairs(state.buckets) do buckets = buckets + 1 end

local function heard(name, said)
  local limit, rate, sent = said.limit, said.limit / said.window, now - said.age
  local unit = said.unit + 1  -- Lua counts from 1, reports and answers from 0
  local mark = said.mark
  if not mark or said.epoch ~= state.epoch then
    mark = state.spent[unit] - (said.since or 0)  -- sent before it was in this fleet: what it used itself since then is known
  end
  local bucket = state.buckets[name]
  if not bucket then
    if said.age > FRESH or buckets >= MOST_BUCKETS then return false end
    buckets = buckets + 1
    state.buckets[name] = {
      unit = unit, limit = limit, rate = rate, capacity = said.capacity, level = said.told, at = sent, mark = mark, said = sent,
      full = -1, drain = 0, margin = 0, silent = state.silent, heard = now,
    }
    return true
  end
  if said.judged > 0 then
    local faded = bucket.margin * (1 - MARGIN_MEMORY) ^ said.judged
    bucket.margin = math.min(math.max(faded, dared(bucket) - said.error), MARGIN_CAP * bucket.limit, MARGIN_OF_CAPACITY * bucket.capacity)
  end
  if sent <= bucket.said + LATER then return false end
  local resized = bucket.limit ~= limit
  if not resized and (bucket.rate ~= rate or bucket.capacity ~= said.capacity) then
    bucket.drain, bucket.margin = 0, 0  -- another bucket than was thought: what looked like errors was that mistake
  end
  bucket.limit, bucket.rate, bucket.capacity = limit, rate, said.capacity
  bucket.drain = math.min(bucket.drain, MOST_DRAIN * rate)
  bucket.margin = math.min(bucket.margin, MARGIN_OF_CAPACITY * bucket.capacity)
  local elapsed = sent - bucket.at
  if not resized and bucket.full < 0 and elapsed > 0 and said.told < limit then
    local found = (bucket.level + elapsed * rate - said.told - (mark - bucket.mark)) / elapsed
    found = math.min(math.max(found, -rate), rate)  -- beyond that it is the order in which a burst of ours arrived
    bucket.drain = bucket.drain + (found - bucket.drain) * elapsed / (elapsed + DRAIN_TIME)
    bucket.drain = math.min(math.max(bucket.drain, 0), MOST_DRAIN * rate)
  end
  bucket.said, bucket.heard, bucket.silent = sent, now, state.silent
  -- We believed it full after this request had left: only an answer that says less than we believe counts.
  if bucket.full > sent and said.told + (now - sent) * rate - (state.spent[unit] - mark) >= level_of(bucket) then
    return true
  end
  bucket.level, bucket.at, bucket.mark, bucket.full = said.told, sent, mark, -1
  return true
end

-- The processes that were lost ------------------------------------------------------------------------------------------

for _, process in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, 50)) do
  if process ~= me then forget(process) end
end

-- What this one did -------------------------------------------------------------------------------------------------------

local record = record_of(me)
local joined = not record
if joined then
  -- What it used before it came is told by what the server said since; counting starts here.
  record = {
    used = report.used, held = zeros(), box = zeros(), counts = {0, 0, 0}, hold = zeros(), waits = zeros(), lanes = {{}, {}, {}},
    answers = report.answers, silent = report.silent,
  }
  records[me] = record
end
local traffic = joined
for unit = 1, 4 do
  local used = math.max(report.used[unit] - record.used[unit], 0)
  if used > 0 then traffic = true end
  state.spent[unit] = state.spent[unit] + used - record.held[unit]  -- what it was handed and did not use comes back
  record.used[unit] = math.max(report.used[unit], record.used[unit])
end
record.held = zeros()
state.answers = state.answers + math.max(report.answers - record.answers, 0)
local silent = math.max(report.silent - record.silent, 0)
state.silent = state.silent + silent
for _, bucket in pairs(state.buckets) do bucket.margin = bucket.margin * (1 - SILENT_MEMORY) ^ silent end
record.answers, record.silent = report.answers, report.silent
state.known = state.known or report.known or state.answers >= COLD_CALLS
for name, said in pairs(report.said) do
  if heard(name, said) then traffic = true end
end
for name, bucket in pairs(state.buckets) do
  if now - bucket.heard > FORGET then state.buckets[name] = nil end
end
if report.closed > 0 then state.closed = math.max(state.closed, now + report.closed) end
if report.cause ~= '' then state.cause = report.cause end
local several = report.several
if several and several ~= cjson.null and now - several[2] > (state.several_at or 0) then
  state.several, state.several_at = several[1], now - several[2]
end
if report.early and report.early ~= cjson.null then state.early_at = math.max(state.early_at or 0, now - report.early) end

if report.leaving then
  forget(me)
  redis.call('HSET', account, 'state', cmsgpack.pack(state))
  redis.call('PEXPIRE', account, KEEP)
  return '{}'
end

redis.call('ZADD', deadlines, now + report.live, me)
local live = redis.call('ZCARD', deadlines)
local other = nil
if report.settings ~= state.settings then
  if live == 1 or state.settings == '' then state.settings = report.settings else other = state.settings end
end

-- Who waits, and whose turn it is ------------------------------------------------------------------------------------------

local function stand(process, lane, calls)  -- where the first call of a process stands in the line of its priority
  if #calls == 0 then
    redis.call('ZREM', KEYS[2 + lane], process)
  else
    if redis.call('ZCARD', KEYS[2 + lane]) == 0 then state.passed[lane] = math.max(state.passed[lane], state.clock) end
    redis.call('ZADD', KEYS[2 + lane], calls[1][1], process)
  end
end

add(state.waits, record.waits, -1)
add(state.reserved, record.hold, -1)
record.waits, record.hold = report.waits, report.hold
add(state.waits, record.waits, 1)
add(state.reserved, record.hold, 1)
for lane = 1, 3 do
  local calls = {}
  for index, call in ipairs(report.lanes[lane]) do
    if index > record.counts[lane] then  -- those before were granted by others' exchanges, and lie in its box
      calls[#calls + 1] = {now - call[1], call[2], call[3], call[4], call[5]}
    end
  end
  record.lanes[lane] = calls
  stand(me, lane, calls)
end

local next_wait = nil
for _ = 1, MOST_GRANTS do
  local best, process = nil, nil
  for lane = 1, 3 do
    local head = redis.call('ZRANGE', KEYS[2 + lane], 0, 0)[1]
    if head and (not best or state.passed[lane] < state.passed[best]) then best, process = lane, head end
  end
  if not best then break end
  local theirs = record_of(process)
  local call = theirs and theirs.lanes[best][1]
  if not call then
    redis.call('ZREM', KEYS[2 + best], process)
  else
    local need = {call[2], call[3], call[4], call[5]}
    next_wait = ready(need)
    if next_wait > 0 then break end
    next_wait = nil
    if not state.known then
      if state.cold_sent == 0 then state.cold_at = now end
      state.cold_sent = state.cold_sent + 1
    end
    state.last = now
    local weight = state.typical[1] == 0 and 1 or 0.05
    for unit = 1, 4 do state.typical[unit] = state.typical[unit] + (need[unit] - state.typical[unit]) * weight end
    state.clock = state.passed[best]
    state.passed[best] = state.passed[best] + 1 / WEIGHTS[best]
    table.remove(theirs.lanes[best], 1)
    theirs.counts[best] = theirs.counts[best] + 1
    add(theirs.box, need, 1)
    add(state.reserved, need, 1)
    stand(process, best, theirs.lanes[best])
    dirty[process] = true
  end
end

-- What it may do until the next exchange --------------------------------------------------------------------------------------

local mark = {state.spent[1], state.spent[2], state.spent[3], state.spent[4]}
local levels = {}
for name, bucket in pairs(state.buckets) do
  levels[name] = {bucket.unit - 1, level_of(bucket), net_rate(bucket), floor_of(bucket), bucket.capacity}
end

local lease = record.box
add(state.reserved, lease, -1)
add(state.spent, lease, 1)
record.held = {lease[1], lease[2], lease[3], lease[4]}
record.box, record.counts = zeros(), {0, 0, 0}

local calm = state.known and next_wait == nil and state.closed <= now
local slice = {BIG, BIG, BIG, BIG}
for _, bucket in pairs(state.buckets) do
  local unit = bucket.unit
  local part = (level_of(bucket) - state.reserved[unit] - CALM * bucket.capacity) / PART
  slice[unit] = math.min(slice[unit], part, math.max(report.want[unit], part / live))
end
for unit = 1, 4 do calm = calm and slice[unit] >= report.typical[unit] and slice[unit] > 0 end
if calm then
  state.last = now
  for unit = 1, 4 do
    lease[unit] = lease[unit] + slice[unit]
    if slice[unit] < BIG then
      state.spent[unit] = state.spent[unit] + slice[unit]
      record.held[unit] = record.held[unit] + slice[unit]
    end
  end
end

local again = HEARTBEAT
for lane = 1, 3 do
  local rank = redis.call('ZRANK', KEYS[2 + lane], me)
  if rank then
    local each = 0
    for _, bucket in pairs(state.buckets) do
      each = math.max(each, state.typical[bucket.unit] / net_rate(bucket))
    end
    local come = next_wait or 0
    if rank > 0 then come = math.max(come + 0.8 * rank * each, BEHIND) end
    again = math.min(again, math.max(come, LEAST))
  end
end

local others = zeros()
for unit = 1, 4 do others[unit] = math.max(state.waits[unit] - record.waits[unit], 0) end

several = nil
if state.several and now - state.several_at < FRESH then several = {state.several, math.max(now - state.several_at, 0)} end
local early = nil
if state.early_at and now - state.early_at < FRESH then early = math.max(now - state.early_at, 0) end

-- Encoded before it is written down: what cannot be told is not kept either
local answer = cjson.encode({
  epoch = state.epoch, lease = lease, calm = calm, mark = mark, again = again, cause = state.cause, levels = levels,
  others = others, live = live, other = other, several = several, early = early,
})

-- Written down ------------------------------------------------------------------------------------------------------------

dirty[me] = true
for process in pairs(dirty) do redis.call('HSET', account, process, cmsgpack.pack(records[process])) end
redis.call('HSET', account, 'state', cmsgpack.pack(state))
-- Only traffic keeps an account alive: processes that merely go on renewing do not.
local left = (fresh or traffic) and KEEP or redis.call('PTTL', account)
if left > 0 then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, left) end
end

return answer
