import { type Standin, type StandinOptions, startStandin } from '../../support/standin/standin.js';
import { standinVector } from '../../support/standin/vectors.js';
import type { Provider } from './provider.js';

const DIMENSIONS = 64;

/** The stand-in with all its faults, as the harness's provider. */
export interface FaultyProvider extends Provider {
  readonly standin: Standin;
  /**
   * Payments for texts of the app's that had been paid for before. The few fixed texts that freshvec itself sends to
   * look whether the provider works are not counted.
   */
  paidAgain(): number;
}

/** What the app of the harness and the harness itself write. */
const APPS_TEXT = /text \d+ of |text of the first load \d+|^probe |^row \d+/;

export async function startFaultyProvider(options: StandinOptions = {}): Promise<FaultyProvider> {
  const standin = await startStandin({ dimensions: DIMENSIONS, ...options });
  return {
    standin,
    baseUrl: standin.baseUrl,
    dimensions: DIMENSIONS,
    vectorOf: (text) => standinVector(text, DIMENSIONS),
    paidAgain() {
      let again = 0;
      for (const [text, times] of standin.texts) if (APPS_TEXT.test(text)) again += times - 1;
      return again;
    },
    close: () => standin.close(),
  };
}
