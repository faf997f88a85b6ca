// What can go wrong between the page and the hub, as one type with a text for people.

import type { Json } from './types.ts';

export type ApiFailure =
  | { kind: 'refused'; status: number; code: string; message: string; requestId: string | null; retryAfterMs: number | null }
  | { kind: 'unreachable'; message: string }
  | { kind: 'timeout'; message: string }
  | { kind: 'nonsense'; status: number; message: string };

/** A call that did not succeed. `failure` says how. */
export class ApiError extends Error {
  readonly failure: ApiFailure;

  constructor(failure: ApiFailure) {
    super(failure.message);
    this.name = 'ApiError';
    this.failure = failure;
  }

  /** True where nobody is signed in. */
  get isSignedOut(): boolean {
    return this.failure.kind === 'refused' && this.failure.status === 401;
  }

  get isNotFound(): boolean {
    return this.failure.kind === 'refused' && this.failure.status === 404;
  }
}

function field(body: Json, name: string): string | null {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) return null;
  const value = body[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

/** Reads the error that the hub sent, or says what came instead of it. */
export function refusal(status: number, body: string, headers: Headers): ApiError {
  let error: Json = null;
  try {
    const parsed = JSON.parse(body) as Json;
    if (parsed !== null && typeof parsed === 'object' && !Array.isArray(parsed)) error = parsed['error'] ?? null;
  } catch {
    // Not ours: something between the page and the hub has answered.
  }
  const message = field(error, 'message');
  if (message === null) {
    return new ApiError({ kind: 'nonsense', status, message: `the server answered ${status} without saying why` });
  }
  const seconds = Number(headers.get('retry-after') ?? Number.NaN);
  return new ApiError({
    kind: 'refused',
    status,
    code: field(error, 'code') ?? String(status),
    message,
    requestId: field(error, 'requestId'),
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : null,
  });
}

/** An error in the parts that the page shows: a sentence, and what to quote when asking for help. */
export interface ErrorText {
  message: string;
  code: string | null;
  requestId: string | null;
}

export function errorText(error: unknown): ErrorText {
  if (!(error instanceof ApiError)) {
    return { message: error instanceof Error ? error.message : String(error), code: null, requestId: null };
  }
  const failure = error.failure;
  switch (failure.kind) {
    case 'refused':
      return { message: failure.message, code: failure.code, requestId: failure.requestId };
    case 'nonsense':
      return { message: failure.message, code: String(failure.status), requestId: null };
    case 'unreachable':
    case 'timeout':
      return { message: failure.message, code: null, requestId: null };
  }
}
