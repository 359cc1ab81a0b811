import { parseModelSpec } from '../catalog/model.js';
import type { Database } from '../db/database.js';
import { type Gate, openGate } from '../embed/gate.js';
import type { EmbeddingModel } from '../embed/port.js';
import { accountRestMs, type ConfiguredLimits } from './account.js';
import { type AccountGate, createGate } from './gate.js';
import { Ledger } from './ledger.js';
import { type PriceSettings, pricePerMillionTokens } from './prices.js';
import { type ChargedTo, recordSpend } from './spend.js';

export interface BudgetSettings extends PriceSettings, ConfiguredLimits {
  /** USD that a day (UTC) may cost, over all sources; undefined means no cap. */
  readonly capPerDay?: number | undefined;
}

/** The gates of this process, one for each model of each account. */
export interface Gates {
  /** The gate for requests to a model that are charged to somebody. */
  for(model: EmbeddingModel, to: ChargedTo): Gate;
  /** How long the model's provider is left alone yet, in ms: a pause that it asked for, or an outage. 0 when it is not. */
  restMs(model: EmbeddingModel): Promise<number>;
  /** Writes down what was charged so far; a few times a second that is done anyway. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** The row of `freshvec.account` that a model's requests are taken from: providers limit each model by itself. */
export function accountOf({ account, spec }: Pick<EmbeddingModel, 'account' | 'spec'>): string | undefined {
  return account === undefined ? undefined : `${account} ${parseModelSpec(spec).name}`;
}

export function createGates(db: Database, settings: BudgetSettings, onError: (error: unknown) => void): Gates {
  const gates = new Map<string, AccountGate>();
  const local = openGate();
  const free = new Ledger({ write: ({ spent }) => recordSpend(db, spent), onError });
  const each = (act: (one: { flush(): Promise<void>; close(): Promise<void> }) => Promise<void>) =>
    Promise.all([free, ...gates.values()].map(act));
  return {
    for(model, to) {
      const account = accountOf(model);
      if (account === undefined) return to.purpose === 'rows' ? counted(local, model, to, free) : local;
      const gate =
        gates.get(account) ?? createGate({ db, account, limits: settings, capPerDay: settings.capPerDay, onError });
      gates.set(account, gate);
      const price = pricePerMillionTokens(model.spec, settings) ?? 0;
      return gate.for({ ...to, fingerprint: model.fingerprint, price });
    },
    async restMs(model) {
      const account = accountOf(model);
      return account === undefined ? 0 : accountRestMs(db, account);
    },
    async flush() {
      await each((one) => one.flush());
    },
    async close() {
      await each((one) => one.close().catch(onError));
    },
  };
}

/** What costs nothing is counted too, as far as rows go; queries would pay for it with a write each. */
function counted(
  gate: Gate,
  { fingerprint }: EmbeddingModel,
  { source, spaceId, purpose }: ChargedTo,
  to: Ledger,
): Gate {
  return {
    maxTokensPerRequest: () => gate.maxTokensPerRequest(),
    run: async (request, send) => {
      const result = await gate.run(request, send);
      const about = { period: null, source: source ?? null, space: spaceId ?? null, fingerprint, purpose };
      const spent = { ...about, texts: request.texts, tokens: result.tokens, nanos: 0, reserved: 0 };
      to.add({ tokens: 0, spent: [spent], answered: true });
      return result;
    },
  };
}
