"""A plain NATS client, as a stranger would write it: watches with the reader's credentials, and tries what it must not.

usage: reader.py URL CREDS SECONDS MOSAIC SUBJECT...   prints one JSON object a line:
  {"subject", "decoded"}   for each message it saw, decoded by `mosaic decode`
  {"refused": subject}     for each subject it tried to publish to and was refused
"""
import asyncio
import json
import subprocess
import sys

import nats


async def main(url, creds, seconds, mosaic, subjects):
    errors = []

    async def on_error(error):
        errors.append(str(error))

    client = await nats.connect(url, user_credentials=creds, inbox_prefix=b"_INBOX_reader", error_cb=on_error)

    async def on_message(message):
        decoded = subprocess.run([mosaic, "decode"], input=message.data, capture_output=True, check=True)
        assert decoded.stdout.count(b"\n") == 1, decoded.stdout
        print(json.dumps({"subject": message.subject, "decoded": json.loads(decoded.stdout)}), flush=True)

    await client.subscribe("live.mosaic.v1.default.>", cb=on_message)
    await client.subscribe("mosaic.v1.default.*.delta.*", cb=on_message)
    await client.flush()
    print(json.dumps({"ready": True}), flush=True)
    for subject in subjects:
        before = len(errors)
        await client.publish(subject, b"\x80")
        await client.flush()
        for _ in range(100):
            if len(errors) > before:
                break
            await asyncio.sleep(0.02)
        told = errors[-1] if len(errors) > before else ""
        print(json.dumps({"refused" if "permissions violation" in told.lower() else "allowed": subject}), flush=True)
    await asyncio.sleep(float(seconds))
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]))
