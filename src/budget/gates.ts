import { parseModelSpec } from '../catalog/model.js';
import type { Database } from '../db/database.js';
import { type Gate, openGate } from '../embed/gate.js';
import type { EmbeddingModel } from '../embed/port.js';
import type { ConfiguredLimits } from './account.js';
import { type BudgetGate, createGate } from './gate.js';
import { type PriceSettings, pricePerMillionTokens } from './prices.js';

export interface BudgetSettings extends PriceSettings, ConfiguredLimits {
  /** USD that a day (UTC) may cost, over all sources; undefined means no cap. */
  readonly capPerDay?: number | undefined;
}

/** The gates of this process, one for each model of each account. */
export interface Gates {
  for(model: EmbeddingModel): Gate;
  /** USD per million tokens; 0 where it costs nothing or nobody knows. */
  price(spec: string): number;
  close(): Promise<void>;
}

/** The row of `freshvec.account` that a model's requests are taken from: providers limit each model by itself. */
export function accountOf({ account, spec }: Pick<EmbeddingModel, 'account' | 'spec'>): string | undefined {
  return account === undefined ? undefined : `${account} ${parseModelSpec(spec).name}`;
}

export function createGates(db: Database, settings: BudgetSettings, onError: (error: unknown) => void): Gates {
  const gates = new Map<string, BudgetGate>();
  const local = openGate();
  const price = (spec: string) => pricePerMillionTokens(spec, settings) ?? 0;
  return {
    price,
    for(model) {
      const account = accountOf(model);
      if (account === undefined) return local;
      const gate =
        gates.get(account) ??
        createGate({ db, account, limits: settings, price: price(model.spec), capPerDay: settings.capPerDay, onError });
      gates.set(account, gate);
      return gate;
    },
    async close() {
      await Promise.allSettled([...gates.values()].map((gate) => gate.close()));
    },
  };
}
