-- Renews the leases on places of requests still in progress.
-- KEYS: places. ARGV: lease, then the member of each.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[1])
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'XX', string.format('%.0f', now + lease), ARGV[1 + i])
  redis.call('PEXPIRE', KEYS[i], string.format('%.0f', lease * 2))
end
return 1
