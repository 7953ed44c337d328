/**
 * The ledger of evidence as one script of Redis, so that a call counts all of its events or none, whoever else
 * calls. It takes events as `EvidenceLedger` does, and says what became of each. Under the prefix:
 *
 *   :counts           hash: late and duplicate events, the time of the last call, and served as below, of all adgroups
 *   :event:ID         hash: adgroup, reward, shownMs, settled; lesson (dimension, probability, places) where a policy learns
 *   :adgroup:NAME     hash: impressions, rewards, open, firstMs; served, served:explored, served:propensities: the
 *                     impressions of which it is known how they came to be shown
 *   :events :open     sorted sets of event ids by their arrival, of all and of those whose window is open
 *   :learned:NAME     hash: the numbers of `learned-weights.ts` by their names
 *   :adgroups         sorted set of adgroups by their last impression
 *
 * A call ends at most `endedMax` windows and lifetimes of each kind, so that it is bounded; the rest end with the next
 * calls. What is never called again is forgotten by Redis.
 */

/** KEYS: the prefix. ARGV: settings, the time, events and adgroups, all but the time in JSON. */
export const EVIDENCE_SCRIPT = `
local prefix = KEYS[1]
local settings, events, wanted = cjson.decode(ARGV[1]), cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
local countsKey, eventsKey = prefix .. ':counts', prefix .. ':events'
local openKey, adgroupsKey = prefix .. ':open', prefix .. ':adgroups'

local function text(number) return string.format('%.17g', number) end
local function keyOfEvent(id) return prefix .. ':event:' .. id end
local function keyOfAdgroup(adgroup) return prefix .. ':adgroup:' .. adgroup end

-- Never goes back, and never runs far ahead of the server: one wrong clock would end all windows.
local time = redis.call('TIME')
local now = math.min(tonumber(ARGV[2]), time[1] * 1000 + time[2] / 1000 + settings.aheadMsMax)
now = math.max(now, tonumber(redis.call('HGET', countsKey, 'nowMs') or '0'))

local function add(key, field, value)
  redis.call('HSET', key, field, text(tonumber(redis.call('HGET', key, field) or '0') + value))
end

local function sigmoid(score)
  if score >= 0 then return 1 / (1 + math.exp(-score)) end
  local odds = math.exp(score)
  return odds / (1 + odds)
end

local function laplaceStep(score, spread, reward)
  local low, high, step = reward - 1, reward, 0
  for _ = 1, settings.laplaceSteps do
    local chance = sigmoid(score + step * spread)
    local excess = step - reward + chance
    if excess > 0 then high = step else low = step end
    local newton = step - excess / (1 + spread * chance * (1 - chance))
    if newton > low and newton < high then step = newton else step = (low + high) / 2 end
  end
  return step
end

local function lessonText(lesson)
  return lesson.dimension .. ' ' .. text(lesson.probability) .. ' ' .. table.concat(lesson.places, ' ')
end

local function lessonOf(told)
  local numbers = {}
  for number in string.gmatch(told, '%S+') do numbers[#numbers + 1] = tonumber(number) end
  local lesson = { dimension = table.remove(numbers, 1), probability = table.remove(numbers, 1) }
  lesson.places = numbers
  return lesson
end

-- As learned-weights.ts.
local function learn(lesson, reward)
  local learning = settings.learning
  if lesson.dimension ~= learning.dimension then return end
  local key = prefix .. ':learned:' .. learning.name
  local places, value = lesson.places, 1 / math.sqrt(#lesson.places)
  if learning.kind == 'linear' then
    for index, i in ipairs(places) do
      for other = index, #places do add(key, 'a:' .. i .. ':' .. places[other], value * value) end
      add(key, 'b:' .. i, value * (reward - lesson.probability))
    end
  else
    local function number(name, otherwise) return tonumber(redis.call('HGET', key, name) or '') or otherwise end
    local bounded = math.min(1 - settings.probabilityMin, math.max(settings.probabilityMin, lesson.probability))
    local score, spread, means, precisions = math.log(bounded / (1 - bounded)), 0, {}, {}
    for index, i in ipairs(places) do
      means[index], precisions[index] = number('m:' .. i, 0), number('q:' .. i, learning.precision)
      spread = spread + (value * value) / precisions[index]
      score = score + value * means[index]
    end
    local step = laplaceStep(score, spread, reward)
    local chance = sigmoid(score + step * spread)
    for index, i in ipairs(places) do
      redis.call('HSET', key, 'm:' .. i, text(means[index] + (value / precisions[index]) * step))
      redis.call('HSET', key, 'q:' .. i, text(precisions[index] + value * value * chance * (1 - chance)))
    end
  end
  redis.call('PEXPIRE', key, settings.keptMs)
end

local function settle(id, adgroup, reward)
  redis.call('HSET', keyOfEvent(id), 'settled', '1')
  local lesson = redis.call('HGET', keyOfEvent(id), 'lesson')
  if lesson and settings.learning then learn(lessonOf(lesson), reward) end
  redis.call('ZREM', openKey, id)
  local key = keyOfAdgroup(adgroup)
  if redis.call('EXISTS', key) == 0 then return end
  add(key, 'open', -1)
  add(key, 'impressions', 1)
  add(key, 'rewards', reward)
end

local function endedOf(key, lifetimeMs)
  return redis.call('ZRANGE', key, '-inf', '(' .. text(now - lifetimeMs), 'BYSCORE', 'LIMIT', 0, settings.endedMax)
end

local function expire()
  local ended = endedOf(openKey, settings.windowMs)
  for _, id in ipairs(ended) do
    local adgroup = redis.call('HGET', keyOfEvent(id), 'adgroup')
    if adgroup then settle(id, adgroup, settings.defaultReward) else redis.call('ZREM', openKey, id) end
  end
  -- An event is not forgotten before its window has ended.
  if #ended < settings.endedMax then
    for _, id in ipairs(endedOf(eventsKey, settings.eventLifetimeMs)) do
      redis.call('DEL', keyOfEvent(id))
      redis.call('ZREM', eventsKey, id)
    end
  end
  for _, adgroup in ipairs(endedOf(adgroupsKey, settings.adgroupLifetimeMs)) do
    redis.call('DEL', keyOfAdgroup(adgroup))
    redis.call('ZREM', adgroupsKey, adgroup)
  end
end

local function kept(key) redis.call('PEXPIRE', key, settings.keptMs) end

local function counted(field, receipt)
  redis.call('HINCRBY', countsKey, field, 1)
  return receipt
end

local function isFull() return redis.call('ZCARD', eventsKey) >= settings.eventsMax end

local function rewarded(id, event, reward, rewardMs)
  redis.call('HSET', keyOfEvent(id), 'reward', text(reward))
  if event.settled or rewardMs - event.shownMs > settings.windowMs then return counted('late', 'late') end
  settle(id, event.adgroup, reward)
  return 'counted'
end

local function eventOf(id)
  local found = redis.call('HMGET', keyOfEvent(id), 'adgroup', 'reward', 'shownMs', 'settled')
  if not found[3] then return nil end
  return { adgroup = found[1], reward = found[2], shownMs = tonumber(found[3]), settled = found[4] == '1' }
end

local function takeImpression(event)
  local known = eventOf(event.id)
  if known and known.adgroup then return counted('duplicate', 'duplicate') end
  local key = keyOfAdgroup(event.adgroup)
  local isNew = redis.call('EXISTS', key) == 0
  if isNew and redis.call('ZCARD', adgroupsKey) >= settings.adgroupsMax then return 'full' end
  if not known and isFull() then return 'full' end
  local firstMs = event.epochMs
  if not isNew then firstMs = math.min(firstMs, tonumber(redis.call('HGET', key, 'firstMs'))) end
  add(key, 'open', 1)
  redis.call('HSET', key, 'firstMs', text(firstMs))
  redis.call('ZADD', adgroupsKey, text(now), event.adgroup)
  if event.chosen then
    for _, served in ipairs({ key, countsKey }) do
      redis.call('HINCRBY', served, 'served', 1)
      if event.chosen.isExploration then redis.call('HINCRBY', served, 'served:explored', 1) end
      add(served, 'served:propensities', event.chosen.propensity)
    end
  end
  kept(key)
  redis.call('HSET', keyOfEvent(event.id), 'adgroup', event.adgroup, 'shownMs', text(event.epochMs), 'settled', '0')
  redis.call('ZADD', eventsKey, text(now), event.id)
  redis.call('ZADD', openKey, text(now), event.id)
  if event.lesson then redis.call('HSET', keyOfEvent(event.id), 'lesson', lessonText(event.lesson)) end
  kept(keyOfEvent(event.id))
  if known and known.reward then
    local shown = { adgroup = event.adgroup, shownMs = event.epochMs, settled = false }
    rewarded(event.id, shown, tonumber(known.reward), known.shownMs)
  end
  return 'counted'
end

local function takeReward(event)
  local known = eventOf(event.id)
  if not known then
    if isFull() then return 'full' end
    redis.call('HSET', keyOfEvent(event.id), 'reward', text(event.reward), 'shownMs', text(event.epochMs), 'settled', '1')
    redis.call('ZADD', eventsKey, text(now), event.id)
    kept(keyOfEvent(event.id))
    return 'counted'
  end
  if known.reward then return counted('duplicate', 'duplicate') end
  return rewarded(event.id, known, event.reward, event.epochMs)
end

expire()
local receipts = {}
for place, event in ipairs(events) do
  if event.kind == 'impression' then receipts[place] = takeImpression(event) else receipts[place] = takeReward(event) end
end
if #events > 0 then
  redis.call('HSET', countsKey, 'nowMs', text(now))
  for _, key in ipairs({ countsKey, eventsKey, openKey, adgroupsKey }) do kept(key) end
end
local evidence = {}
for place, adgroup in ipairs(wanted) do
  local found = redis.call('HMGET', keyOfAdgroup(adgroup), 'impressions', 'rewards', 'open', 'firstMs')
  evidence[place] = { found[1] or '0', found[2] or '0', found[3] or '0', found[4] or '' }
end
local counts = redis.call('HMGET', countsKey, 'late', 'duplicate')
return { receipts, evidence, { counts[1] or '0', counts[2] or '0' } }
`;
