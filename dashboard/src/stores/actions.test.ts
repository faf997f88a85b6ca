import { describe, expect, it } from 'vitest';
import { outcome } from './actions.ts';
import { makeSession } from './testing.ts';

describe('the word after an action', () => {
  it('claims only what the session says', () => {
    const killed = makeSession('S', { status: 'killed', statusReason: 'killed by Ada' });
    expect(outcome(killed, 'kill')).toEqual({ tone: 'good', text: 'It is now killed (killed by Ada).' });
    expect(outcome(makeSession('S'), 'kill')).toEqual({ tone: 'info', text: 'Asked for; the session is still running.' });
    expect(outcome(makeSession('S'), 'terminate').tone).toBe('info');
    expect(outcome(makeSession('S'), 'pause').tone).toBe('info');
    expect(outcome(makeSession('S'), 'resume').tone).toBe('good');
  });
});
