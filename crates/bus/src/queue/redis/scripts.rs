//! What the server does in one step. Every script has the same keys: the list, and beside it `incoming`,
//! `inflight`, `leases`, `busy` and `held`. Times are the server's, so that replicas need not agree on theirs.
//!
//! `inflight` maps a token to `<id> <attempt>\n<item>`; `leases` orders the tokens by the end of their lease;
//! `busy` maps a partition to the token that is out; `held` counts what waits behind it in
//! `held:<partition>`.

use redis::Script;

/// The start of each script that needs it: the time in milliseconds.
const NOW: &str = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n";

/// Hands out up to ARGV[1] messages for ARGV[2] ms under tokens that begin with ARGV[3]: first those whose
/// lease has ended, then what somebody waited for, then the list.
const PULL: &str = r#"
local list, incoming, inflight, leases, busy, held = unpack(KEYS)
local max, lease, tokens = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local out = {}
local function hand_out(id, attempt, item, partition)
  local token = tokens .. '-' .. #out
  redis.call('HSET', inflight, token, id .. ' ' .. attempt .. '\n' .. item)
  redis.call('ZADD', leases, now + lease, token)
  if partition then redis.call('HSET', busy, partition, token) end
  out[#out + 1] = {token, id, attempt, item}
end
local function line_of(item)
  if string.sub(item, 1, 12) ~= 'trunkline:1 ' then return end
  local stop = string.find(item, '\n', 13, true)
  if not stop then return end
  local ok, line = pcall(cjson.decode, string.sub(item, 13, stop - 1))
  if ok and type(line) == 'table' and type(line.id) == 'string' then return line end
end
local function partition_of(line)
  if line and type(line.p) == 'string' then return line.p end
end
for _, token in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, max)) do
  local entry = redis.call('HGET', inflight, token)
  redis.call('ZREM', leases, token)
  if entry then
    redis.call('HDEL', inflight, token)
    local stop = string.find(entry, '\n', 1, true)
    local id, attempt = string.match(string.sub(entry, 1, stop - 1), '^(%S+) (%d+)$')
    local item = string.sub(entry, stop + 1)
    hand_out(id, tonumber(attempt) + 1, item, partition_of(line_of(item)))
  end
end
local seen = 0
while #out < max and seen < 10000 do
  seen = seen + 1
  local item = redis.call('LPOP', incoming) or redis.call('LPOP', list)
  if not item then break end
  local line = line_of(item)
  local partition = partition_of(line)
  if partition and redis.call('HEXISTS', busy, partition) == 1 then
    redis.call('RPUSH', held .. ':' .. partition, item)
    redis.call('HINCRBY', held, partition, 1)
  else
    -- Names of other programs must not break our lines.
    local id = line and string.match(line.id, '^[%w_.:-]+$') or tokens .. '-' .. #out
    hand_out(id, 1, item, partition)
  end
end
return out"#;

/// Lets the next of a partition go: it comes first in the list.
const LET_GO: &str = r"
local function let_go(partition, token)
  if partition == '' or redis.call('HGET', KEYS[5], partition) ~= token then return end
  redis.call('HDEL', KEYS[5], partition)
  local item = redis.call('LPOP', KEYS[6] .. ':' .. partition)
  if item then
    redis.call('LPUSH', KEYS[1], item)
    if redis.call('HINCRBY', KEYS[6], partition, -1) <= 0 then redis.call('HDEL', KEYS[6], partition) end
  end
end
";

/// Removes the message of token ARGV[1] and partition ARGV[2].
const FINISH: &str = r"
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[4], ARGV[1])
let_go(ARGV[2], ARGV[1])
return 1";

/// Returns the message of token ARGV[1] and partition ARGV[2], untried. At its first attempt it goes back to
/// where it came from; later ones keep their count.
const RELEASE: &str = r"
local entry = redis.call('HGET', KEYS[3], ARGV[1])
if not entry then return 0 end
local stop = string.find(entry, '\n', 1, true)
local id, attempt = string.match(string.sub(entry, 1, stop - 1), '^(%S+) (%d+)$')
if tonumber(attempt) > 1 then
  redis.call('HSET', KEYS[3], ARGV[1], id .. ' ' .. (attempt - 1) .. '\n' .. string.sub(entry, stop + 1))
  redis.call('ZADD', KEYS[4], 0, ARGV[1])
  return 1
end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if ARGV[2] ~= '' and redis.call('HGET', KEYS[5], ARGV[2]) == ARGV[1] then redis.call('HDEL', KEYS[5], ARGV[2]) end
redis.call('LPUSH', KEYS[1], string.sub(entry, stop + 1))
return 1";

/// Lets the lease of token ARGV[1] end ARGV[2] ms from now; with ARGV[3] the attempt that ends is none.
const EXTEND: &str = r"
local entry = redis.call('HGET', KEYS[3], ARGV[1])
if not entry then return 0 end
redis.call('ZADD', KEYS[4], now + tonumber(ARGV[2]), ARGV[1])
if ARGV[3] == '1' then
  local stop = string.find(entry, '\n', 1, true)
  local id, attempt = string.match(string.sub(entry, 1, stop - 1), '^(%S+) (%d+)$')
  redis.call('HSET', KEYS[3], ARGV[1], id .. ' ' .. (attempt - 1) .. '\n' .. string.sub(entry, stop + 1))
end
return 1";

/// How many wait, and how many are out under a lease that has not ended.
const DEPTH: &str = r"
local waiting = redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2])
for _, count in ipairs(redis.call('HVALS', KEYS[6])) do waiting = waiting + tonumber(count) end
local ended = redis.call('ZCOUNT', KEYS[4], '-inf', now)
return {waiting + ended, redis.call('ZCARD', KEYS[4]) - ended}";

/// Forgets what waits.
const PURGE: &str = r"
local removed = redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2])
redis.call('DEL', KEYS[1], KEYS[2])
local held = redis.call('HGETALL', KEYS[6])
for i = 1, #held, 2 do
  removed = removed + tonumber(held[i + 1])
  redis.call('DEL', KEYS[6] .. ':' .. held[i])
end
redis.call('DEL', KEYS[6])
return removed";

/// The scripts, each sent whole once and then known to the server by its hash.
pub(super) struct Scripts {
    pub(super) pull: Script,
    pub(super) finish: Script,
    pub(super) release: Script,
    pub(super) extend: Script,
    pub(super) depth: Script,
    pub(super) purge: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            pull: Script::new(&format!("{NOW}{PULL}")),
            finish: Script::new(&format!("{LET_GO}{FINISH}")),
            release: Script::new(RELEASE),
            extend: Script::new(&format!("{NOW}{EXTEND}")),
            depth: Script::new(&format!("{NOW}{DEPTH}")),
            purge: Script::new(PURGE),
        }
    }
}
