# Talks to an echo: URL, a CA or `-`, host to connect to.
import asyncio
import ssl
import sys
import websockets


def context():
    if sys.argv[2] == "-":
        return None
    made = ssl.create_default_context(cafile=sys.argv[2])
    made.set_alpn_protocols(["http/1.1"])
    return made


async def talk(url):
    secure = {"ssl": context(), "server_hostname": "a.example"} if context() else {}
    async with websockets.connect(
        url, host="127.0.0.1", port=int(sys.argv[3]), subprotocols=["chat"], max_size=None, **secure
    ) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol
        for message in ["hello", "", "x" * 70000, b"\x00\xff" * 500000]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
        await asyncio.gather(*[socket.send(str(n)) for n in range(200)])
        assert [await socket.recv() for _ in range(200)] == [str(n) for n in range(200)]
        await socket.close(4001, "enough")


async def main():
    await talk(sys.argv[1] + "/chat")
    try:
        await talk(sys.argv[1] + "/refused")
    except websockets.InvalidStatusCode as refused:
        assert (refused.status_code, refused.headers["X-Why"]) == (403, "not-you")
    else:
        raise SystemExit("was not refused")
    print("ok")


asyncio.run(main())
