import { describe, expect, it } from 'vitest';
import { makeAgentProvider, makeNode } from '../../stores/testing.ts';
import { credentialsText, deliveryLook, formOf, inputOf, missing, missingForTrial, runtimesOf, verdictTone } from './form.ts';

const runtime = (name: string) => ({ name, healthy: true, sessions: 0, capabilities: [] });
const node = makeNode('n1', { providers: [runtime('docker'), runtime('pty'), runtime('openclaw')] });

describe('the form of an agent provider', () => {
  it('proposes a node that is there and a runtime with a gateway', () => {
    expect(formOf(null, [makeNode('away', { online: false }), node])).toMatchObject({ node: 'n1', provider: 'openclaw', isActive: true });
    expect(runtimesOf(node)).toEqual(['openclaw', 'docker', 'pty']);
    expect(formOf(null, [])).toMatchObject({ node: '', provider: '' });
  });

  it('says nothing of a token that is kept, unless it is replaced or taken away', () => {
    const kept = formOf(makeAgentProvider('a'), [node]);
    expect(kept.token).toBe('');
    expect(inputOf(kept)).not.toHaveProperty('credentials');
    expect(inputOf({ ...kept, token: 'new' }).credentials).toBe('new');
    expect(inputOf({ ...kept, isTokenRemoved: true }).credentials).toBe('');
    expect(inputOf({ ...kept, isTokenRemoved: true, token: 'new' }).credentials).toBe('new');
  });

  it('says what is missing, the first thing first', () => {
    const form = { ...formOf(null, [node]), name: ' ', gatewayUrl: '127.0.0.1:18789' };
    expect(missing(form)).toMatch(/name/);
    expect(missing({ ...form, name: 'x' })).toMatch(/ws:\/\//);
    expect(missing({ ...form, name: 'x', gatewayUrl: ' wss://x ' })).toBeNull();
    expect(missingForTrial({ ...form, gatewayUrl: 'ws://x' })).toBeNull();
    expect(missing({ ...form, name: 'x', gatewayUrl: 'ws://x', node: '' })).toMatch(/node/);
    expect(inputOf({ ...form, name: ' x ', gatewayUrl: ' ws://x ' })).toMatchObject({ name: 'x', gatewayUrl: 'ws://x' });
  });
});

describe('what is shown of an agent provider', () => {
  it('has a word for every state, also of a newer hub', () => {
    const looks = ['applied', 'pending', 'upgrade', 'failed', 'resting'].map((delivery) => deliveryLook(makeAgentProvider('a', { delivery })));
    expect(looks.map((look) => look.word)).toEqual(['applied', 'pending', 'node too old', 'not delivered', 'resting']);
    expect(deliveryLook(makeAgentProvider('a', { isActive: false }))).toEqual({ tone: 'neutral', word: 'switched off' });
    const texts = ['kept', 'none', 'unreadable'].map((credentialsState) => credentialsText(makeAgentProvider('a', { credentialsState })));
    expect(new Set(texts).size).toBe(3);
  });

  it('calls only what works good', () => {
    const tones = ['ok', 'unreachable', 'tls', 'somethingNew'].map((verdict) => verdictTone({ verdict, message: '' }));
    expect(tones).toEqual(['good', 'bad', 'bad', 'bad']);
  });
});
