/**
 * The report of a worker about itself, beside its record: its device and its memory. It lies in a place of its own, so
 * that readers of other versions are not disturbed; one that cannot be read counts as none.
 */

import { z } from 'zod';
import { FingerprintSchema } from '../events/fingerprint.js';

/** Raised when a field changes its meaning. Readers take no other version. */
const REPORT_VERSION = 1;
const REPORT_LENGTH_MAX = 512;
const MODEL_LENGTH_MAX = 100;

const byteCount = z.int().nonnegative();

const WorkerReportSchema = z.strictObject({
  version: z.literal(REPORT_VERSION),
  /** The device of its compute process; null as long as that has not said so. */
  device: z
    .strictObject({
      kind: z.enum(['cpu', 'gpu']),
      /** The name of the processor or of the GPU. */
      model: z.string().max(MODEL_LENGTH_MAX),
      /** Model of the GPU; null without one. */
      memoryMiB: z.int().nonnegative().nullable(),
      /** The kind of machine that computes its jobs; null while it computes portable ones, absent in earlier versions. */
      fingerprint: FingerprintSchema.nullable().optional(),
    })
    .nullable(),
  /** Resident memory of the process that talks to the queue, and of the one that computes, after its last job. */
  residentByteCount: byteCount,
  computeResidentByteCount: byteCount.nullable(),
});
type StoredReport = z.infer<typeof WorkerReportSchema>;
export type WorkerReport = Omit<StoredReport, 'version'>;

export function encodeWorkerReport(report: WorkerReport): string {
  const { device } = report;
  const model = device?.model.trim().slice(0, MODEL_LENGTH_MAX) ?? '';
  return JSON.stringify({
    ...{ version: REPORT_VERSION, ...report },
    device: device && { ...device, model },
  });
}

/** Null for what another version has written. */
export function decodeWorkerReport(text: string | null): WorkerReport | null {
  if (text === null || text.length > REPORT_LENGTH_MAX) return null;
  try {
    const { version: _version, ...report } = WorkerReportSchema.parse(JSON.parse(text));
    return report;
  } catch {
    return null;
  }
}
