-- Checks every window, every place and the block of one request; charges all of it, or nothing.
-- KEYS: the windows, the places, the block if there can be one.
-- ARGV: number of windows, number of places, length of the block (0: none), the request's member, lease;
--       for each window: slot length, slots, limit, amount, whether it blocks; for each place: limit.
-- A window is an array: slot length, sum, then slot and amount in turns, oldest first.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local n, m, block_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local member, lease = ARGV[4], tonumber(ARGV[5])

if block_ms > 0 then
  local left = redis.call('PTTL', KEYS[n + m + 1])
  if left > 0 then return {2, left} end
end

local out, found, ok, blocks = {1, now}, {}, true, false

for i = 1, n do
  local a = 5 + (i - 1) * 5
  local slot_ms, slots = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local max, amount = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local w, slot, first = load(KEYS[i], now, slot_ms, slots)
  local sum, last = w[2], #w - 1
  local wait = 0
  if amount > max then
    wait = -1
  elseif sum + amount > max then
    local over, at = sum + amount - max, first
    wait = -1
    while at <= last do
      over = over - w[at + 1]
      if over <= 0 then
        wait = math.max((w[at] + slots) * slot_ms - now, 1)
        break
      end
      at = at + 2
    end
  end
  if wait ~= 0 then
    ok = false
    if ARGV[a + 5] == '1' then blocks = true end
  end
  local frees, full = 0, 0
  if first <= last then
    frees = (w[first] + slots) * slot_ms - now
    full = (w[last] + slots) * slot_ms - now
  end
  for _, value in ipairs({sum, wait, frees, full, (slot + slots) * slot_ms - now}) do
    out[#out + 1] = value
  end
  found[i] = {w, slot, first, slot_ms, slots, amount}
end

for i = 1, m do
  local key = KEYS[n + i]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
  local in_use = redis.call('ZCARD', key)
  if in_use + 1 > tonumber(ARGV[5 + n * 5 + i]) then ok = false end
  out[#out + 1] = in_use
end

if not ok then
  out[1] = 0
  if blocks and block_ms > 0 then
    redis.call('SET', KEYS[n + m + 1], '1', 'PX', whole(block_ms))
  end
  return out
end

for i = 1, n do
  local w, slot, first, slot_ms, slots, amount = unpack(found[i])
  save(KEYS[i], charge(w, slot, first, slot_ms, amount), slot_ms, slots)
end
for i = 1, m do
  redis.call('ZADD', KEYS[n + i], whole(now + lease), member)
  redis.call('PEXPIRE', KEYS[n + i], whole(lease * 2))
end
return out
