// The parts that every step of the bootstrap uses: versions of Node, paths, stamps, other programs and the terminal. They need
// no package.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// package.json states the same range in `engines`.

const MAJOR_MIN = 20;
const MAJOR_MAX = 24;

export const SUPPORTED_NODE = `Node ${MAJOR_MIN} to ${MAJOR_MAX}`;
export const NODE_CURE = `install Node ${MAJOR_MAX}, 22 or 20 and put it first on PATH`;

/**
 * @param {string} [version] without a leading v; that of this process by default
 * @returns {boolean}
 */
export function isNodeSupported(version = process.versions.node) {
  const major = Number(version.split('.')[0]);
  return major >= MAJOR_MIN && major <= MAJOR_MAX;
}

/**
 * The folder that contains package.json. The compiled copy of this file in dist/ finds the same
 * one.
 * @returns {string}
 */
function findProjectRoot() {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('package.json of qianmo was not found above its code');
    folder = parent;
  }
  return folder;
}

export const projectRoot = findProjectRoot();

/** True if this is a checkout, which has the sources. An installed package has only compiled code. */
export const isCheckout = existsSync(join(projectRoot, 'tsconfig.json'));

/**
 * The folder for downloads and builds that all checkouts of a user share.
 * @returns {string} $XDG_CACHE_HOME/qianmo or ~/.cache/qianmo
 */
export function cacheRoot() {
  const configured = process.env['XDG_CACHE_HOME'];
  if (configured) return join(configured, 'qianmo');
  const home = process.env['HOME'];
  return home ? join(home, '.cache', 'qianmo') : join(tmpdir(), 'qianmo-cache');
}

/**
 * @param {string | Buffer} content
 * @returns {string} the first 32 hex digits of its sha256
 */
export function digestOf(content) {
  return createHash('sha256').update(content).digest('hex').slice(0, 32);
}

/**
 * @param {string} path
 * @returns {string | undefined} undefined when the file does not exist
 */
export function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * Writes a file atomically.
 * @param {string} path
 * @param {string} content
 */
export function writeWhole(path, content) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/**
 * @param {number} pid
 * @returns {boolean}
 */
export function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

/**
 * Removes unfinished folders left by killed processes.
 * @param {string} target
 */
function removeAbandoned(target) {
  const pattern = /\.(\d+)\.tmp$/;
  for (const name of readdirSync(dirname(target))) {
    const pid = Number(pattern.exec(name)?.[1] ?? 0);
    const isOurs = name === `${basename(target)}.${pid}.tmp`;
    if (isOurs && !isAlive(pid)) {
      rmSync(join(dirname(target), name), { recursive: true, force: true });
    }
  }
}

/** @type {Map<string, Promise<void>>} the folders that this process fills, by target */
const filling = new Map();

/**
 * Fills a temporary folder next to its target and renames it, so that an existing folder is
 * complete. If another process was faster, its folder is kept. A second call for a target waits for
 * the first.
 * @param {string} target
 * @param {(folder: string) => Promise<void>} fill
 * @returns {Promise<void>}
 */
export function publishFolder(target, fill) {
  const published =
    filling.get(target) ?? publishNow(target, fill).finally(() => filling.delete(target));
  filling.set(target, published);
  return published;
}

/**
 * @param {string} target
 * @param {(folder: string) => Promise<void>} fill
 */
async function publishNow(target, fill) {
  if (existsSync(target)) return;
  const temporary = `${target}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  removeAbandoned(target);
  try {
    await fill(temporary);
    if (!existsSync(target)) renameSync(temporary, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** @param {unknown} error */
export function problemOf(error) {
  return error instanceof Error ? error.message : String(error);
}

const OUTPUT_CHARACTERS_MAX = 64 * 1024;

/**
 * @param {string} name
 * @returns {string | undefined} the first executable file with that name on PATH
 */
export function findOnPath(name) {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

/**
 * @typedef {object} CommandOptions
 * @property {string} [cwd]
 * @property {Record<string, string | undefined>} [environment] added to this process's own
 * @property {number} [timeoutMs] the command is killed after this time; 10 minutes by default
 */

/** @type {Set<() => void>} ends each command that runs */
const running = new Set();
process.once('exit', () => {
  for (const kill of running) kill();
});

/**
 * Runs a command to its end and never throws.
 * @param {string} command
 * @param {string[]} args
 * @param {CommandOptions} [options]
 * @returns {Promise<{ ok: boolean, output: string, problem: string }>} output: stdout and stderr
 *   combined, the last 64 Ki characters; problem: one line for the user, empty when ok
 */
export function runCommand(command, args, options = {}) {
  const timeoutMs = options.timeoutMs ?? 600_000;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    let timedOut = false;
    const killGroup = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        child.kill('SIGKILL');
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup();
    }, timeoutMs);
    running.add(killGroup);
    const callOff = child.pid === undefined ? undefined : endWithThisProcess(-child.pid, 'KILL');
    /** @param {Buffer} chunk */
    const keep = (chunk) => {
      output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARACTERS_MAX);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    /** @param {string} problem */
    const finish = (problem) => {
      clearTimeout(timer);
      callOff?.();
      running.delete(killGroup);
      resolve({ ok: problem === '', output, problem });
    };
    child.once('error', (error) => finish(`${command}: ${error.message}`));
    child.once('close', (code, signal) => {
      if (code === 0) finish('');
      else if (timedOut) finish(`${command}: not finished after ${timeoutMs / 1000} s`);
      else
        finish(`${command}: ${lastTellingLine(output) ?? `ended by ${signal ?? `code ${code}`}`}`);
    });
  });
}

/**
 * The line of a failed command's output that most likely states the cause.
 * @param {string} output
 * @returns {string | undefined}
 */
export function lastTellingLine(output) {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(npm (error|warn) (A complete log|Log files))/i.test(line));
  const telling = lines.filter((line) =>
    /error|cannot|failed|not found|no such|unable/i.test(line),
  );
  return (telling.at(-1) ?? lines.at(-1))?.slice(0, 300);
}

// A shell waits on a pipe that closes when this process is gone, however it ended.
const SCRIPT = `cat >/dev/null
kill -s "$2" -- "$1" || exit
tenths=0
while [ $tenths -lt 50 ] && kill -s 0 -- "$1"; do sleep 0.1; tenths=$((tenths + 1)); done
kill -s KILL -- "$1"`;

/**
 * @param {number} target a process id, or minus the id of a process group
 * @param {'TERM' | 'KILL'} signal TERM is followed by KILL after 5 s
 * @returns {() => void} cancels the watchdog; to be called as soon as the target has ended
 */
export function endWithThisProcess(target, signal) {
  const watchdog = spawn('/bin/sh', ['-c', SCRIPT, 'qianmo-watchdog', String(target), signal], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watchdog.on('error', () => undefined);
  watchdog.stdin.on('error', () => undefined);
  watchdog.unref();
  /** @type {import('node:net').Socket} */ (watchdog.stdin).unref();
  return () => void watchdog.kill('SIGKILL');
}

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

/** A step that ends sooner is not announced. */
const ANNOUNCED_AFTER_MS = 20_000;

/**
 * Runs one step and reports it on stderr. Stdout belongs to the command that is being set up.
 * @param {string} name
 * @param {(announce: Announce) => Promise<StepOutcome> | StepOutcome} work
 * @returns {Promise<StepOutcome>}
 */
export async function runStep(name, work) {
  const startedMs = performance.now();
  let doing = 'waiting';
  const timer = setTimeout(() => tell(`...  ${name}: ${doing}`), ANNOUNCED_AFTER_MS);
  try {
    const outcome = await work((what) => (doing = what));
    const tookS = (performance.now() - startedMs) / 1000;
    const time = tookS >= 1 ? `, ${tookS.toFixed(1)} s` : '';
    const isOk = outcome.state === 'ok';
    const write = isOk ? tell : say;
    write(`${isOk ? 'ok ' : '!! '}  ${name} (${outcome.note}${time})`);
    for (const line of outcome.cure ?? []) say(`       ${line}`);
    return outcome;
  } finally {
    clearTimeout(timer);
  }
}

let isQuiet = false;

/** From now on, only problems are reported. */
export function beQuiet() {
  isQuiet = true;
}

/**
 * Reports progress.
 * @param {string} line
 */
export function tell(line) {
  if (!isQuiet) say(line);
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
    say(`problem: ${problemOf(error)}`);
  }
  process.exit(3);
}
