/** The captured graph as what scores bundles, for models that the kernel does not cover. It loads TensorFlow. */

import { scoringAddon } from '#bootstrap/native-addons.mjs';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { GraphScorer } from '../../../worker/serving/graph/graph-scorer.js';
import { chosenScorer, type ScorerChoice } from '../../../worker/serving/server/scorer-choice.js';
import type { RunEventSink } from '../../../shared/events/run-events.js';

export async function graphChoice(onEvent: RunEventSink): Promise<ScorerChoice> {
  const engine = await loadEngine('auto', (fallback) =>
    onEvent({ kind: 'backend-portable', ...fallback }),
  );
  return {
    ...chosenScorer(scoringAddon.path()),
    name: 'captured graph',
    reason: 'the server was started with --scorer graph',
    coverageOf: () => ({ isCovered: true }),
    scorerOf: (model, contextFeatures) => new GraphScorer(engine, model, contextFeatures),
  };
}
