-- Shared by the scripts. Numbers that go to commands are written whole: Lua would write 1.7e+12.
local function whole(number) return string.format('%.0f', number) end

-- The window as it is now: without what counts no longer, in the slots asked for.
-- Returns it, the current slot, and where its first entry that counts is.
local function load(key, now, slot_ms, slots)
  local raw = redis.call('GET', key)
  local w = raw and cmsgpack.unpack(raw) or {slot_ms, 0}
  local slot = math.floor(now / slot_ms)
  if w[1] ~= slot_ms then
    -- The limit was changed: what is there counts as if charged at its slot's end.
    local moved = {slot_ms, w[2]}
    for k = 3, #w - 1, 2 do
      local at = math.min(math.floor(((w[k] + 1) * w[1] - 1) / slot_ms), slot)
      if #moved > 2 and moved[#moved - 1] == at then
        moved[#moved] = moved[#moved] + w[k + 1]
      else
        moved[#moved + 1] = at
        moved[#moved + 1] = w[k + 1]
      end
    end
    w = moved
  end
  if #w > 2 and w[#w - 1] > slot then
    -- The server's clock went back: stand still, or begin anew when that would take longer than the window.
    if w[#w - 1] - slot > slots then w = {slot_ms, 0} else slot = w[#w - 1] end
  end
  local first = 3
  while first < #w and slot - w[first] >= slots do
    w[2] = w[2] - w[first + 1]
    first = first + 2
  end
  return w, slot, first
end

-- What counts of the window, and `amount` more in the current slot.
local function charge(w, slot, first, slot_ms, amount)
  local kept = {slot_ms, w[2] + amount}
  for k = first, #w do kept[#kept + 1] = w[k] end
  if #kept > 2 and kept[#kept - 1] == slot then
    kept[#kept] = kept[#kept] + amount
  else
    kept[#kept + 1] = slot
    kept[#kept + 1] = amount
  end
  return kept
end

local function save(key, w, slot_ms, slots)
  if #w > 2 then
    redis.call('SET', key, cmsgpack.pack(w), 'PX', whole(slot_ms * slots))
  else
    redis.call('DEL', key)
  end
end
