import { createGates } from '../budget/gates.js';
import { assertSchema } from '../catalog/schema.js';
import type { Config } from '../config/config.js';
import type { Database } from '../db/database.js';
import { type EmbedSettings, openModel } from '../embed/open.js';
import type { EmbeddingModel } from '../embed/port.js';
import { acceptProbe, type ProbeResult, probeModel } from '../embed/probe.js';
import { budgetSettings } from './connection.js';

export interface ProbedModel {
  /** `provider/name@dimensions#hash` */
  readonly model: string;
  readonly result: ProbeResult;
}

export interface AcceptedModel {
  /** `provider/name@dimensions#hash` */
  readonly model: string;
  /** False when there was nothing on record. */
  readonly accepted: boolean;
}

/** Asks the model for its probe texts now. Throws EmbedError, `model_changed` where it has. */
export function checkModel(
  db: Database,
  config: Config,
  spec: string,
  onError: (error: unknown) => void,
  signal?: AbortSignal,
): Promise<ProbedModel> {
  return withModel(db, config.models, spec, async (model) => {
    const gates = createGates(db, budgetSettings(config), onError);
    try {
      const gate = gates.for(model, { source: undefined, purpose: 'probe' });
      return { model: model.fingerprint, result: await probeModel(db, model, { signal, gate, priority: 'query' }) };
    } finally {
      await gates.close();
    }
  });
}

/** Takes the model as it is now, whatever it was; the next probe is a first one. */
export function acceptModel(db: Database, settings: EmbedSettings, spec: string): Promise<AcceptedModel> {
  return withModel(db, settings, spec, async ({ fingerprint }) => ({
    model: fingerprint,
    accepted: await acceptProbe(db, fingerprint),
  }));
}

async function withModel<T>(
  db: Database,
  settings: EmbedSettings,
  spec: string,
  act: (model: EmbeddingModel) => Promise<T>,
): Promise<T> {
  await assertSchema(db);
  const model = await openModel(spec, settings);
  try {
    return await act(model);
  } finally {
    await model.close();
  }
}
