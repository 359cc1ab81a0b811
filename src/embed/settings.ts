export interface OpenAISettings {
  readonly apiKey?: string | undefined;
  /** Without a trailing /embeddings; default https://api.openai.com/v1. */
  readonly baseUrl?: string | undefined;
  readonly organization?: string | undefined;
  readonly project?: string | undefined;
}

export interface EmbedSettings {
  readonly openai?: OpenAISettings | undefined;
  /** From sending a request to the last byte of its answer. */
  readonly requestTimeoutMs: number;
  readonly fake?: { readonly latencyMs?: number | undefined } | undefined;
}
