// Server-sent events, as text comes in: https://html.spec.whatwg.org/multipage/server-sent-events.html
// The browser's EventSource hides the status of a refused connection and takes no headers, hence our own reader.

export interface SseEvent {
  name: string;
  data: string;
  /** The event's own id, if it carries one. */
  id: string | null;
}

/** Cuts a stream of text into events. Keeps at most one unfinished event. */
export class SseParser {
  #rest = '';
  #name = '';
  #data: string[] = [];
  #id: string | null = null;

  push(text: string, onEvent: (event: SseEvent) => void): void {
    const buffer = this.#rest + text;
    let start = 0;
    for (;;) {
      const end = buffer.indexOf('\n', start);
      if (end < 0) break;
      const line = buffer.slice(start, buffer[end - 1] === '\r' && end > start ? end - 1 : end);
      start = end + 1;
      if (line === '') this.#dispatch(onEvent);
      else this.#field(line);
    }
    this.#rest = buffer.slice(start);
  }

  #field(line: string): void {
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') this.#data.push(value);
    else if (name === 'event') this.#name = value;
    else if (name === 'id') this.#id = value;
  }

  #dispatch(onEvent: (event: SseEvent) => void): void {
    const event = { name: this.#name === '' ? 'message' : this.#name, data: this.#data.join('\n'), id: this.#id };
    const isEmpty = this.#data.length === 0;
    this.#name = '';
    this.#data = [];
    this.#id = null;
    if (!isEmpty) onEvent(event);
  }
}
