// Ends processes when this one is gone, however it ended: a shell waits on a pipe that closes at
// that moment.
import { spawn } from 'node:child_process';

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
