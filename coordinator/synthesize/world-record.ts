/** The record beside a log: enough to make it again and to know its limits. */

import type { SynthesisOptions, SynthesisReport } from './synthesis.js';
import { worldSize } from './synthetic-world.js';
import {
  DAY_COUNT,
  HOURLY_TRAFFIC,
  LATENT_WIDTH,
  LOG_START_SECONDS,
  PROFILE_FIELDS,
  RESPONSE_RANK,
  SETTING_SCALES,
  WORLD_PARAMETERS,
  WORLD_VERSION,
} from './world-parameters.js';

/** JSON-ready; holds neither time nor place of the synthesis, so equal worlds have equal records. */
export function worldRecord(
  options: SynthesisOptions,
  intercept: number,
  report: SynthesisReport,
): Record<string, unknown> {
  return {
    worldVersion: WORLD_VERSION,
    options: {
      rows: options.rows,
      setting: options.setting,
      meanClickRate: options.meanClickRate,
      seed: options.seed,
      ...worldSize(options),
    },
    parameters: {
      ownDeviationScale: SETTING_SCALES[options.setting],
      intercept,
      latentWidth: LATENT_WIDTH,
      responseRank: RESPONSE_RANK,
      dayCount: DAY_COUNT,
      logStartSeconds: LOG_START_SECONDS,
      profileFields: PROFILE_FIELDS,
      hourlyTraffic: HOURLY_TRAFFIC,
      ...WORLD_PARAMETERS,
    },
    measured: {
      clickCount: report.clickCount,
      clickRate: report.clickCount / report.rows,
      meanTrueClickRate: report.meanTrueClickRate,
      oracleLogloss: report.oracleLogloss,
      oracleEntropy: report.oracleEntropy,
      constantLogloss: report.constantLogloss,
      byteCount: report.byteCount,
    },
  };
}
