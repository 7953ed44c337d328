// The terminal output of the bootstrap: one line per step, with its result and duration.

/**
 * The result of a step. 'warning' means that the work continues without it, and `cure` says how to
 * fix it.
 * @typedef {object} StepOutcome
 * @property {'ok' | 'warning'} state
 * @property {string} note
 * @property {string[]} [cure]
 */

/** A step failed and the work cannot continue. It is shown to the user without a stack. */
export class BootstrapError extends Error {
  /**
   * @param {string} message
   * @param {string[]} cure
   */
  constructor(message, cure) {
    super(message);
    this.name = 'BootstrapError';
    this.cure = cure;
  }
}

/**
 * Called by a step when something slow starts.
 * @callback Announce
 * @param {string} what
 * @returns {void}
 */

/**
 * Runs one step and reports it on stderr. Stdout belongs to the command that is being set up.
 * @param {string} name
 * @param {(announce: Announce) => Promise<StepOutcome> | StepOutcome} work
 * @returns {Promise<StepOutcome>}
 */
export async function runStep(name, work) {
  const startedMs = performance.now();
  let announced = false;
  const outcome = await work((what) => {
    announced = true;
    say(`...  ${name}: ${what}`);
  });
  const tookS = (performance.now() - startedMs) / 1000;
  const time = announced || tookS >= 1 ? `, ${tookS.toFixed(1)} s` : '';
  say(`${outcome.state === 'ok' ? 'ok ' : '!! '}  ${name} (${outcome.note}${time})`);
  for (const line of outcome.cure ?? []) say(`       ${line}`);
  return outcome;
}

/** @param {string} line */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/**
 * Ends the process after a failed bootstrap: message, cure, exit code 3, no stack.
 * @param {unknown} error
 * @returns {never}
 */
export function failWith(error) {
  if (error instanceof BootstrapError) {
    say(`problem: ${error.message}`);
    for (const line of error.cure) say(`cure:    ${line}`);
  } else {
    say(`problem: ${error instanceof Error ? error.message : String(error)}`);
  }
  process.exit(3);
}
