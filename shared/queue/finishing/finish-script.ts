/**
 * The script of BullMQ that finishes a job, at the time of the server, and with the message that tells coordinators of a
 * result: a command of its own would cost the worker and the server a round trip for each job.
 */

import type * as bullmq from 'bullmq';
import { z } from 'zod';

const SCRIPT = 'moveToFinished';
const KEY_COUNT = 14;
/** Its arguments: the id of the job, the time, the name of the field, its value, and five more. */
const ARGUMENT_COUNT = 9;
const TIME_PLACE = KEY_COUNT + 1;

const ScriptsSchema = z.record(z.string(), z.looseObject({ lua: z.string() }));

/**
 * ARGV beside those of the library: the channel, and the message up to the result. A result that the queue refuses is
 * not told; a message that is lost costs a coordinator a moment.
 */
function telling(lua: string): string {
  return `
local function finish()
${lua}
end
local answer = finish()
if ARGV[11] and (type(answer) ~= 'number' or answer >= 0) then
  redis.pcall('PUBLISH', ARGV[10], ARGV[11] .. ARGV[4] .. '}')
end
return answer`;
}

/** The part of the connection by which the library defines its scripts. */
interface ScriptedConnection {
  readonly scriptsSet: unknown;
  defineCommand(name: string, script: { numberOfKeys: number; lua: string }): void;
}

interface FinishTerms {
  readonly redis: ScriptedConnection;
  readonly serverTime: { nowMs(): number };
  readonly channel: string;
  /** The message up to the result, which follows as JSON, before a last brace. */
  readonly messageHeadOf: (jobId: string) => string;
}

/**
 * BullMQ takes the time of this machine and keeps the latest jobs by it, so the results of a worker whose clock is
 * behind would be removed as soon as they arrive.
 */
export function finishByOwnScript<Data, Result>(
  { backend }: bullmq.Worker<Data, Result>,
  { redis, serverTime, channel, messageHeadOf }: FinishTerms,
): void {
  const completedArgs = backend.moveToCompletedArgs.bind(backend);
  const failedArgs = backend.moveToFailedArgs.bind(backend);
  const timed = <Value>(args: (Value | number)[]): (Value | number)[] => {
    if (typeof args[TIME_PLACE] !== 'number' || args.length !== KEY_COUNT + ARGUMENT_COUNT)
      throw new Error('BullMQ passes the arguments of a finished job in another way');
    return args.with(TIME_PLACE, serverTime.nowMs());
  };
  let isTelling = false;
  backend.moveToCompletedArgs = (job, ...given) => {
    // The library defines its scripts when it has connected.
    if (!isTelling) tellIn(redis);
    isTelling = true;
    return [...timed(completedArgs(job, ...given)), channel, messageHeadOf(job.id ?? '')];
  };
  backend.moveToFailedArgs = (...given) => timed(failedArgs(...given));
}

function tellIn(redis: ScriptedConnection): void {
  const scripts = ScriptsSchema.parse(redis.scriptsSet);
  const found = Object.entries(scripts).find(([name]) => name.startsWith(`${SCRIPT}:`));
  if (found === undefined) throw new Error('BullMQ finishes jobs by another script');
  const [name, { lua }] = found;
  redis.defineCommand(name, { numberOfKeys: KEY_COUNT, lua: telling(lua) });
}
