/** Refuses a job that must be computed on another kind of machine. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { DeviceReport } from '../../../shared/events/device-report.js';
import { numericsText } from '../../../shared/events/fingerprint.js';

/**
 * @param demanded undefined where the run has none yet.
 * @throws QianmoError of kind `environment` if the results would have other bits than those of the run.
 */
export function requireFingerprint(
  demanded: string | undefined,
  { fingerprint, numerics }: Pick<DeviceReport, 'fingerprint' | 'numerics'>,
): void {
  if (demanded === undefined || demanded === fingerprint) return;
  throw new QianmoError({
    kind: 'environment',
    what: 'this machine computes other bits than the run',
    expected: `fingerprint ${demanded}`,
    found: `${fingerprint} (${numericsText(numerics)})`,
    cure:
      'use machines of one kind, or train with compute.portable: true, with which unlike machines ' +
      `agree; to continue the run here on purpose, set compute.fingerprint: ${fingerprint}`,
    isOfThisMachine: true,
  });
}
