-- What follows an admitted request: corrections of its windows, and its places back.
-- KEYS: the windows, the places.
-- ARGV: number of windows, the request's member, when it was admitted;
--       for each window: slot length, slots, and what is to be added (negative: taken back).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local n, member, at_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

for i = n + 1, #KEYS do
  redis.call('ZREM', KEYS[i], member)
end

for i = 1, n do
  local a = 3 + (i - 1) * 3
  local slot_ms, slots, change = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local w, slot, first = load(KEYS[i], now, slot_ms, slots)
  if change > 0 then
    save(KEYS[i], charge(w, slot, first, slot_ms, change), slot_ms, slots)
  elseif change < 0 then
    local at = math.floor(at_ms / slot_ms)
    if slot - at < slots then
      local back, kept = -change, {slot_ms, w[2]}
      for k = first, #w - 1, 2 do
        local amount = w[k + 1]
        if w[k] >= at and back > 0 then
          local taken = math.min(back, amount)
          amount, back, kept[2] = amount - taken, back - taken, kept[2] - taken
        end
        if amount > 0 then
          kept[#kept + 1] = w[k]
          kept[#kept + 1] = amount
        end
      end
      save(KEYS[i], kept, slot_ms, slots)
    end
  end
end
return 1
