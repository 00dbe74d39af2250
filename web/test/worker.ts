// The SDK in a worker: it says what it is told to a room, and tells what it hears there.

import { dial } from "@timedge/sdk";

onmessage = async (m: MessageEvent<{ server: string; say: string }>) => {
  const client = await dial({ servers: m.data.server, account: "worker" });
  const room = await client.register();
  const subscription = await client.subscribe(room);
  await (await client.publish(room)).push(1, "key", new TextEncoder().encode(m.data.say));
  for await (const e of subscription) {
    if (e.type !== "message") continue;
    postMessage(`${e.publisher}: ${new TextDecoder().decode(e.payload)}`);
    break;
  }
  await client.close();
};
