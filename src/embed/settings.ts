export interface OpenAISettings {
  readonly apiKey?: string | undefined;
  /** Default https://api.openai.com/v1; for Azure `https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT`. */
  readonly baseUrl?: string | undefined;
  readonly organization?: string | undefined;
  readonly project?: string | undefined;
  /** Azure's `api-version`, such as 2024-10-21. Its newer URLs, which end in /openai/v1, need none. */
  readonly azureApiVersion?: string | undefined;
  /** Sent with each request, before anything of ours by the same name. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Texts per request; default 2048, as OpenAI. TEI takes 32 unless started with another --max-client-batch-size. */
  readonly maxInputs?: number | undefined;
  /** Default 8191, as OpenAI. */
  readonly maxTokensPerInput?: number | undefined;
  /** Default 300,000, as OpenAI. */
  readonly maxTokensPerRequest?: number | undefined;
}

/** What an ONNX model's folder holds as `onnx/model….onnx`, by transformers.js's names. */
export type OnnxDtype = 'fp32' | 'fp16' | 'q8' | 'int8' | 'uint8' | 'q4' | 'q4f16' | 'bnb4';

export type OnnxPooling = 'mean' | 'cls' | 'last_token';

export interface OnnxSettings {
  /** Folder that holds models by name, or one model; default the cache of @huggingface/transformers. */
  readonly path?: string | undefined;
  /** Default the first of q8, int8, uint8, fp32, fp16, q4, q4f16, bnb4 that is there. */
  readonly dtype?: OnnxDtype | undefined;
  /** Default what the model's `1_Pooling/config.json` says, else mean. */
  readonly pooling?: OnnxPooling | undefined;
  /** Scale vectors to length 1; default true. */
  readonly normalise?: boolean | undefined;
  /** Put before each query; default the prompt of the model's `config_sentence_transformers.json`, else nothing. */
  readonly queryPrefix?: string | undefined;
  /** Put before each document; default as above. */
  readonly documentPrefix?: string | undefined;
  /** Threads of one inference; default one per processor, 8 at most. */
  readonly threads?: number | undefined;
  /** Fetch from the Hugging Face hub what is not there; default false. */
  readonly allowDownload?: boolean | undefined;
}

export interface EmbedSettings {
  readonly openai?: OpenAISettings | undefined;
  readonly onnx?: OnnxSettings | undefined;
  /** From sending a request to the last byte of its answer. */
  readonly requestTimeoutMs: number;
  readonly fake?: { readonly latencyMs?: number | undefined } | undefined;
}
